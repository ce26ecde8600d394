-- name: event_ids_unique
-- severity: error
-- threshold: 0
-- unit: ids
-- explanation: An event_id stands for one event. PostgreSQL keeps it unique within a UTC day only; here it has come
--   again on another day, so that the event counts twice. Look for a producer that sends events again with a new time.
SELECT count(*) AS value, 'such as ' || min(event_id::text) AS detail
FROM (SELECT event_id FROM staging.product_events_raw GROUP BY event_id HAVING count(*) > 1) AS twice
