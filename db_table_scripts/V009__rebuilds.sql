-- What `kafka-consumer rebuild` has brought in from the lake, so that one that was interrupted goes on where it stopped.
CREATE TABLE pipeline.rebuilds (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lake         text        NOT NULL,
    from_hour    timestamptz,
    to_hour      timestamptz,
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    started_by   text        NOT NULL DEFAULT session_user
);

COMMENT ON COLUMN pipeline.rebuilds.from_hour IS 'The first hour of event_timestamp; null: from the oldest.';
COMMENT ON COLUMN pipeline.rebuilds.to_hour IS 'The hour that is no longer part of it; null: to the newest.';

CREATE TABLE pipeline.rebuilt_files (
    rebuild_id    bigint      NOT NULL REFERENCES pipeline.rebuilds,
    key           text        NOT NULL,
    rows_inserted bigint      NOT NULL,
    duplicates    bigint      NOT NULL,
    expired       bigint      NOT NULL,
    rebuilt_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rebuild_id, key)
);

COMMENT ON TABLE pipeline.rebuilt_files IS
    'Files whose rows are in: a file''s row here was committed together with its rows.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pipeline_writer') THEN
        GRANT SELECT ON pipeline.rebuilds, pipeline.rebuilt_files TO pipeline_writer;
        GRANT INSERT (lake, from_hour, to_hour), UPDATE (finished_at) ON pipeline.rebuilds TO pipeline_writer;
        GRANT INSERT ON pipeline.rebuilt_files TO pipeline_writer;
    END IF;
END
$$;
