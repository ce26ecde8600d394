-- Supports a table that Citus distributes over several servers by account_id (kafka-consumer distribute).

-- Returns true if Citus distributes the table of the events.
CREATE FUNCTION pipeline.is_distributed() RETURNS boolean
    LANGUAGE plpgsql
    STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found boolean := false;
BEGIN
    IF to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = ''staging.product_events_raw''::regclass)'
            INTO found;
    END IF;
    RETURN found;
END
$$;

-- Waits until all that has committed so far is visible on the workers of a distributed table: rows and table partitions. A
-- transaction is prepared on all workers when the coordinator commits it, so the wait ends once the transactions that are
-- prepared now have ended. Fails after 75 s, longer than Citus takes by default to resolve a transaction that has lost its
-- connection.
CREATE FUNCTION pipeline.await_workers() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + interval '75 seconds';
    pending  text[];
    prepared text[];
    refusal  text;
BEGIN
    IF NOT pipeline.is_distributed() THEN
        RETURN;
    END IF;
    LOOP
        SELECT array_agg(format('%s:%s/%s', nodename, nodeport, gid)) FILTER (WHERE gid IS NOT NULL),
               min(format('%s:%s: %s', nodename, nodeport, result)) FILTER (WHERE NOT success)
        INTO prepared, refusal
        FROM run_command_on_workers($each$
            SELECT string_agg(gid, ' ') FROM pg_prepared_xacts
            WHERE database = current_database() AND starts_with(gid, 'citus_')
        $each$) LEFT JOIN LATERAL string_to_table(CASE WHEN success THEN result END, ' ') AS gid ON true;
        IF refusal IS NOT NULL THEN
            RAISE EXCEPTION 'cannot reach worker %', refusal USING ERRCODE = 'connection_failure';
        END IF;
        pending := ARRAY(SELECT unnest(prepared) INTERSECT SELECT unnest(coalesce(pending, prepared)));
        EXIT WHEN pending = '{}';
        IF clock_timestamp() > deadline THEN
            RAISE EXCEPTION 'transaction % is still prepared after 75 s, so not all rows are visible; Citus commits it once the coordinator reaches the worker (citus.recover_2pc_interval)', pending[1]
                USING ERRCODE = 'connection_failure';
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
END
$$;

-- Returns the names of an index's key columns, in the order of the index, and NULL for an expression.
CREATE FUNCTION pipeline.index_keys(index oid) RETURNS text[]
    LANGUAGE sql
    STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
SELECT array_agg(a.attname::text ORDER BY key.number)
FROM pg_index AS i
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS key (attnum, number)
LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = key.attnum
WHERE i.indexrelid = index AND key.number <= i.indnkeyatts
$$;

REVOKE ALL ON FUNCTION pipeline.index_keys(oid) FROM PUBLIC;

-- Creates the partition of a UTC day, unless an attached one holds the day. NULL for a day below the retention floor. The
-- floor is read first, because a day's table may still exist while retention drops it. It is raised under the same lock, so
-- no session creates a partition below it. The error names the obstacle to the partition, or its missing unique index.
-- In a distributed table, a unique index needs the distribution column. It comes second, so that new entries go to the
-- right end of the index.
CREATE OR REPLACE FUNCTION pipeline.ensure_partition(day date) RETURNS boolean
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO, YMD'
    SET lock_timeout = '10s'
AS $$
DECLARE
    leaf     name := 'product_events_raw_' || to_char(day, 'YYYYMMDD');
    since    timestamptz := day::timestamp AT TIME ZONE 'UTC';
    until    timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    keys     text := CASE WHEN pipeline.is_distributed() THEN 'event_id, account_id' ELSE 'event_id' END;
    part     oid;
    obstacle text;
    cause    text;
BEGIN
    IF day < (SELECT max(floor) FROM pipeline.retention_floors) THEN
        RETURN NULL;
    END IF;
    part := coalesce(pipeline.partition_of(day, leaf), pipeline.partition_of(day));
    IF part IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('event-pipeline: partitions of product_events_raw', 0));
        IF day < (SELECT max(floor) FROM pipeline.retention_floors) THEN
            RETURN NULL;
        END IF;
        part := pipeline.partition_of(day);
    END IF;
    IF part IS NOT NULL THEN
        IF EXISTS (SELECT FROM pg_index AS i
                   WHERE i.indrelid = part AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
                     AND pipeline.index_keys(i.indexrelid) = string_to_array(keys, ', ')) THEN
            RETURN false;
        END IF;
        RAISE EXCEPTION 'cannot use table partition % for %: it has no unique index on %; create one with CREATE UNIQUE INDEX ON % (%)',
            part::regclass, day, keys, part::regclass, keys USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    obstacle := pipeline.partition_obstacle(leaf, since, until);
    IF obstacle IS NOT NULL THEN
        RAISE EXCEPTION 'cannot create table partition staging.%: %', leaf, obstacle
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    BEGIN
        -- An identity column takes its values from the table's sequence.
        EXECUTE format('CREATE TABLE staging.%I (LIKE staging.product_events_raw INCLUDING ALL EXCLUDING IDENTITY)', leaf);
        IF EXISTS (SELECT FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relname = leaf || '_event_id') THEN
            EXECUTE format('CREATE UNIQUE INDEX ON staging.%I (%s)', leaf, keys);
        ELSE
            EXECUTE format('CREATE UNIQUE INDEX %I ON staging.%I (%s)', leaf || '_event_id', leaf, keys);
        END IF;
        -- A publication that publishes deletes makes PostgreSQL refuse them in a table without a replica identity.
        EXECUTE format('ALTER TABLE staging.%I REPLICA IDENTITY FULL', leaf);
        -- Attaching scans the new partition, which is empty, and the DEFAULT partition if there is one.
        EXECUTE format('ALTER TABLE staging.product_events_raw ATTACH PARTITION staging.%I FOR VALUES FROM (%L) TO (%L)',
                       leaf, since, until);
    EXCEPTION
        WHEN check_violation THEN
            SELECT partdefid::regclass INTO obstacle FROM pg_partitioned_table
            WHERE partrelid = 'staging.product_events_raw'::regclass AND partdefid <> 0;
            RAISE EXCEPTION 'cannot create table partition staging.%: rows of that day are in the DEFAULT partition %; detach it, create the partition, and insert the rows again',
                leaf, coalesce(obstacle, SQLERRM) USING ERRCODE = 'object_not_in_prerequisite_state';
        WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS cause = PG_EXCEPTION_DETAIL;
            obstacle := SQLERRM || coalesce(' (' || nullif(cause, '') || ')', '') || CASE SQLSTATE
                WHEN '42P17' THEN '; detach that partition'
                WHEN '42501' THEN format('; run ALTER TABLE staging.product_events_raw OWNER TO %I', current_user)
                ELSE ''
            END;
            RAISE EXCEPTION 'cannot create table partition staging.%: %', leaf, obstacle USING ERRCODE = SQLSTATE;
    END;
    RETURN true;
END
$$;

-- Updates the time indexes where rows were appended, on the servers that hold them. Runs as its owner, because PostgreSQL
-- requires the owner of an index for that.
CREATE OR REPLACE FUNCTION pipeline.summarize_days() RETURNS bigint
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ranges bigint;
BEGIN
    IF NOT pipeline.is_distributed() THEN
        RETURN (SELECT coalesce(sum(brin_summarize_new_values(leaf.indexrelid)), 0)
                FROM pg_inherits AS part
                JOIN pg_index AS leaf ON leaf.indrelid = part.inhrelid
                JOIN pg_inherits AS child ON child.inhrelid = leaf.indexrelid
                WHERE part.inhparent = 'staging.product_events_raw'::regclass AND NOT part.inhdetachpending
                  AND child.inhparent = 'staging.product_events_raw_by_time'::regclass);
    END IF;
    EXECUTE $sql$
        SELECT sum(shard.result::bigint)
        FROM pg_inherits AS part, LATERAL run_command_on_shards(part.inhrelid::regclass, $each$
            SELECT coalesce(sum(brin_summarize_new_values(i.indexrelid)), 0)
            FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS am ON am.oid = c.relam
            WHERE i.indrelid = %L::regclass AND am.amname = 'brin'
        $each$) AS shard
        WHERE part.inhparent = 'staging.product_events_raw'::regclass AND shard.success
    $sql$ INTO ranges;
    RETURN coalesce(ranges, 0);
END
$$;

-- The servers of a cluster have separate snapshots, so times identify the rows that a refinement has read.
ALTER TABLE pipeline.refinements ADD COLUMN unsettled tstzrange;

COMMENT ON COLUMN pipeline.refinements.unsettled IS
    'Of a distributed table: rows with an earlier ingested_at were included, rows with a later one were not. NULL: snapshot tells.';

-- As before, with the new column and functions.
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
        GRANT INSERT (as_of, hours_remade, users_changed, accounts_changed, unsettled) ON pipeline.refinements
            TO pipeline_writer;
        GRANT INSERT (run_id, check_name, status, severity, value, threshold, detail, seconds)
            ON pipeline.check_results TO pipeline_writer;
        GRANT EXECUTE ON FUNCTION pipeline.ensure_partition(date) TO pipeline_writer;
        GRANT EXECUTE ON FUNCTION pipeline.summarize_days(), pipeline.is_distributed(), pipeline.await_workers()
            TO pipeline_writer;
        -- To see whether the scripts that the program was built with are applied.
        GRANT SELECT ON public.event_pipeline_schema_history TO pipeline_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pipeline_reader') THEN
        GRANT USAGE ON SCHEMA staging, refined, pipeline TO pipeline_reader;
        GRANT EXECUTE ON FUNCTION pipeline.is_distributed(), pipeline.await_workers() TO pipeline_reader;
        GRANT SELECT ON public.event_pipeline_schema_history TO pipeline_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA staging, refined, pipeline TO pipeline_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA staging, refined, pipeline GRANT SELECT ON TABLES TO pipeline_reader;
    END IF;
END
$$;

CALL pipeline.grant_to_roles();
