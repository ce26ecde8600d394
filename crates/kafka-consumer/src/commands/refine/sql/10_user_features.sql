-- Users without an event up to as-of have no features.
MERGE INTO refined.user_features AS kept
USING (
    WITH day AS (
        SELECT user_id, searches, clicks FROM refined.user_hours, refine_terms
        WHERE hour >= day_from AND hour < last_hour
        UNION ALL
        SELECT user_id, searches, clicks FROM refine_edges WHERE edge IN ('last', 'day') AND user_id IS NOT NULL
    ), sums AS (
        SELECT user_id, sum(searches)::bigint AS searches, sum(clicks)::bigint AS clicks
        FROM day JOIN refine_users USING (user_id) GROUP BY user_id
    ), last_hours AS (
        SELECT user_id, max(newest) AS newest FROM refine_edges
        WHERE edge = 'last' AND user_id IS NOT NULL GROUP BY user_id
    )
    SELECT user_id, coalesce(searches, 0) AS searches, coalesce(clicks, 0) AS clicks,
           clicks::double precision / nullif(searches, 0) AS ctr, coalesce(last_hours.newest, before.newest) AS newest
    FROM refine_users
    LEFT JOIN sums USING (user_id)
    LEFT JOIN last_hours USING (user_id)
    LEFT JOIN LATERAL (
        SELECT max(newest) AS newest FROM refined.user_hours AS hours
        WHERE hours.user_id = refine_users.user_id
          AND hours.hour = (SELECT max(latest.hour) FROM refined.user_hours AS latest
                            WHERE latest.user_id = refine_users.user_id
                              AND latest.hour < (SELECT last_hour FROM refine_terms))
    ) AS before ON last_hours.newest IS NULL
) AS fresh
ON kept.user_id = fresh.user_id
WHEN MATCHED AND fresh.newest IS NULL THEN DELETE
WHEN MATCHED AND (kept.searches_last_24h, kept.clicks_last_24h, kept.ctr_last_24h, kept.last_activity_timestamp)
              IS DISTINCT FROM (fresh.searches, fresh.clicks, fresh.ctr, fresh.newest) THEN
    UPDATE SET searches_last_24h = fresh.searches, clicks_last_24h = fresh.clicks, ctr_last_24h = fresh.ctr,
               last_activity_timestamp = fresh.newest, updated_at = now()
WHEN NOT MATCHED AND fresh.newest IS NOT NULL THEN
    INSERT (user_id, searches_last_24h, clicks_last_24h, ctr_last_24h, last_activity_timestamp)
    VALUES (fresh.user_id, fresh.searches, fresh.clicks, fresh.ctr, fresh.newest)
