-- name: freshness
-- severity: error
-- threshold: 60
-- unit: minutes
-- explanation: So old is the newest event in the table. Either nothing is sent, or the consumer does not run or lags:
--   `kafka-consumer status` tells.
WITH newest AS (
    SELECT max(event_timestamp) AS event_timestamp FROM staging.product_events_raw
    WHERE event_timestamp > now() - interval '2 days' AND event_timestamp <= now()
)
SELECT CASE
           WHEN event_timestamp IS NOT NULL THEN extract(epoch FROM now() - event_timestamp) / 60
           WHEN EXISTS (SELECT FROM staging.product_events_raw) THEN 2 * 24 * 60
       END AS value,
       coalesce('the newest event is of ' || event_timestamp, 'no event of the last two days') AS detail
FROM newest
