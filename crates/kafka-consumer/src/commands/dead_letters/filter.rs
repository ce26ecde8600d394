//! Which dead letters are meant.

use anyhow::Context;
use clap::ValueEnum;
use event_model::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::kafka::group_topic::GroupTopic;

/// What has become of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// Nothing yet
    Open,
    /// Its event is in the table
    Replayed,
    /// Its payload was let go
    Discarded,
    /// Any of these
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

/// A choice of dead letters; what is left open chooses nothing away.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Whose, and of which topic.
    pub(crate) group_topic: GroupTopic,
    /// Any of these reason codes.
    pub(crate) reasons: Vec<String>,
    /// Of this partition.
    pub(crate) partition: Option<i32>,
    /// First seen at this time or later.
    pub(crate) since: Option<Timestamp>,
    /// First seen before this time.
    pub(crate) until: Option<Timestamp>,
    /// Refused by PostgreSQL with this code.
    pub(crate) sqlstate: Option<String>,
    /// With this run tag in their header.
    pub(crate) run: Option<String>,
    /// What has become of them.
    pub(crate) state: State,
    /// So many at most.
    pub(crate) limit: Option<i64>,
}

/// The choice as a condition on `pipeline.dead_letters`, of the parameters $1 to $9.
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

/// How many there are of one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReasonCount {
    /// The reason code.
    pub(crate) reason_code: String,
    /// PostgreSQL's code, where it was PostgreSQL that refused.
    pub(crate) sqlstate: Option<String>,
    /// How many.
    pub(crate) count: i64,
}

impl Filter {
    /// The values of $1 to $9.
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

    /// The same, with the limit as $10; without one PostgreSQL takes NULL for all.
    pub(crate) fn parameters_with_limit(&self) -> Vec<Box<dyn ToSql + Sync + Send>> {
        let mut all = self.parameters();
        all.push(Box::new(self.limit));
        all
    }

    /// How many match, by reason, the most frequent first. The limit is not looked at.
    pub(crate) async fn count(&self, client: &Client) -> anyhow::Result<Vec<ReasonCount>> {
        let sql = format!(
            "SELECT reason_code, sqlstate, count(*) FROM pipeline.dead_letters WHERE {MATCHES}
             GROUP BY reason_code, sqlstate ORDER BY count(*) DESC, reason_code, sqlstate"
        );
        let parameters = self.parameters();
        let rows = client.query(&sql, &borrowed(&parameters)).await.context("the dead letters cannot be read")?;
        let count = |row: &Row| ReasonCount { reason_code: row.get(0), sqlstate: row.get(1), count: row.get(2) };
        Ok(rows.iter().map(count).collect())
    }
}

/// Parameters as the client takes them.
pub(crate) fn borrowed(parameters: &[Box<dyn ToSql + Sync + Send>]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|one| &**one as &(dyn ToSql + Sync)).collect()
}

/// A reason with PostgreSQL's code, for people.
#[must_use]
pub(crate) fn with_sqlstate(reason_code: &str, sqlstate: Option<&str>) -> String {
    sqlstate.map_or_else(|| reason_code.to_owned(), |state| format!("{reason_code} {state}"))
}
