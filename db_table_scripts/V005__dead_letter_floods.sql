-- Where a dead letter stands in its group's sequence of records: how many records the group had committed before it, over
-- all partitions. A flood of dead letters is told by it, also after a restart.
ALTER TABLE pipeline.dead_letters ADD COLUMN group_record bigint;

CREATE INDEX dead_letters_by_group_record ON pipeline.dead_letters (consumer_group, topic, group_record);
