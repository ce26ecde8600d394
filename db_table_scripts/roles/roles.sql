-- Creates the roles of the warehouse. Not a migration, because roles belong to the whole cluster. Run it once in the
-- database of the warehouse, as a role with CREATEROLE, before the first `kafka-consumer migrate`. It is safe to repeat. If
-- the tables exist already, their owner then runs:  CALL pipeline.grant_to_roles();  On a Citus cluster, run it as a
-- superuser on the coordinator, after the workers were added.
--
--   pipeline_owner   owns schemas and tables; for kafka-consumer migrate, retention
--   pipeline_writer  inserts rows and moves offsets; for kafka-consumer run, dead-letters, offsets
--   pipeline_reader  reads everything; for analysts and dashboards
--
-- The roles cannot log in. Grant them to users that can. `SET role` lets the role, not the user, own new tables:
--
--   CREATE ROLE warehouse_admin LOGIN PASSWORD '…' IN ROLE pipeline_owner;
--   ALTER ROLE warehouse_admin SET role = pipeline_owner;
--   CREATE ROLE event_writer LOGIN PASSWORD '…' IN ROLE pipeline_writer;
--   CREATE ROLE analyst LOGIN PASSWORD '…' IN ROLE pipeline_reader;
--
-- All consumers of a group must log in as the same user: a consumer that takes over terminates the session of its
-- predecessor (pg_terminate_backend), and PostgreSQL allows this among sessions of one user.
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
    -- The table of applied migrations is in this schema.
    GRANT USAGE, CREATE ON SCHEMA public TO pipeline_owner;
END
$$;

-- Citus registers roles that are created here. It registers those of an earlier database with the first distributed table
-- that they own or may read.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        IF EXISTS (SELECT FROM pg_dist_node WHERE groupid <> 0) THEN
            CREATE TABLE public.event_pipeline_roles ();
            ALTER TABLE public.event_pipeline_roles OWNER TO pipeline_owner;
            GRANT SELECT ON public.event_pipeline_roles TO pipeline_writer, pipeline_reader;
            PERFORM create_reference_table('public.event_pipeline_roles');
            DROP TABLE public.event_pipeline_roles;
        END IF;
    END IF;
END
$$;
