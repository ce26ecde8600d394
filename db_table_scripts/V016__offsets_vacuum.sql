-- Vacuums the offsets often and at full speed. Each batch leaves a dead version of its partitions' rows, and the table has
-- few other rows: a delay between pages would only let the versions pile up.
ALTER TABLE pipeline.consumer_offsets SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
