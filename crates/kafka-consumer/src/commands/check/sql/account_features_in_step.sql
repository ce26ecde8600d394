-- name: account_features_in_step
-- severity: error
-- threshold: 0
-- unit: accounts
-- explanation: The stored features differ from the rows as of the last refinement, because rows or features were
--   changed by hand. Recompute all features with `kafka-consumer refine --all`. Skipped before the first refinement,
--   and after retention until the next one.
WITH last AS MATERIALIZED (
    SELECT as_of, refined_at, unsettled, snapshot, pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_xid,
           coalesce((SELECT max(floor)::timestamp AT TIME ZONE 'UTC' FROM pipeline.retention_floors), '-infinity') AS floor
    FROM pipeline.refinements ORDER BY id DESC LIMIT 1
), sums AS (
    SELECT account_id, user_id, category,
           count(*) FILTER (WHERE event_type = 'search_performed' AND is_of_the_day) AS searches,
           count(*) FILTER (WHERE event_type IN ('result_clicked', 'recommendation_clicked') AND is_of_the_day) AS clicks,
           count(*) FILTER (WHERE event_type = 'product_viewed') AS views, bool_or(is_uncertain) AS is_uncertain
    FROM (
        SELECT account_id, user_id, category, event_type, event_timestamp > as_of - interval '1 day' AS is_of_the_day,
               {perhaps_refined} AS is_uncertain
        FROM staging.product_events_raw AS raw, last
        WHERE event_timestamp > (SELECT as_of FROM last) - interval '7 days'
          AND event_timestamp <= (SELECT as_of FROM last)
          AND event_timestamp >= (SELECT floor FROM last)
          -- Rows that the refinement did not see are left to the next one.
          AND {refined}
    ) AS week
    GROUP BY account_id, user_id, category
), plain AS (
    SELECT account_id, count(DISTINCT user_id) AS users, sum(clicks)::double precision / nullif(sum(searches), 0) AS ctr,
           bool_or(is_uncertain) AS is_uncertain
    FROM sums GROUP BY account_id
), viewed AS (
    SELECT DISTINCT ON (account_id) account_id, category FROM sums
    GROUP BY account_id, category HAVING sum(views) > 0
    ORDER BY account_id, sum(views) DESC, category COLLATE "C"
), compared AS (
    SELECT account_id,
           is_uncertain IS NOT TRUE AND (features.account_id IS NULL
           OR (active_users_last_7d, account_ctr_last_24h, most_viewed_category_7d)
              IS DISTINCT FROM (coalesce(users, 0), ctr, category)) AS differs
    FROM plain LEFT JOIN viewed USING (account_id)
    FULL JOIN refined.account_features AS features USING (account_id)
)
SELECT CASE
           -- Null before the first refinement, and after retention until the next one.
           WHEN EXISTS (SELECT 1 FROM last)
            AND NOT EXISTS (SELECT 1 FROM pipeline.retention_floors, last WHERE set_at > refined_at)
           THEN count(*) FILTER (WHERE differs)
       END AS value,
       'such as account ' || min(account_id) FILTER (WHERE differs) AS detail
FROM compared
