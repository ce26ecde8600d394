-- name: freshness
-- severity: error
-- threshold: 60
-- unit: minutes
-- explanation: Age of the newest event in the table. Either no events are sent, or the consumer is stopped or lags;
--   `kafka-consumer status` shows the lag.
WITH newest AS (
    SELECT max(event_timestamp) AS event_timestamp FROM staging.product_events_raw
    WHERE event_timestamp > now() - interval '2 days' AND event_timestamp <= now()
)
SELECT CASE
           WHEN event_timestamp IS NOT NULL THEN extract(epoch FROM now() - event_timestamp) / 60
           WHEN EXISTS (SELECT 1 FROM staging.product_events_raw) THEN 2 * 24 * 60
       END AS value,
       coalesce('newest event at ' || event_timestamp, 'no event in the last two days') AS detail
FROM newest
