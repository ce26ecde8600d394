-- What a refinement works with; empty again at the end of its transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS refine_terms (
    as_of    timestamptz NOT NULL,
    previous timestamptz NOT NULL, -- where the windows ended last time; -infinity: all is made anew
    floor    timestamptz NOT NULL, -- what is before it, retention has taken or will
    day_ago  timestamptz NOT NULL,
    week_ago timestamptz NOT NULL,
    -- The first whole hours of the windows, and the hour in which both end.
    day_from  timestamptz NOT NULL,
    week_from timestamptz NOT NULL,
    last_hour timestamptz NOT NULL
) ON COMMIT DELETE ROWS;

CREATE TEMPORARY TABLE IF NOT EXISTS refine_hours (hour timestamptz PRIMARY KEY) ON COMMIT DELETE ROWS;

-- Rows of staging brought together by hour; by user where category is null, by category where user_id is.
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

-- The same of the parts of hours at which a window begins or ends: within the last hour, the day's first, the week's first.
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
