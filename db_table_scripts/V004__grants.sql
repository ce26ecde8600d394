-- What the roles of roles/roles.sql may do, where they exist.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pipeline_writer') THEN
        GRANT USAGE ON SCHEMA staging, pipeline TO pipeline_writer;
        GRANT SELECT, INSERT ON staging.product_events_raw TO pipeline_writer;
        GRANT SELECT, INSERT, UPDATE ON pipeline.consumer_offsets, pipeline.dead_letters TO pipeline_writer;
        GRANT INSERT ON pipeline.touched_hours TO pipeline_writer;
        GRANT EXECUTE ON FUNCTION pipeline.ensure_partition(date) TO pipeline_writer;
        -- To see whether the scripts it was built with are applied.
        GRANT SELECT ON public.event_pipeline_schema_history TO pipeline_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pipeline_reader') THEN
        GRANT USAGE ON SCHEMA staging, refined, pipeline TO pipeline_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA staging, refined, pipeline TO pipeline_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA staging, refined, pipeline GRANT SELECT ON TABLES TO pipeline_reader;
    END IF;
END
$$;
