-- name: values_in_range
-- severity: error
-- threshold: 0
-- unit: rows
-- explanation: Events of the last eight days, or of more than a day from now, break a rule of the event: ids are 1 and
--   more, texts have 1 to 64 characters and no control characters. The consumer lets none in: somebody else writes.
SELECT coalesce(sum(CASE
           WHEN char_length(category) NOT BETWEEN 1 AND 64 OR char_length(experiment_id) NOT BETWEEN 1 AND 64
             OR category ~ '[\x01-\x1f\x7f-\x9f]' OR experiment_id ~ '[\x01-\x1f\x7f-\x9f]' THEN events
           ELSE out_of_range
       END), 0) AS value
FROM (
    SELECT category, experiment_id, count(*) AS events,
           count(*) FILTER (WHERE user_id < 1 OR account_id < 1 OR product_id < 1
                               OR event_timestamp > now() + interval '25 hours') AS out_of_range
    FROM staging.product_events_raw
    WHERE event_timestamp > now() - interval '8 days'
    GROUP BY category, experiment_id
) AS texts
