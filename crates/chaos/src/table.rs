//! Additions of an owner to the table: triggers that refuse, suppress or redirect rows, and a second unique index.
//!
//! Each concerns only the foreign records that name it in `experiment_id`. It stays until the end, so a record that is
//! sent after it was added has one possible outcome, however late it is read.

use std::fmt;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::foreign::{Event, Outcome, REDIRECTED, REFUSED, SUPPRESSED, TWIN};

/// SQLSTATEs that the trigger raises, each for one row. The last three are those of transient errors.
const STATES: [&str; 18] = [
    "P0001", "P0002", "P0004", "22012", "22023", "23514", "23000", "42501", "42P01", "44000", "2F002", "38000",
    "U0001", "99001", "XX000", "40001", "53400", "55P03",
];
/// Number of additional rows that are refused in a burst, with the first SQLSTATE.
const BURST: usize = 150;
const PAIRS: usize = 20;
const SUPPRESSED_ROWS: usize = 50;

/// A writer may hold the table's lock for longer; the caller retries.
const LOCK: &str = "SET lock_timeout = '2s'";

/// Run once, before any fault. A writer may not insert into other tables, so `redirect` runs as its owner.
pub(crate) const PREPARE: &str = "
    CREATE SCHEMA chaos;
    CREATE TABLE chaos.redirected (event_id uuid NOT NULL);
    CREATE FUNCTION chaos.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'refused by chaos' USING ERRCODE = NEW.category;
    END $$;
    CREATE FUNCTION chaos.suppress() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RETURN NULL;
    END $$;
    CREATE FUNCTION chaos.redirect() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO chaos.redirected (event_id) VALUES (NEW.event_id);
        RETURN NULL;
    END $$";

/// An addition to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Refuse,
    Suppress,
    Redirect,
    SecondIndex,
}

impl Change {
    pub(crate) const ALL: [Self; 4] = [Self::Refuse, Self::Suppress, Self::Redirect, Self::SecondIndex];

    fn statement(self) -> String {
        let trigger = |name: &str, experiment: &str| {
            format!(
                "CREATE OR REPLACE TRIGGER chaos_{name} BEFORE INSERT ON staging.product_events_raw FOR EACH ROW
                 WHEN (NEW.experiment_id = '{experiment}') EXECUTE FUNCTION chaos.{name}()"
            )
        };
        match self {
            Self::Refuse => trigger("refuse", REFUSED),
            Self::Suppress => trigger("suppress", SUPPRESSED),
            Self::Redirect => trigger("redirect", REDIRECTED),
            Self::SecondIndex => format!(
                "CREATE UNIQUE INDEX IF NOT EXISTS chaos_twins ON staging.product_events_raw (event_timestamp, user_id)
                 WHERE experiment_id = '{TWIN}'"
            ),
        }
    }

    /// Adds the trigger or index, unless it exists. Returns false if the lock on the table timed out.
    pub(crate) async fn add(self, client: &Client) -> Result<bool, tokio_postgres::Error> {
        client.batch_execute(LOCK).await?;
        match client.batch_execute(&self.statement()).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Returns the events that the change concerns. Twins are adjacent.
    pub(crate) fn events(self) -> Vec<(Event, Outcome)> {
        let refused = |state| (Event::new(REFUSED, state), Outcome::Refused(state));
        match self {
            Self::Refuse => STATES.into_iter().chain([STATES[0]; BURST]).map(refused).collect(),
            Self::Suppress => {
                (0..SUPPRESSED_ROWS).map(|_| (Event::new(SUPPRESSED, "tools"), Outcome::Suppressed)).collect()
            }
            Self::Redirect => {
                (0..SUPPRESSED_ROWS).map(|_| (Event::new(REDIRECTED, "tools"), Outcome::Redirected)).collect()
            }
            Self::SecondIndex => (0..PAIRS)
                .flat_map(|_| {
                    let first = Event::new(TWIN, "tools");
                    let second = Event { at: first.at, user: first.user, ..Event::new(TWIN, "tools") };
                    [(first, Outcome::Twin), (second, Outcome::Twin)]
                })
                .collect(),
        }
    }
}

/// Removes all triggers and the index.
pub(crate) const REMOVE: &str = "
    DROP TRIGGER IF EXISTS chaos_refuse ON staging.product_events_raw;
    DROP TRIGGER IF EXISTS chaos_suppress ON staging.product_events_raw;
    DROP TRIGGER IF EXISTS chaos_redirect ON staging.product_events_raw;
    DROP INDEX IF EXISTS staging.chaos_twins";

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "trigger that refuses rows",
            Self::Suppress => "trigger that suppresses rows",
            Self::Redirect => "trigger that redirects rows",
            Self::SecondIndex => "second unique index",
        })
    }
}
