-- Work tables of a refinement. They are emptied at the end of its transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS refine_terms (
    as_of    timestamptz NOT NULL,
    previous timestamptz NOT NULL, -- end of the windows in the last refinement; -infinity recomputes everything
    floor    timestamptz NOT NULL, -- retention drops all earlier events
    day_ago  timestamptz NOT NULL,
    week_ago timestamptz NOT NULL,
    -- The first whole hours of the windows, and the hour in which both end.
    day_from  timestamptz NOT NULL,
    week_from timestamptz NOT NULL,
    last_hour timestamptz NOT NULL
) ON COMMIT DELETE ROWS;

CREATE TEMPORARY TABLE IF NOT EXISTS refine_hours (hour timestamptz PRIMARY KEY) ON COMMIT DELETE ROWS;

-- Rows of staging aggregated by hour: by user if category is null, by category if user_id is null.
CREATE TEMPORARY TABLE IF NOT EXISTS refine_fresh (
    hour       timestamptz NOT NULL,
    account_id integer     NOT NULL,
    user_id    integer,
    category   text,
    searches   bigint      NOT NULL,
    clicks     bigint      NOT NULL,
    views      bigint      NOT NULL,
    newest     timestamptz NOT NULL
) ON COMMIT DELETE ROWS;

-- The same for the partial hours at the ends of the windows: within the last hour, the day's first and the week's first.
CREATE TEMPORARY TABLE IF NOT EXISTS refine_edges (
    edge       text        NOT NULL,
    account_id integer     NOT NULL,
    user_id    integer,
    category   text,
    searches   bigint      NOT NULL,
    clicks     bigint      NOT NULL,
    views      bigint      NOT NULL,
    newest     timestamptz NOT NULL
) ON COMMIT DELETE ROWS;

CREATE TEMPORARY TABLE IF NOT EXISTS refine_users (user_id integer PRIMARY KEY) ON COMMIT DELETE ROWS;

CREATE TEMPORARY TABLE IF NOT EXISTS refine_accounts (account_id integer PRIMARY KEY) ON COMMIT DELETE ROWS;
