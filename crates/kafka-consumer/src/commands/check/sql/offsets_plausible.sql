-- name: offsets_plausible
-- severity: error
-- threshold: 0
-- unit: partitions
-- explanation: The next offset is at or before a record that the group has already read, and no `offsets set` moved it.
--   The records are read again, which inserts no duplicate rows. Find out who changed pipeline.consumer_offsets.
SELECT count(*) AS value, min(format('group %s, partition %s: %s', consumer_group, partition, next_offset)) AS detail
FROM pipeline.consumer_offsets AS offsets
WHERE NOT EXISTS (SELECT 1 FROM pipeline.offset_changes AS changes
                  WHERE changes.consumer_group = offsets.consumer_group AND changes.topic = offsets.topic)
  AND (fingerprint_offset >= next_offset
       OR EXISTS (SELECT 1 FROM pipeline.dead_letters AS letters
                  WHERE letters.consumer_group = offsets.consumer_group AND letters.topic = offsets.topic
                    AND letters.topic_incarnation = offsets.topic_incarnation
                    AND letters.partition = offsets.partition AND letters."offset" >= offsets.next_offset))
