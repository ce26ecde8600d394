-- The roles of the warehouse. Not a migration: roles belong to the whole cluster. Run it once, as one who may create
-- roles, before the first `kafka-consumer migrate`; running it again changes nothing.
--   pipeline_owner   owns schemas and tables: kafka-consumer migrate
--   pipeline_writer  inserts and moves offsets: kafka-consumer run --no-migrate
--   pipeline_reader  reads everything: analysts, dashboards
-- Give them to the users that log in:  GRANT pipeline_writer TO kafka_consumer;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY ['pipeline_owner', 'pipeline_writer', 'pipeline_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
END
$$;
