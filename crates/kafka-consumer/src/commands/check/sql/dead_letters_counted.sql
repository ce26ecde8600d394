-- name: dead_letters_counted
-- severity: error
-- threshold: 0
-- unit: dead letters
-- explanation: The number of stored dead letters differs from the counts in pipeline.consumer_offsets, because rows
--   were inserted or deleted by hand. `dead-letters discard` keeps the rows and is not the cause.
WITH counted AS (
    SELECT consumer_group, topic, sum(dead_letters) AS counted
    FROM pipeline.consumer_offsets GROUP BY consumer_group, topic
), kept AS (
    -- A record that is read again adds an attempt to its dead letter, and so does each replay.
    SELECT consumer_group, topic, count(*) AS letters, sum(attempts) AS attempts
    FROM pipeline.dead_letters GROUP BY consumer_group, topic
), compared AS (
    SELECT consumer_group, coalesce(counted, 0) AS counted, coalesce(letters, 0) AS letters,
           coalesce(attempts, 0) AS attempts
    FROM counted FULL JOIN kept USING (consumer_group, topic)
)
SELECT sum(greatest(letters - counted, counted - attempts, 0)) AS value,
       min(format('group %s: %s stored, %s counted', consumer_group, letters, counted))
           FILTER (WHERE letters > counted OR counted > attempts) AS detail
FROM compared
