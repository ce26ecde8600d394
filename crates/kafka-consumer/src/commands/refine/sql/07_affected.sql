-- Users and accounts whose features may have changed: those active, before or now, in an hour that is recomputed or that
-- a window has entered or left since the last refinement. Runs before the hourly aggregates change, to find those that
-- disappear from them.
WITH moved AS (
    SELECT least(previous, as_of) AS low, greatest(previous, as_of) AS high, previous = '-infinity' AS all_of_them
    FROM refine_terms
), ranges AS (
    SELECT low - width - interval '1 hour' AS after, high - width AS until, all_of_them
    FROM moved, (VALUES (interval '0'), (interval '1 day'), (interval '7 days')) AS windows (width)
    -- Windows that have not moved have entered no hour.
    WHERE low < high
), changed AS (
    SELECT account_id, user_id FROM refined.user_hours JOIN refine_hours USING (hour)
    UNION
    SELECT account_id, user_id FROM refine_fresh WHERE user_id IS NOT NULL
    UNION
    SELECT account_id, user_id FROM ranges JOIN refined.user_hours ON hour > after AND hour <= until
), all_users AS (
    INSERT INTO refine_users
    SELECT user_id FROM changed
    UNION
    SELECT user_id FROM refined.user_features WHERE (SELECT all_of_them FROM moved)
)
INSERT INTO refine_accounts
SELECT account_id FROM changed
UNION
SELECT account_id FROM refined.account_features WHERE (SELECT all_of_them FROM moved)
