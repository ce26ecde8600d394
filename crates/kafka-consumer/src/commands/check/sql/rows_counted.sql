-- name: rows_counted
-- severity: error
-- threshold: 0
-- unit: rows
-- explanation: The table has fewer rows than consumers have brought in, or more than they, rebuilds and replays of dead
--   letters have. Somebody has deleted or inserted by hand; `kafka-consumer rebuild` brings back what is gone. Skipped
--   where retention has taken days; after `offsets set` rows that are gone may have come again, so only more are found.
WITH counts AS (
    SELECT (SELECT coalesce(sum(rows_inserted), 0) FROM pipeline.consumer_offsets) AS consumed,
           (SELECT coalesce(sum(suppressed), 0) FROM pipeline.consumer_offsets) AS suppressed,
           (SELECT coalesce(sum(rows_inserted), 0) FROM pipeline.rebuilt_files) AS rebuilt,
           (SELECT count(*) FROM pipeline.dead_letters WHERE replayed_at IS NOT NULL) AS replayed,
           (SELECT count(*) FROM staging.product_events_raw) AS present
)
SELECT CASE WHEN NOT EXISTS (SELECT FROM pipeline.dropped_partitions) THEN
           greatest(CASE WHEN NOT EXISTS (SELECT FROM pipeline.offset_changes) THEN consumed - present END,
                    present - consumed - rebuilt - replayed, 0)
       END AS value,
       format('%s rows; %s by consumers, %s by rebuilds, at most %s by replays', present, consumed, rebuilt, replayed)
           || CASE WHEN suppressed > 0 THEN format('; triggers suppressed %s', suppressed) ELSE '' END AS detail
FROM counts
