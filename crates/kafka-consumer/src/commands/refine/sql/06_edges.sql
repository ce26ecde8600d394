-- The parts of hours at which the windows begin or end come from the rows themselves, by user or by category.
INSERT INTO refine_edges
SELECT edges.edge, part.*
FROM (
    SELECT 'last' AS edge, greatest(last_hour, floor) AS since, as_of AS until FROM refine_terms
    UNION ALL
    -- The first instant of a window is no part of it, its last one is.
    SELECT 'day', greatest(day_ago + interval '1 microsecond', floor), day_from - interval '1 microsecond'
    FROM refine_terms
    UNION ALL
    SELECT 'week', greatest(week_ago + interval '1 microsecond', floor), week_from - interval '1 microsecond'
    FROM refine_terms
) AS edges
CROSS JOIN LATERAL (
    SELECT account_id, {user_id}, {category},
           count(*) FILTER (WHERE event_type = 'search_performed'),
           count(*) FILTER (WHERE event_type IN ('result_clicked', 'recommendation_clicked')),
           count(*) FILTER (WHERE event_type = 'product_viewed'),
           max(event_timestamp)
    FROM staging.product_events_raw
    WHERE event_timestamp >= edges.since AND event_timestamp <= edges.until
    GROUP BY 1, 2, 3
) AS part
