-- Creates the partition of a day ahead of its events, beside the additions of the table's owner.

-- Returns the attached partition that holds a whole UTC day, or NULL. With a name, only that one is considered. The DEFAULT
-- partition and one whose detachment is pending hold no day.
CREATE FUNCTION pipeline.partition_of(day date, named name DEFAULT NULL) RETURNS oid
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO, YMD'
AS $$
SELECT part.oid
FROM pg_inherits AS i JOIN pg_class AS part ON part.oid = i.inhrelid, pg_get_expr(part.relpartbound, part.oid) AS bounds
WHERE i.inhparent = 'staging.product_events_raw'::regclass AND NOT i.inhdetachpending
  AND (named IS NULL OR (part.relname = named AND part.relnamespace = 'staging'::regnamespace))
  AND (bounds LIKE '%FROM (MINVALUE)%'
       OR substring(bounds FROM 'FROM [(]''([^'']+)''[)]')::timestamptz <= day::timestamp AT TIME ZONE 'UTC')
  AND (bounds LIKE '%TO (MAXVALUE)%'
       OR substring(bounds FROM 'TO [(]''([^'']+)''[)]')::timestamptz >= (day + 1)::timestamp AT TIME ZONE 'UTC')
LIMIT 1
$$;

REVOKE ALL ON FUNCTION pipeline.partition_of(date, name) FROM PUBLIC;

-- Describes the relation that occupies the name of a partition, and the remedy. NULL: there is none.
CREATE FUNCTION pipeline.partition_obstacle(leaf name, since timestamptz, until timestamptz) RETURNS text
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO, YMD'
AS $$
SELECT CASE
    WHEN i.inhdetachpending THEN format('its detachment is pending; complete it with ALTER TABLE staging.product_events_raw DETACH PARTITION staging.%I FINALIZE, then rename or drop it', leaf)
    WHEN i.inhparent IS NOT NULL THEN format('it is attached with other bounds, %s; detach it, and rename or drop it', pg_get_expr(c.relpartbound, c.oid))
    WHEN c.relkind IN ('r', 'p') THEN format('a table of that name is not attached; attach it with ALTER TABLE staging.product_events_raw ATTACH PARTITION staging.%I FOR VALUES FROM (%L) TO (%L), or rename it', leaf, since, until)
    ELSE format('%s of that name exists; rename it', CASE c.relkind
        WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view' WHEN 'S' THEN 'a sequence'
        WHEN 'f' THEN 'a foreign table' WHEN 'c' THEN 'a composite type' ELSE 'an index' END)
    END
FROM pg_class AS c
LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid AND i.inhparent = 'staging.product_events_raw'::regclass
WHERE c.relnamespace = 'staging'::regnamespace AND c.relname = leaf
$$;

REVOKE ALL ON FUNCTION pipeline.partition_obstacle(name, timestamptz, timestamptz) FROM PUBLIC;

-- Creates the partition of a UTC day, unless an attached one holds the day. NULL for a day below the retention floor. The
-- floor is read first, because a day's table may still exist while retention drops it. It is raised under the same lock, so
-- no session creates a partition below it. The error names the obstacle to the partition, or its missing unique index.
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
        IF EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS key ON key.attrelid = i.indrelid AND key.attnum = i.indkey[0]
                   WHERE i.indrelid = part AND key.attname = 'event_id' AND i.indnkeyatts = 1
                     AND i.indisunique AND i.indisvalid AND i.indpred IS NULL) THEN
            RETURN false;
        END IF;
        RAISE EXCEPTION 'cannot use table partition % for %: it has no unique index on event_id; create one with CREATE UNIQUE INDEX ON % (event_id)',
            part::regclass, day, part::regclass USING ERRCODE = 'object_not_in_prerequisite_state';
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
            EXECUTE format('CREATE UNIQUE INDEX ON staging.%I (event_id)', leaf);
        ELSE
            EXECUTE format('CREATE UNIQUE INDEX %I ON staging.%I (event_id)', leaf || '_event_id', leaf);
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
