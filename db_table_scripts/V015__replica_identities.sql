-- Gives each table without a primary key a replica identity. Without one, PostgreSQL refuses to delete rows of a table in a
-- publication such as FOR ALL TABLES, and `kafka-consumer refine` deletes the notes that it has processed. The whole row
-- identifies a row: these tables have no cheaper key, and an insert logs nothing more for it.
ALTER TABLE pipeline.touched_hours REPLICA IDENTITY FULL;
ALTER TABLE staging.product_events_raw REPLICA IDENTITY FULL;

-- Existing partitions. pipeline.ensure_partition() gives new ones theirs; a choice of the owner stays.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN
        SELECT c.oid FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'staging.product_events_raw'::regclass AND c.relkind IN ('r', 'p') AND c.relreplident = 'd'
          AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = c.oid AND indisprimary)
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY FULL', part);
    END LOOP;
END
$$;
