//! Selects dead letters.

use anyhow::Context;
use clap::ValueEnum;
use event_model::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::kafka::group_topic::GroupTopic;

/// State of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// Neither replayed nor discarded
    Open,
    /// Event inserted, or already in the table
    Replayed,
    /// Payload deleted
    Discarded,
    /// Any state
    All,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::All => "all",
        }
    }
}

/// Criteria that a dead letter must meet. An empty list or `None` matches all.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) group_topic: GroupTopic,
    /// Reason codes, of which any one matches.
    pub(crate) reasons: Vec<String>,
    pub(crate) partition: Option<i32>,
    /// Start of the time range in which the record was first seen, inclusive.
    pub(crate) since: Option<Timestamp>,
    /// End of the time range in which the record was first seen, exclusive.
    pub(crate) until: Option<Timestamp>,
    /// SQLSTATE with which PostgreSQL refused the row.
    pub(crate) sqlstate: Option<String>,
    /// Value of the record's `run` header.
    pub(crate) run: Option<String>,
    pub(crate) state: State,
    /// Maximum number of dead letters.
    pub(crate) limit: Option<i64>,
}

/// Condition on `pipeline.dead_letters` that is true if a [`Filter`] matches. Its parameters are `$1` to `$9`.
pub(crate) const MATCHES: &str = "consumer_group = $1 AND topic = $2
    AND (cardinality($3::text[]) = 0 OR reason_code = ANY ($3))
    AND ($4::integer IS NULL OR partition = $4)
    AND ($5::bigint IS NULL OR first_seen_at >= timestamptz 'epoch' + $5 * interval '1 microsecond')
    AND ($6::bigint IS NULL OR first_seen_at < timestamptz 'epoch' + $6 * interval '1 microsecond')
    AND ($7::text IS NULL OR sqlstate = $7)
    AND ($8::text IS NULL OR EXISTS (
        SELECT FROM unnest(header_names, header_values) AS header (name, value)
        WHERE name = 'run' AND value = convert_to($8, 'UTF8')))
    AND CASE $9::text WHEN 'open' THEN replayed_at IS NULL AND discarded_at IS NULL
                      WHEN 'replayed' THEN replayed_at IS NOT NULL
                      WHEN 'discarded' THEN discarded_at IS NOT NULL
                      ELSE true END";

/// Number of dead letters with the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReasonCount {
    pub(crate) reason_code: String,
    /// SQLSTATE, if PostgreSQL refused the row.
    pub(crate) sqlstate: Option<String>,
    pub(crate) count: i64,
}

impl Filter {
    /// Returns the values of `$1` to `$9` in [`MATCHES`].
    pub(crate) fn parameters(&self) -> Vec<Box<dyn ToSql + Sync + Send>> {
        vec![
            Box::new(self.group_topic.group.clone()),
            Box::new(self.group_topic.topic.clone()),
            Box::new(self.reasons.clone()),
            Box::new(self.partition),
            Box::new(self.since.map(Timestamp::micros)),
            Box::new(self.until.map(Timestamp::micros)),
            Box::new(self.sqlstate.clone()),
            Box::new(self.run.clone()),
            Box::new(self.state.as_str()),
        ]
    }

    /// Returns the parameters, followed by the limit as `$10`. `None` becomes NULL, which LIMIT treats as no limit.
    pub(crate) fn parameters_with_limit(&self) -> Vec<Box<dyn ToSql + Sync + Send>> {
        let mut all = self.parameters();
        all.push(Box::new(self.limit));
        all
    }

    /// Counts the matching dead letters by reason, the most frequent first. Ignores the limit.
    pub(crate) async fn count(&self, client: &Client) -> anyhow::Result<Vec<ReasonCount>> {
        let sql = format!(
            "SELECT reason_code, sqlstate, count(*) FROM pipeline.dead_letters WHERE {MATCHES}
             GROUP BY reason_code, sqlstate ORDER BY count(*) DESC, reason_code, sqlstate"
        );
        let parameters = self.parameters();
        let rows = client.query(&sql, &borrowed(&parameters)).await.context("cannot read the dead letters")?;
        let count = |row: &Row| ReasonCount { reason_code: row.get(0), sqlstate: row.get(1), count: row.get(2) };
        Ok(rows.iter().map(count).collect())
    }
}

/// Borrows parameters in the form that [`Client::query`] takes.
pub(crate) fn borrowed(parameters: &[Box<dyn ToSql + Sync + Send>]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|one| &**one as &(dyn ToSql + Sync)).collect()
}

/// Formats a reason code, followed by the SQLSTATE if there is one.
#[must_use]
pub(crate) fn with_sqlstate(reason_code: &str, sqlstate: Option<&str>) -> String {
    sqlstate.map_or_else(|| reason_code.to_owned(), |state| format!("{reason_code} {state}"))
}
