-- What retention leaves behind: how far the table has been emptied, and which partitions are to go.
CREATE TABLE pipeline.retention_floors (
    floor  date        PRIMARY KEY,
    set_at timestamptz NOT NULL DEFAULT now(),
    set_by text        NOT NULL DEFAULT session_user
);

COMMENT ON TABLE pipeline.retention_floors IS
    'The latest floor counts: events of UTC days before it are not taken in any more, they count as expired.';

CREATE TABLE pipeline.dropped_partitions (
    partition_name text        PRIMARY KEY,
    noted_at       timestamptz NOT NULL DEFAULT now(),
    dropped_at     timestamptz
);

COMMENT ON COLUMN pipeline.dropped_partitions.dropped_at IS
    'NULL: it is to be detached and dropped, and the next `kafka-consumer retention` goes on with it.';

-- As before, and NULL for a day below the floor. The floor is asked for before anything else: a day's table may still be
-- there while retention is at work on it. It is raised under the same lock, so nobody makes a partition below it.
CREATE OR REPLACE FUNCTION pipeline.ensure_partition(day date) RETURNS boolean
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '10s'
AS $$
-- Asks pg_class and not to_regclass(): that one would answer from the session's cache after the lock was waited for.
DECLARE
    leaf  text := 'product_events_raw_' || to_char(day, 'YYYYMMDD');
    since timestamptz := day::timestamp AT TIME ZONE 'UTC';
    until timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF day < (SELECT max(floor) FROM pipeline.retention_floors) THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relname = leaf) THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('event-pipeline: partitions of product_events_raw', 0));
    IF day < (SELECT max(floor) FROM pipeline.retention_floors) THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relname = leaf) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE staging.%I (LIKE staging.product_events_raw INCLUDING ALL)', leaf);
    EXECUTE format('CREATE UNIQUE INDEX %I ON staging.%I (event_id)', leaf || '_event_id', leaf);
    -- With the bounds known beforehand, attaching does not scan.
    EXECUTE format('ALTER TABLE staging.%I ADD CONSTRAINT bounds CHECK (event_timestamp >= %L AND event_timestamp < %L)',
                   leaf, since, until);
    EXECUTE format('ALTER TABLE staging.product_events_raw ATTACH PARTITION staging.%I FOR VALUES FROM (%L) TO (%L)',
                   leaf, since, until);
    EXECUTE format('ALTER TABLE staging.%I DROP CONSTRAINT bounds', leaf);
    RETURN true;
END
$$;
