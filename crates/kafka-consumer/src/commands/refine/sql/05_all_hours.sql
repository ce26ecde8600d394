-- Where all is made anew, the hours are those that there are rows of.
INSERT INTO refine_hours SELECT DISTINCT hour FROM refine_fresh ON CONFLICT DO NOTHING
