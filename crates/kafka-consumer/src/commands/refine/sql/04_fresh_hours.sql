-- The rows of the touched hours, by user or by category; hours that follow each other are read as one range.
INSERT INTO refine_fresh
SELECT fresh.*
FROM (SELECT min(hour) AS since, max(hour) + interval '1 hour' AS until
      FROM (SELECT hour, hour - row_number() OVER (ORDER BY hour) * interval '1 hour' AS island
            FROM refine_hours WHERE (SELECT previous > '-infinity' FROM refine_terms)) AS numbered
      GROUP BY island
      UNION ALL
      SELECT floor, 'infinity' FROM refine_terms WHERE previous = '-infinity') AS ranges
CROSS JOIN LATERAL (
    SELECT date_bin('1 hour', event_timestamp, 'epoch') AS hour, account_id, {user_id}, {category},
           count(*) FILTER (WHERE event_type = 'search_performed'),
           count(*) FILTER (WHERE event_type IN ('result_clicked', 'recommendation_clicked')),
           count(*) FILTER (WHERE event_type = 'product_viewed'),
           max(event_timestamp)
    FROM staging.product_events_raw
    WHERE event_timestamp >= ranges.since AND event_timestamp < ranges.until
      AND event_timestamp >= (SELECT floor FROM refine_terms)
    GROUP BY 1, 2, 3, 4
) AS fresh
