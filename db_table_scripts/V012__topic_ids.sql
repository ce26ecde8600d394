-- The ID that Kafka gave the topic when it was created (KIP-516). The name stays when a topic is deleted and recreated; the
-- ID does not.
ALTER TABLE pipeline.consumer_offsets ADD COLUMN topic_id uuid;

COMMENT ON COLUMN pipeline.consumer_offsets.topic_id IS
    'ID of the topic that next_offset belongs to. NULL: not known yet (written by an older version, or the brokers have no topic IDs).';
