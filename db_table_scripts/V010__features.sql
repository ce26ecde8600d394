-- What `kafka-consumer refine` derives the features from, and what `kafka-consumer check` found.

-- Finds the rows of an hour without reading the whole day. It is as good as nothing to keep for those who insert: what
-- they append is not in it until pipeline.summarize_days() is called.
CREATE INDEX product_events_raw_by_time ON staging.product_events_raw
    USING brin (event_timestamp timestamptz_minmax_multi_ops) WITH (pages_per_range = 32);

CREATE TABLE refined.user_hours (
    hour       timestamptz NOT NULL,
    user_id    integer     NOT NULL,
    account_id integer     NOT NULL,
    searches   bigint      NOT NULL,
    clicks     bigint      NOT NULL,
    newest     timestamptz NOT NULL,
    PRIMARY KEY (hour, user_id, account_id)
);

CREATE INDEX user_hours_by_user ON refined.user_hours (user_id, hour);

COMMENT ON TABLE refined.user_hours IS
    'Who was active in which hour: all events of an hour (UTC), whenever the features'' windows end.';
COMMENT ON COLUMN refined.user_hours.newest IS 'The newest event of the user within the hour.';

CREATE TABLE refined.account_hours (
    hour       timestamptz NOT NULL,
    account_id integer     NOT NULL,
    category   text        NOT NULL,
    views      bigint      NOT NULL,
    PRIMARY KEY (hour, account_id, category)
);

CREATE INDEX account_hours_by_account ON refined.account_hours (account_id, hour);

COMMENT ON COLUMN refined.account_hours.views IS 'Events of type product_viewed; 0 where there were only others.';

CREATE TABLE pipeline.refinements (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    as_of            timestamptz NOT NULL,
    refined_at       timestamptz NOT NULL DEFAULT now(),
    refined_by       text        NOT NULL DEFAULT session_user,
    snapshot         pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
    hours_remade     bigint      NOT NULL,
    users_changed    bigint      NOT NULL,
    accounts_changed bigint      NOT NULL
);

COMMENT ON COLUMN pipeline.refinements.as_of IS 'Where the windows of the features end; later events are left out.';
COMMENT ON COLUMN pipeline.refinements.snapshot IS 'Which transactions'' rows it saw.';

CREATE TABLE pipeline.check_results (
    run_id      uuid             NOT NULL,
    check_name  text             NOT NULL,
    checked_at  timestamptz      NOT NULL DEFAULT now(),
    status      text             NOT NULL CHECK (status IN ('pass', 'fail', 'skip', 'broken')),
    severity    text             NOT NULL CHECK (severity IN ('error', 'warning')),
    value       double precision,
    threshold   double precision NOT NULL,
    detail      text,
    seconds     double precision NOT NULL,
    PRIMARY KEY (run_id, check_name)
);

CREATE INDEX check_results_by_time ON pipeline.check_results (checked_at);

COMMENT ON COLUMN pipeline.check_results.run_id IS 'The results of one `kafka-consumer check` have the same.';
COMMENT ON COLUMN pipeline.check_results.status IS
    'skip: there was nothing to judge. broken: the check itself could not be run, see detail.';

-- Brings the indexes by time up to date where rows were appended. Runs with the rights of its owner, as PostgreSQL wants
-- it of whoever does that.
CREATE FUNCTION pipeline.summarize_days() RETURNS bigint
    LANGUAGE sql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(sum(brin_summarize_new_values(leaf.indexrelid)), 0)::bigint
FROM pg_inherits AS part
JOIN pg_index AS leaf ON leaf.indrelid = part.inhrelid
JOIN pg_inherits AS child ON child.inhrelid = leaf.indexrelid
WHERE part.inhparent = 'staging.product_events_raw'::regclass AND NOT part.inhdetachpending
  AND child.inhparent = 'staging.product_events_raw_by_time'::regclass
$$;

REVOKE ALL ON FUNCTION pipeline.summarize_days() FROM PUBLIC;

-- As before, and what came with rebuilds, features and checks. What is derived may be taken away by a writer: it can be
-- made anew.
CREATE OR REPLACE PROCEDURE pipeline.grant_to_roles()
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pipeline_writer') THEN
        GRANT USAGE ON SCHEMA staging, pipeline, refined TO pipeline_writer;
        GRANT SELECT, INSERT ON staging.product_events_raw TO pipeline_writer;
        GRANT SELECT, INSERT, UPDATE ON pipeline.consumer_offsets, pipeline.dead_letters TO pipeline_writer;
        GRANT SELECT, INSERT, DELETE ON pipeline.touched_hours TO pipeline_writer;
        GRANT SELECT ON pipeline.retention_floors, pipeline.dropped_partitions, pipeline.offset_changes
            TO pipeline_writer;
        GRANT INSERT (consumer_group, topic, partition, from_offset, to_offset, target, reason)
            ON pipeline.offset_changes TO pipeline_writer;
        GRANT SELECT ON pipeline.rebuilds, pipeline.rebuilt_files TO pipeline_writer;
        GRANT INSERT (lake, from_hour, to_hour), UPDATE (finished_at) ON pipeline.rebuilds TO pipeline_writer;
        GRANT INSERT ON pipeline.rebuilt_files TO pipeline_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE
            ON refined.user_features, refined.account_features, refined.user_hours, refined.account_hours
            TO pipeline_writer;
        GRANT SELECT ON pipeline.refinements, pipeline.check_results TO pipeline_writer;
        GRANT INSERT (as_of, hours_remade, users_changed, accounts_changed) ON pipeline.refinements TO pipeline_writer;
        GRANT INSERT (run_id, check_name, status, severity, value, threshold, detail, seconds)
            ON pipeline.check_results TO pipeline_writer;
        GRANT EXECUTE ON FUNCTION pipeline.ensure_partition(date) TO pipeline_writer;
        GRANT EXECUTE ON FUNCTION pipeline.summarize_days() TO pipeline_writer;
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

CALL pipeline.grant_to_roles();
