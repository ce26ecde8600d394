-- Eats the notes: those that this snapshot sees, and it sees the rows of the same transactions. What commits later stays
-- noted. Hours that retention has taken are made anew too, as empty ones; so is everything where all is asked for.
WITH eaten AS (DELETE FROM pipeline.touched_hours RETURNING hour)
INSERT INTO refine_hours
SELECT date_bin('1 hour', hour, 'epoch') FROM eaten
UNION
SELECT hour FROM refined.user_hours
WHERE hour < (SELECT CASE previous WHEN '-infinity' THEN 'infinity' ELSE floor END FROM refine_terms)
UNION
SELECT hour FROM refined.account_hours
WHERE hour < (SELECT CASE previous WHEN '-infinity' THEN 'infinity' ELSE floor END FROM refine_terms)
