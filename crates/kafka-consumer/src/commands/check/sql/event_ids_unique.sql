-- name: event_ids_unique
-- severity: error
-- threshold: 0
-- unit: ids
-- explanation: The same event_id exists on several days, so the event counts more than once. PostgreSQL enforces
--   uniqueness only within a UTC day, and in a distributed table within an account. Look for a producer that sends an
--   event again with a new timestamp or account.
SELECT count(*) AS value, 'such as ' || min(event_id::text) AS detail
FROM (SELECT event_id FROM staging.product_events_raw GROUP BY event_id HAVING count(*) > 1) AS twice
