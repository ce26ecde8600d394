-- name: one_account_per_user
-- severity: warning
-- threshold: 0
-- unit: users
-- explanation: Users with events under more than one account in the last eight days. They count in each account.
SELECT count(*) AS value, 'such as user ' || min(user_id) AS detail
FROM (SELECT user_id FROM staging.product_events_raw
      WHERE event_timestamp > now() - interval '8 days'
      GROUP BY user_id HAVING min(account_id) <> max(account_id)) AS several
