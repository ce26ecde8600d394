-- $1: number of users whose features changed, $2: number of accounts, $3: begin of the oldest transaction of a distributed
-- table that the refinement may have missed. Returns the outcome.
INSERT INTO pipeline.refinements (as_of, hours_remade, users_changed, accounts_changed, unsettled)
SELECT as_of, (SELECT count(*) FROM refine_hours), $1::bigint, $2::bigint,
       CASE WHEN $3::timestamptz IS NOT NULL THEN tstzrange($3, clock_timestamp()) END
FROM refine_terms
RETURNING to_char(as_of AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), hours_remade,
          (SELECT count(*) FROM refine_users), (SELECT count(*) FROM refine_accounts)
