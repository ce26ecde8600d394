-- name: values_in_range
-- severity: error
-- threshold: 0
-- unit: rows
-- explanation: Events of the last eight days violate a rule: IDs are at least 1, texts have 1 to 64 characters and no
--   control characters, and timestamps are at most 25 hours ahead. The consumer rejects such events, so another program
--   writes to the table.
SELECT coalesce(sum(CASE
           WHEN {texts_broken} THEN events
           ELSE out_of_range
       END), 0) AS value
FROM (
    SELECT {texts}, count(*) AS events,
           count(*) FILTER (WHERE {integers_broken}
                               OR event_timestamp > now() + interval '25 hours') AS out_of_range
    FROM staging.product_events_raw
    WHERE event_timestamp > now() - interval '8 days'
    GROUP BY {texts}
) AS texts
