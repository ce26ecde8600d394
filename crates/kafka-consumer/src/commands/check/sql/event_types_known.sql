-- name: event_types_known
-- severity: error
-- threshold: 0
-- unit: rows
-- explanation: Events of the last eight days have an unknown event_type. The consumer rejects such events, so another
--   program writes to the table, or a type was added to the rules without the features that count it.
SELECT count(*) AS value, 'such as ' || min(left(event_type, 40)) AS detail
FROM staging.product_events_raw
WHERE event_timestamp > now() - interval '8 days'
  AND event_type NOT IN ('search_performed', 'result_clicked', 'product_viewed', 'recommendation_clicked', 'rfq_sent')
