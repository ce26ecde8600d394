-- What the roles of roles/roles.sql may do, in one place. Later scripts replace the procedure and call it; a person calls it
-- where the roles came after the tables: CALL pipeline.grant_to_roles().
CREATE PROCEDURE pipeline.grant_to_roles()
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pipeline_writer') THEN
        GRANT USAGE ON SCHEMA staging, pipeline TO pipeline_writer;
        GRANT SELECT, INSERT ON staging.product_events_raw TO pipeline_writer;
        GRANT SELECT, INSERT, UPDATE ON pipeline.consumer_offsets, pipeline.dead_letters TO pipeline_writer;
        GRANT INSERT ON pipeline.touched_hours TO pipeline_writer;
        GRANT SELECT ON pipeline.retention_floors, pipeline.offset_changes TO pipeline_writer;
        GRANT INSERT (consumer_group, topic, partition, from_offset, to_offset, target, reason)
            ON pipeline.offset_changes TO pipeline_writer;
        GRANT EXECUTE ON FUNCTION pipeline.ensure_partition(date) TO pipeline_writer;
        -- To see whether the scripts that the program was built with are applied.
        GRANT SELECT ON public.event_pipeline_schema_history TO pipeline_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pipeline_reader') THEN
        GRANT USAGE ON SCHEMA staging, refined, pipeline TO pipeline_reader;
        GRANT SELECT ON public.event_pipeline_schema_history TO pipeline_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA staging, refined, pipeline TO pipeline_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA staging, refined, pipeline GRANT SELECT ON TABLES TO pipeline_reader;
    END IF;
END
$$;

REVOKE ALL ON PROCEDURE pipeline.grant_to_roles() FROM PUBLIC;

CALL pipeline.grant_to_roles();
