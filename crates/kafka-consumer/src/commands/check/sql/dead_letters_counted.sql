-- name: dead_letters_counted
-- severity: error
-- threshold: 0
-- unit: letters
-- explanation: So many dead letters more or fewer are kept than the counts beside the offsets say. Somebody has inserted
--   or deleted by hand; discarding leaves the letter's row.
WITH counted AS (
    SELECT consumer_group, topic, sum(dead_letters) AS counted
    FROM pipeline.consumer_offsets GROUP BY consumer_group, topic
), kept AS (
    -- A letter whose record was read again counts once more, and so does each look of a replay.
    SELECT consumer_group, topic, count(*) AS letters, sum(attempts) AS attempts
    FROM pipeline.dead_letters GROUP BY consumer_group, topic
), compared AS (
    SELECT consumer_group, coalesce(counted, 0) AS counted, coalesce(letters, 0) AS letters,
           coalesce(attempts, 0) AS attempts
    FROM counted FULL JOIN kept USING (consumer_group, topic)
)
SELECT sum(greatest(letters - counted, counted - attempts, 0)) AS value,
       min(format('group %s: %s kept, %s counted', consumer_group, letters, counted))
           FILTER (WHERE letters > counted OR counted > attempts) AS detail
FROM compared
