-- name: volume_like_yesterday
-- severity: warning
-- threshold: 0
-- unit: hours
-- explanation: Number of the last 24 whole hours with less than half or more than twice the events of the same hour on
--   the day before. Hours with fewer than 100 events on the day before are not compared.
WITH this AS (
    SELECT date_bin('1 hour', now(), 'epoch') AS hour
), hours AS (
    SELECT date_bin('1 hour', event_timestamp, 'epoch') AS hour, count(*) AS events
    FROM staging.product_events_raw
    WHERE event_timestamp >= (SELECT hour FROM this) - interval '48 hours'
      AND event_timestamp < (SELECT hour FROM this)
    GROUP BY 1
), pairs AS (
    SELECT before.hour + interval '24 hours' AS hour, coalesce(after.events, 0) AS events, before.events AS yesterday
    FROM hours AS before LEFT JOIN hours AS after ON after.hour = before.hour + interval '24 hours'
    WHERE before.hour < (SELECT hour FROM this) - interval '24 hours' AND before.events >= 100
)
SELECT CASE WHEN count(*) > 0 THEN count(*) FILTER (WHERE events * 2 < yesterday OR events > yesterday * 2) END AS value,
       (array_agg(format('largest difference: %s with %s events, %s on the day before',
                         to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:00'), events, yesterday)
                  ORDER BY abs(ln((events + 1.0) / yesterday)) DESC))[1] AS detail
FROM pairs
