-- Accounts without an event up to as-of have no features.
MERGE INTO refined.account_features AS kept
USING (
    WITH day AS (
        SELECT account_id, searches, clicks FROM refined.user_hours, refine_terms
        WHERE hour >= day_from AND hour < last_hour
        UNION ALL
        SELECT account_id, searches, clicks FROM refine_edges WHERE edge IN ('last', 'day') AND user_id IS NOT NULL
    ), ctrs AS (
        SELECT account_id, sum(clicks)::double precision / nullif(sum(searches), 0)::double precision AS ctr
        FROM day JOIN refine_accounts USING (account_id) GROUP BY account_id
    ), week AS (
        SELECT account_id, user_id FROM refined.user_hours, refine_terms WHERE hour >= week_from AND hour < last_hour
        UNION
        SELECT account_id, user_id FROM refine_edges WHERE edge IN ('last', 'week') AND user_id IS NOT NULL
    ), active AS (
        SELECT account_id, count(*) AS users FROM week JOIN refine_accounts USING (account_id) GROUP BY account_id
    ), views AS (
        SELECT account_id, category, views FROM refined.account_hours, refine_terms
        WHERE hour >= week_from AND hour < last_hour
        UNION ALL
        SELECT account_id, category, views FROM refine_edges WHERE edge IN ('last', 'week') AND category IS NOT NULL
    ), viewed AS (
        SELECT DISTINCT ON (account_id) account_id, category
        FROM views JOIN refine_accounts USING (account_id)
        GROUP BY account_id, category HAVING sum(views) > 0
        ORDER BY account_id, sum(views) DESC, category COLLATE "C"
    )
    SELECT account_id, coalesce(active.users, 0) AS users, ctrs.ctr, viewed.category,
           EXISTS (SELECT FROM refined.account_hours AS hours
                   WHERE hours.account_id = refine_accounts.account_id
                     AND hours.hour < (SELECT last_hour FROM refine_terms))
           OR EXISTS (SELECT FROM refine_edges AS edges
                      WHERE edges.edge = 'last' AND edges.account_id = refine_accounts.account_id) AS is_known
    FROM refine_accounts
    LEFT JOIN ctrs USING (account_id)
    LEFT JOIN active USING (account_id)
    LEFT JOIN viewed USING (account_id)
) AS fresh
ON kept.account_id = fresh.account_id
WHEN MATCHED AND NOT fresh.is_known THEN DELETE
WHEN MATCHED AND (kept.active_users_last_7d, kept.account_ctr_last_24h, kept.most_viewed_category_7d)
              IS DISTINCT FROM (fresh.users, fresh.ctr, fresh.category) THEN
    UPDATE SET active_users_last_7d = fresh.users, account_ctr_last_24h = fresh.ctr,
               most_viewed_category_7d = fresh.category, updated_at = now()
WHEN NOT MATCHED AND fresh.is_known THEN
    INSERT (account_id, active_users_last_7d, account_ctr_last_24h, most_viewed_category_7d)
    VALUES (fresh.account_id, fresh.users, fresh.ctr, fresh.category)
