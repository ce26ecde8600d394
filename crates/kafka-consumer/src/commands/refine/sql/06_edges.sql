-- The parts of hours at which the windows begin or end come from the rows themselves.
INSERT INTO refine_edges
SELECT edges.edge, part.*
FROM refine_terms AS terms
CROSS JOIN LATERAL (
    VALUES ('last', greatest(last_hour, floor), as_of),
           -- The first instant of a window is no part of it, its last one is.
           ('day', greatest(day_ago + interval '1 microsecond', floor), day_from - interval '1 microsecond'),
           ('week', greatest(week_ago + interval '1 microsecond', floor), week_from - interval '1 microsecond')
) AS edges (edge, since, until)
CROSS JOIN LATERAL (
    SELECT account_id, user_id, category,
           count(*) FILTER (WHERE event_type = 'search_performed'),
           count(*) FILTER (WHERE event_type IN ('result_clicked', 'recommendation_clicked')),
           count(*) FILTER (WHERE event_type = 'product_viewed'),
           max(event_timestamp)
    FROM staging.product_events_raw
    WHERE event_timestamp >= edges.since AND event_timestamp <= edges.until
    GROUP BY GROUPING SETS ((account_id, user_id), (account_id, category))
) AS part
