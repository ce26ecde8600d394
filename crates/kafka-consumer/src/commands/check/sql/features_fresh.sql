-- name: features_fresh
-- severity: warning
-- threshold: 60
-- unit: minutes
-- explanation: Age of the end of the feature windows. Update the features with `kafka-consumer refine`, or regularly
--   with `kafka-consumer refine --every 5m`. Skipped before the first refinement.
SELECT extract(epoch FROM now() - max(as_of)) / 60 AS value
FROM (SELECT as_of FROM pipeline.refinements ORDER BY id DESC LIMIT 1) AS last
