-- Features derived from staging. A click is result_clicked or recommendation_clicked; a click-through rate is clicks
-- per search, and null where there was no search.
CREATE SCHEMA refined;

CREATE TABLE refined.user_features (
    user_id                 integer     PRIMARY KEY,
    searches_last_24h       bigint      NOT NULL,
    clicks_last_24h         bigint      NOT NULL,
    ctr_last_24h            double precision,
    last_activity_timestamp timestamptz NOT NULL,
    updated_at              timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE refined.account_features (
    account_id              integer     PRIMARY KEY,
    active_users_last_7d    bigint      NOT NULL,
    account_ctr_last_24h    double precision,
    most_viewed_category_7d text,
    updated_at              timestamptz NOT NULL DEFAULT now()
);
