-- Offsets that a person has moved (`kafka-consumer offsets set`), one row a partition. Who and when are filled in here,
-- and a writer may not give them (see V008).
CREATE TABLE pipeline.offset_changes (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at     timestamptz NOT NULL DEFAULT now(),
    changed_by     text        NOT NULL DEFAULT session_user,
    client_address inet        DEFAULT inet_client_addr(),
    consumer_group text        NOT NULL,
    topic          text        NOT NULL,
    partition      integer     NOT NULL,
    from_offset    bigint      NOT NULL,
    to_offset      bigint      NOT NULL,
    target         text        NOT NULL,
    reason         text        NOT NULL CHECK (reason <> '')
);

COMMENT ON COLUMN pipeline.offset_changes.client_address IS 'NULL: a session over a socket of the server''s own machine.';
COMMENT ON COLUMN pipeline.offset_changes.target IS 'What was asked for, as it was written.';
