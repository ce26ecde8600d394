-- Appends to the view staging.product_events the columns of the table that it lacks. The script that adds a column calls it.
-- The view keeps its owner, its grants and the order of its columns.
CREATE PROCEDURE pipeline.extend_event_view()
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    columns text;
BEGIN
    SELECT string_agg(item, ', ' ORDER BY of_table, number) INTO columns
    FROM (
        SELECT false AS of_table, attnum AS number,
               CASE attname
                   WHEN 'event_date' THEN '(raw.event_timestamp AT TIME ZONE ''UTC'')::date AS event_date'
                   WHEN 'hour' THEN 'to_char(raw.event_timestamp AT TIME ZONE ''UTC'', ''HH24'') AS hour'
                   ELSE format('raw.%I', attname)
               END AS item
        FROM pg_attribute
        WHERE attrelid = 'staging.product_events'::regclass AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT true, attnum, format('raw.%I', attname)
        FROM pg_attribute AS of_raw
        WHERE attrelid = 'staging.product_events_raw'::regclass AND attnum > 0 AND NOT attisdropped
          AND NOT EXISTS (SELECT FROM pg_attribute AS of_view
                          WHERE of_view.attrelid = 'staging.product_events'::regclass AND of_view.attname = of_raw.attname)
    ) AS items;
    EXECUTE format('CREATE OR REPLACE VIEW staging.product_events AS SELECT %s FROM staging.product_events_raw AS raw', columns);
END
$$;

REVOKE ALL ON PROCEDURE pipeline.extend_event_view() FROM PUBLIC;
