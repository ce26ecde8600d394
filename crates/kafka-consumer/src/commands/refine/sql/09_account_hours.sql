MERGE INTO refined.account_hours AS kept
USING (
    SELECT hour, account_id, category, fresh.views
    FROM (SELECT * FROM refine_fresh WHERE category IS NOT NULL) AS fresh
    FULL JOIN (SELECT hour, account_id, category FROM refined.account_hours JOIN refine_hours USING (hour)) AS old
        USING (hour, account_id, category)
) AS fresh
ON kept.hour = ANY (ARRAY(SELECT hour FROM refine_hours))
    AND kept.hour = fresh.hour AND kept.account_id = fresh.account_id AND kept.category = fresh.category
WHEN MATCHED AND fresh.views IS NULL THEN DELETE
WHEN MATCHED AND kept.views <> fresh.views THEN UPDATE SET views = fresh.views
WHEN NOT MATCHED THEN
    INSERT (hour, account_id, category, views) VALUES (fresh.hour, fresh.account_id, fresh.category, fresh.views)
