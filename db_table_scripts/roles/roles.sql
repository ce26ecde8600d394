-- The roles of the warehouse. Not a migration: roles belong to the whole cluster. Run it once in the warehouse's database,
-- as one who may create roles, before the first `kafka-consumer migrate`; running it again changes nothing. Where the
-- tables were there first, their owner then calls:  CALL pipeline.grant_to_roles();
--
--   pipeline_owner   owns schemas and tables: kafka-consumer migrate, retention
--   pipeline_writer  inserts rows and moves offsets: kafka-consumer run, dead-letters, offsets
--   pipeline_reader  reads everything: analysts, dashboards
--
-- None of them logs in. Give them to users that do; the owner's user acts as the owner, so that all tables are of one:
--
--   CREATE ROLE warehouse_admin LOGIN PASSWORD '…' IN ROLE pipeline_owner;
--   ALTER ROLE warehouse_admin SET role = pipeline_owner;
--   CREATE ROLE event_writer LOGIN PASSWORD '…' IN ROLE pipeline_writer;
--   CREATE ROLE analyst LOGIN PASSWORD '…' IN ROLE pipeline_reader;
--
-- All consumers of a group log in as the same user: one that takes over from a stopped one ends its session
-- (pg_terminate_backend), which PostgreSQL allows among sessions of one user.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY ['pipeline_owner', 'pipeline_writer', 'pipeline_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
    END LOOP;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO pipeline_owner', current_database());
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO pipeline_writer', current_database());
    -- The list of applied scripts stands there.
    GRANT USAGE, CREATE ON SCHEMA public TO pipeline_owner;
END
$$;
