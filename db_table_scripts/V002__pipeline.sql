-- What the pipeline knows about itself. It changes in the transactions that change the rows.
CREATE SCHEMA pipeline;

CREATE TABLE pipeline.consumer_offsets (
    consumer_group       text        NOT NULL,
    topic                text        NOT NULL,
    partition            integer     NOT NULL CHECK (partition >= 0),
    topic_incarnation    integer     NOT NULL DEFAULT 1,
    next_offset          bigint      NOT NULL CHECK (next_offset >= 0),
    fingerprint_offset   bigint,
    fingerprint          bigint,
    records              bigint      NOT NULL DEFAULT 0,
    rows_inserted        bigint      NOT NULL DEFAULT 0,
    duplicates           bigint      NOT NULL DEFAULT 0,
    duplicates_differing bigint      NOT NULL DEFAULT 0,
    dead_letters         bigint      NOT NULL DEFAULT 0,
    expired              bigint      NOT NULL DEFAULT 0,
    updated_at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, topic, partition),
    CHECK (records = rows_inserted + duplicates + dead_letters + expired),
    CHECK (duplicates_differing <= duplicates),
    CHECK ((fingerprint_offset IS NULL) = (fingerprint IS NULL))
) WITH (fillfactor = 50); -- one row a partition, updated with every batch: room for updates within the page

COMMENT ON COLUMN pipeline.consumer_offsets.topic_incarnation IS
    'Counts how often the topic was deleted and made anew, as far as a person has accepted it.';
COMMENT ON COLUMN pipeline.consumer_offsets.next_offset IS
    'The offset from which the consumer goes on. Everything before it is a row, a duplicate, a dead letter or expired.';
COMMENT ON COLUMN pipeline.consumer_offsets.fingerprint IS
    'XXH3 (64 bits) of the last record: its offset, timestamp, key and value. Tells a topic that was made anew.';
COMMENT ON COLUMN pipeline.consumer_offsets.duplicates_differing IS
    'Those duplicates whose content is not that of the row with their event_id.';

CREATE TABLE pipeline.dead_letters (
    consumer_group    text        NOT NULL,
    topic             text        NOT NULL,
    topic_incarnation integer     NOT NULL,
    partition         integer     NOT NULL,
    "offset"          bigint      NOT NULL,
    record_timestamp  timestamptz,
    key               bytea,
    payload           bytea,
    header_names      text[]      NOT NULL DEFAULT '{}',
    header_values     bytea[]     NOT NULL DEFAULT '{}',
    stage             text        NOT NULL,
    reason_code       text        NOT NULL,
    reason            text        NOT NULL,
    sqlstate          text,
    first_seen_at     timestamptz NOT NULL DEFAULT now(),
    attempts          integer     NOT NULL DEFAULT 1,
    replayed_at       timestamptz,
    discarded_at      timestamptz,
    PRIMARY KEY (consumer_group, topic, topic_incarnation, partition, "offset"),
    CHECK (cardinality(header_names) = cardinality(header_values))
);

COMMENT ON COLUMN pipeline.dead_letters.stage IS
    'Where it was refused: validate (the rules of the event) or insert (PostgreSQL, see sqlstate).';
COMMENT ON COLUMN pipeline.dead_letters.header_values IS
    'Bytes as they came, in the order of header_names; NULL where the header has no value.';

CREATE INDEX dead_letters_by_time ON pipeline.dead_letters (first_seen_at);

-- Notes for the refinement: an hour whose rows changed. Appended by writers, eaten by the refinement.
CREATE TABLE pipeline.touched_hours (
    hour     timestamptz NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now()
);

-- Makes the partition of a UTC day, unless it is there. Runs with the rights of its owner, so that a writer needs no
-- right to create anything.
CREATE FUNCTION pipeline.ensure_partition(day date) RETURNS boolean
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
    IF EXISTS (SELECT FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relname = leaf) THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('event-pipeline: partitions of product_events_raw', 0));
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

REVOKE ALL ON FUNCTION pipeline.ensure_partition(date) FROM PUBLIC;
