-- name: user_features_in_step
-- severity: error
-- threshold: 0
-- unit: users
-- explanation: The stored features differ from the rows as of the last refinement, because rows or features were
--   changed by hand. Recompute all features with `kafka-consumer refine --all`. Skipped before the first refinement,
--   and after retention until the next one.
WITH last AS MATERIALIZED (
    SELECT as_of, refined_at, unsettled, snapshot, pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_xid
    FROM pipeline.refinements ORDER BY id DESC LIMIT 1
), plain AS (
    SELECT user_id, count(*) FILTER (WHERE event_type = 'search_performed') AS searches,
           count(*) FILTER (WHERE event_type IN ('result_clicked', 'recommendation_clicked')) AS clicks,
           max(event_timestamp) AS newest, bool_or({perhaps_refined}) AS is_uncertain
    FROM staging.product_events_raw AS raw, last
    WHERE event_timestamp > (SELECT as_of FROM last) - interval '1 day'
      AND event_timestamp <= (SELECT as_of FROM last)
      -- Rows that the refinement did not see are left to the next one.
      AND {refined}
    GROUP BY user_id
), compared AS (
    SELECT user_id,
           CASE
               WHEN is_uncertain THEN false
               WHEN features.user_id IS NULL THEN true
               WHEN plain.user_id IS NULL THEN searches_last_24h <> 0 OR clicks_last_24h <> 0
                   OR ctr_last_24h IS NOT NULL
                   OR last_activity_timestamp > (SELECT as_of FROM last) - interval '1 day'
               ELSE (searches_last_24h, clicks_last_24h, ctr_last_24h, last_activity_timestamp)
                   IS DISTINCT FROM (searches, clicks, clicks::double precision / nullif(searches, 0), newest)
           END AS differs
    FROM plain FULL JOIN refined.user_features AS features USING (user_id)
)
SELECT CASE
           -- Null before the first refinement, and after retention until the next one.
           WHEN EXISTS (SELECT 1 FROM last)
            AND NOT EXISTS (SELECT 1 FROM pipeline.retention_floors, last WHERE set_at > refined_at)
           THEN count(*) FILTER (WHERE differs)
       END AS value,
       'such as user ' || min(user_id) FILTER (WHERE differs) AS detail
FROM compared
