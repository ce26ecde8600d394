-- Deletes the notes that this snapshot sees. It also sees the rows of the same transactions; notes that commit later
-- remain. Hours that retention has dropped are recomputed too and become empty, as is everything if requested.
WITH eaten AS (DELETE FROM pipeline.touched_hours RETURNING hour)
INSERT INTO refine_hours
SELECT date_bin('1 hour', hour, 'epoch') FROM eaten
UNION
SELECT hour FROM refined.user_hours
WHERE hour < (SELECT CASE previous WHEN '-infinity' THEN 'infinity' ELSE floor END FROM refine_terms)
UNION
SELECT hour FROM refined.account_hours
WHERE hour < (SELECT CASE previous WHEN '-infinity' THEN 'infinity' ELSE floor END FROM refine_terms)
