-- name: rows_counted
-- severity: error
-- threshold: 0
-- unit: rows
-- explanation: The table has fewer rows than consumers inserted, or more than consumers, rebuilds and replays inserted.
--   Rows were deleted or inserted by hand; load missing rows with `kafka-consumer rebuild`. Skipped once retention has
--   dropped days. After `offsets set`, only surplus rows are detected, because missing rows may have been read again.
WITH counts AS (
    SELECT (SELECT coalesce(sum(rows_inserted), 0) FROM pipeline.consumer_offsets) AS consumed,
           (SELECT coalesce(sum(suppressed), 0) FROM pipeline.consumer_offsets) AS suppressed,
           (SELECT coalesce(sum(rows_inserted), 0) FROM pipeline.rebuilt_files) AS rebuilt,
           (SELECT count(*) FROM pipeline.dead_letters WHERE replayed_at IS NOT NULL) AS replayed,
           {rows_present} AS present
)
SELECT CASE WHEN NOT EXISTS (SELECT 1 FROM pipeline.dropped_partitions) THEN
           greatest(CASE WHEN NOT EXISTS (SELECT 1 FROM pipeline.offset_changes) THEN {rows_consumed} - present END,
                    present - consumed - rebuilt - replayed, 0)
       END AS value,
       format('%s rows; %s by consumers, %s by rebuilds, at most %s by replays', present, consumed, rebuilt, replayed)
           || CASE WHEN suppressed > 0 THEN format('; triggers suppressed %s', suppressed) ELSE '' END AS detail
FROM counts
