-- Computes the features of users and accounts from their definition and returns the differences from the tables.
-- $1: as-of.
WITH terms AS (
    SELECT $1::text::timestamptz AS as_of,
           coalesce((SELECT max(floor)::timestamp AT TIME ZONE 'UTC' FROM pipeline.retention_floors), '-infinity') AS floor
), events AS (
    SELECT raw.*, as_of - event_timestamp < interval '24 hours' AS of_day,
           as_of - event_timestamp < interval '168 hours' AS of_week,
           event_type = 'search_performed' AS is_search,
           event_type = 'result_clicked' OR event_type = 'recommendation_clicked' AS is_click
    FROM staging.product_events_raw AS raw, terms
    WHERE event_timestamp <= as_of AND event_timestamp >= floor
), users AS (
    SELECT user_id, count(*) FILTER (WHERE is_search AND of_day) AS searches,
           count(*) FILTER (WHERE is_click AND of_day) AS clicks, max(event_timestamp) AS newest
    FROM events GROUP BY user_id
), categories AS (
    SELECT account_id, category,
           row_number() OVER (PARTITION BY account_id ORDER BY count(*) DESC, category COLLATE "C") AS place
    FROM events WHERE of_week AND event_type = 'product_viewed' GROUP BY account_id, category
), accounts AS (
    SELECT account_id, count(DISTINCT user_id) FILTER (WHERE of_week) AS active,
           count(*) FILTER (WHERE is_search AND of_day) AS searches,
           count(*) FILTER (WHERE is_click AND of_day) AS clicks
    FROM events GROUP BY account_id
), wanted AS (
    SELECT format('user %s: %s %s %s %s', user_id, searches, clicks,
                  CASE WHEN searches > 0 THEN clicks / searches::double precision END, newest) AS line FROM users
    UNION ALL
    SELECT format('account %s: %s %s %s', account_id, active,
                  CASE WHEN searches > 0 THEN clicks / searches::double precision END,
                  (SELECT category FROM categories AS c WHERE c.account_id = accounts.account_id AND place = 1))
    FROM accounts
), present AS (
    SELECT format('user %s: %s %s %s %s', user_id, searches_last_24h, clicks_last_24h, ctr_last_24h,
                  last_activity_timestamp) AS line FROM refined.user_features
    UNION ALL
    SELECT format('account %s: %s %s %s', account_id, active_users_last_7d, account_ctr_last_24h,
                  most_viewed_category_7d) FROM refined.account_features
)
SELECT 'lacks ' || line FROM (TABLE wanted EXCEPT TABLE present) AS lacking
UNION ALL
SELECT 'has   ' || line FROM (TABLE present EXCEPT TABLE wanted) AS extra
ORDER BY 1
