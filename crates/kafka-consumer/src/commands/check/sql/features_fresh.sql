-- name: features_fresh
-- severity: warning
-- threshold: 60
-- unit: minutes
-- explanation: So long ago the windows of the features end. `kafka-consumer refine` moves them, `--every 5m` again and
--   again. Skipped before the first refinement.
SELECT extract(epoch FROM now() - max(as_of)) / 60 AS value
FROM (SELECT as_of FROM pipeline.refinements ORDER BY id DESC LIMIT 1) AS last
