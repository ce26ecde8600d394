-- name: offsets_plausible
-- severity: error
-- threshold: 0
-- unit: partitions
-- explanation: The next offset lies before a record that the same group has already read, and no `offsets set` says that
--   somebody moved it. Records would be read again; nothing doubles by it, but find out who did that.
SELECT count(*) AS value, min(format('group %s, partition %s: %s', consumer_group, partition, next_offset)) AS detail
FROM pipeline.consumer_offsets AS offsets
WHERE NOT EXISTS (SELECT FROM pipeline.offset_changes AS changes
                  WHERE changes.consumer_group = offsets.consumer_group AND changes.topic = offsets.topic)
  AND (fingerprint_offset >= next_offset
       OR EXISTS (SELECT FROM pipeline.dead_letters AS letters
                  WHERE letters.consumer_group = offsets.consumer_group AND letters.topic = offsets.topic
                    AND letters.topic_incarnation = offsets.topic_incarnation
                    AND letters.partition = offsets.partition AND letters."offset" >= offsets.next_offset))
