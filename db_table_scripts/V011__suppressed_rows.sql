-- Counts records whose row a trigger of the owner kept out of the table.
ALTER TABLE pipeline.consumer_offsets ADD COLUMN suppressed bigint NOT NULL DEFAULT 0;

-- PostgreSQL named the former constraint, so it is found by its columns.
DO $$
DECLARE
    former name;
BEGIN
    FOR former IN
        SELECT conname FROM pg_catalog.pg_constraint AS one
        WHERE conrelid = 'pipeline.consumer_offsets'::regclass AND contype = 'c'
          AND (SELECT array_agg(attname::text ORDER BY attname::text) FROM pg_catalog.pg_attribute
               WHERE attrelid = one.conrelid AND attnum = ANY (one.conkey))
              = ARRAY['dead_letters', 'duplicates', 'expired', 'records', 'rows_inserted']
    LOOP
        EXECUTE format('ALTER TABLE pipeline.consumer_offsets DROP CONSTRAINT %I', former);
    END LOOP;
END
$$;

ALTER TABLE pipeline.consumer_offsets ADD CONSTRAINT consumer_offsets_counts_add_up
    CHECK (records = rows_inserted + duplicates + dead_letters + expired + suppressed);

COMMENT ON COLUMN pipeline.consumer_offsets.suppressed IS
    'Records whose row a BEFORE INSERT trigger of the owner suppressed (RETURN NULL) or redirected to another table. They are settled: the consumer does not read them again.';
COMMENT ON COLUMN pipeline.consumer_offsets.next_offset IS
    'Offset from which the consumer resumes. Every record before it is a row, a duplicate, a dead letter, expired or suppressed.';

ALTER TABLE pipeline.rebuilt_files ADD COLUMN suppressed bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN pipeline.rebuilt_files.suppressed IS
    'Rows of the file that a BEFORE INSERT trigger of the owner suppressed or redirected.';
