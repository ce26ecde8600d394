-- If everything is recomputed, the hours are those that have rows.
INSERT INTO refine_hours SELECT DISTINCT hour FROM refine_fresh ON CONFLICT DO NOTHING
