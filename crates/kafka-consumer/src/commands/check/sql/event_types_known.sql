-- name: event_types_known
-- severity: error
-- threshold: 0
-- unit: rows
-- explanation: Events of the last eight days have a type that no rule knows. The consumer lets none in: somebody else
--   writes into the table, or a newer producer's type was let in without the features that count it.
SELECT count(*) AS value, 'such as ' || min(left(event_type, 40)) AS detail
FROM staging.product_events_raw
WHERE event_timestamp > now() - interval '8 days'
  AND event_type NOT IN ('search_performed', 'result_clicked', 'product_viewed', 'recommendation_clicked', 'rfq_sent')
