MERGE INTO refined.user_hours AS kept
USING (
    SELECT hour, user_id, account_id, fresh.searches, fresh.clicks, fresh.newest
    FROM (SELECT * FROM refine_fresh WHERE user_id IS NOT NULL) AS fresh
    FULL JOIN (SELECT hour, user_id, account_id FROM refined.user_hours JOIN refine_hours USING (hour)) AS old
        USING (hour, user_id, account_id)
) AS fresh
-- Repeats the hours so that PostgreSQL uses the index instead of scanning the whole table.
ON kept.hour = ANY (ARRAY(SELECT hour FROM refine_hours))
    AND kept.hour = fresh.hour AND kept.user_id = fresh.user_id AND kept.account_id = fresh.account_id
WHEN MATCHED AND fresh.newest IS NULL THEN DELETE
WHEN MATCHED AND (kept.searches, kept.clicks, kept.newest)
              IS DISTINCT FROM (fresh.searches, fresh.clicks, fresh.newest) THEN
    UPDATE SET searches = fresh.searches, clicks = fresh.clicks, newest = fresh.newest
WHEN NOT MATCHED THEN
    INSERT (hour, user_id, account_id, searches, clicks, newest)
    VALUES (fresh.hour, fresh.user_id, fresh.account_id, fresh.searches, fresh.clicks, fresh.newest)
