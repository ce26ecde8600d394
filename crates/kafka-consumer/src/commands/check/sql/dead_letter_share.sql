-- name: dead_letter_share
-- severity: error
-- threshold: 1
-- unit: percent
-- explanation: Share of the last 100,000 records of a consumer group that are dead letters and were not replayed.
--   `kafka-consumer dead-letters list` shows the reasons.
WITH groups AS (
    SELECT consumer_group, topic, sum(records)::bigint AS records
    FROM pipeline.consumer_offsets GROUP BY consumer_group, topic HAVING sum(records) > 0
), shares AS (
    SELECT groups.consumer_group, 100.0 * count(letters.group_record) / least(records, 100000) AS share
    FROM groups LEFT JOIN pipeline.dead_letters AS letters
      ON letters.consumer_group = groups.consumer_group AND letters.topic = groups.topic
     AND letters.group_record >= groups.records - 100000 AND letters.replayed_at IS NULL
    GROUP BY groups.consumer_group, groups.topic, records
)
SELECT max(share) AS value, 'of group ' || (array_agg(consumer_group ORDER BY share DESC))[1] AS detail FROM shares
