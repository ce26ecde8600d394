-- $1: as-of, null for now; $2: true to recompute everything.
INSERT INTO refine_terms
SELECT as_of, previous, floor, as_of - interval '1 day', as_of - interval '7 days',
       date_bin('1 hour', as_of - interval '1 day', 'epoch') + interval '1 hour',
       date_bin('1 hour', as_of - interval '7 days', 'epoch') + interval '1 hour',
       date_bin('1 hour', as_of, 'epoch')
FROM (SELECT coalesce($1::text::timestamptz, now()) AS as_of,
             coalesce((SELECT r.as_of FROM pipeline.refinements AS r WHERE NOT $2::boolean ORDER BY r.id DESC LIMIT 1),
                      '-infinity') AS previous,
             coalesce((SELECT max(f.floor)::timestamp AT TIME ZONE 'UTC' FROM pipeline.retention_floors AS f),
                      '-infinity') AS floor) AS asked
