-- The events as they came, one row each, kept by UTC day.
CREATE SCHEMA staging;

CREATE TABLE staging.product_events_raw (
    event_id        uuid        NOT NULL,
    event_timestamp timestamptz NOT NULL,
    event_type      text        NOT NULL,
    user_id         integer     NOT NULL,
    account_id      integer     NOT NULL,
    product_id      integer     NOT NULL,
    category        text        NOT NULL,
    experiment_id   text        NOT NULL,
    ingested_at     timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (event_timestamp);

COMMENT ON TABLE staging.product_events_raw IS
    'Product events, partitioned by the UTC day of event_timestamp. An event_id is unique within a day: each partition has its own unique index, which is all that PostgreSQL can enforce without the day in the key.';

-- The event with the partition columns that its files in the lake have.
CREATE VIEW staging.product_events AS
SELECT raw.*,
       (raw.event_timestamp AT TIME ZONE 'UTC')::date              AS event_date,
       to_char(raw.event_timestamp AT TIME ZONE 'UTC', 'HH24')     AS hour
FROM staging.product_events_raw AS raw;
