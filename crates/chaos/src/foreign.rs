//! Records of a foreign producer and their expected outcomes.

use std::collections::HashMap;

use anyhow::Context;
use jiff::Timestamp;
use rand::RngExt;
use tokio_postgres::Client;
use uuid::Uuid;

use local_stack::raw_producer::RawRecord;

/// Values of `experiment_id` that select the records for the triggers and the index of `table`.
pub(crate) const REFUSED: &str = "chaos_refused";
pub(crate) const SUPPRESSED: &str = "chaos_suppressed";
pub(crate) const REDIRECTED: &str = "chaos_redirected";
pub(crate) const TWIN: &str = "chaos_twin";
/// `experiment_id` of records that no trigger or index concerns.
const PLAIN: &str = "chaos_plain";

/// Maximum number of differences in a finding.
const TOLD: usize = 5;

/// Expected outcome of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A row in the table.
    Row,
    /// A dead letter, because the event is invalid.
    Invalid,
    /// A dead letter with this SQLSTATE, until the table accepts the row.
    Refused(&'static str),
    /// Neither a row nor a dead letter.
    Suppressed,
    /// A row in the table that a trigger redirects to.
    Redirected,
    /// A row, or a dead letter if its twin is the row.
    Twin,
    /// Nothing, because the transaction was aborted.
    Aborted,
}

/// An acknowledged record.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) id: Uuid,
    pub(crate) outcome: Outcome,
    /// Partition and offset; `None` for a record of a transaction.
    pub(crate) offset: Option<(i32, i64)>,
}

/// Records sent for one fault.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Row of the fault in the report.
    pub(crate) kind: String,
    pub(crate) sent: Vec<Sent>,
    /// Set if the fault was observed. Otherwise matching outcomes of all records prove it.
    pub(crate) proved: bool,
}

/// State of a record in PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    rows: i64,
    redirected: i64,
    letters: Vec<Letter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Letter {
    place: (i32, i64),
    sqlstate: Option<String>,
    replayed: bool,
}

/// A valid event that is sent as JSON. Twins share their time and user.
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) at: Timestamp,
    pub(crate) user: u32,
    pub(crate) category: &'static str,
    pub(crate) experiment: &'static str,
}

impl Event {
    pub(crate) fn new(experiment: &'static str, category: &'static str) -> Self {
        let random: u128 = rand::rng().random();
        let id = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
        let user = rand::rng().random_range(1..1_000_000);
        Self { id, at: Timestamp::now(), user, category, experiment }
    }

    /// Returns an event that the table accepts.
    pub(crate) fn plain() -> Self {
        Self::new(PLAIN, "tools")
    }

    pub(crate) fn json(&self) -> Vec<u8> {
        let Self { id, at, user, category, experiment } = self;
        format!(
            r#"{{"event_id":"{id}","event_timestamp":"{at:.6}","event_type":"rfq_sent","user_id":{user},"account_id":2,"product_id":3,"category":"{category}","experiment_id":"{experiment}"}}"#
        )
        .into_bytes()
    }

    /// Returns the event's record for a partition, with the current time as timestamp and the event ID as key.
    pub(crate) fn record(&self, partition: i32) -> RawRecord {
        let timestamp = Timestamp::now().as_millisecond();
        RawRecord { partition, timestamp, key: Some(key(self.id)), value: self.json(), headers: Vec::new() }
    }
}

fn key(id: Uuid) -> Vec<u8> {
    id.to_string().into_bytes()
}

/// All records of foreign producers.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    batches: Vec<Batch>,
}

/// Result of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Kinds of faults that the comparison proves.
    pub(crate) proved: Vec<String>,
    /// Records with an unexpected outcome.
    pub(crate) wrong: Vec<String>,
}

impl Foreign {
    pub(crate) fn add(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    /// Returns the IDs of events whose rows a trigger suppresses or redirects.
    pub(crate) fn suppressed(&self) -> impl Iterator<Item = Uuid> {
        let kept_out = |one: &&Sent| matches!(one.outcome, Outcome::Suppressed | Outcome::Redirected);
        self.batches.iter().flat_map(|batch| &batch.sent).filter(kept_out).map(|one| one.id)
    }

    /// Compares each record with PostgreSQL.
    ///
    /// With `replayed`, the table accepts all rows and dead letters were replayed, so refused records must be rows.
    pub(crate) async fn compare(&mut self, client: &Client, replayed: bool) -> anyhow::Result<Compared> {
        let all = self.batches.iter().flat_map(|batch| &batch.sent).map(|one| one.id);
        let seen = look(client, all).await.context("cannot look up the foreign records")?;
        let mut compared = Compared::default();
        for batch in &mut self.batches {
            let wrong = batch.differences(&seen, replayed);
            if wrong.is_empty() && !batch.proved {
                batch.proved = true;
                compared.proved.push(batch.kind.clone());
            }
            compared.wrong.extend(wrong);
        }
        Ok(compared)
    }
}

impl Compared {
    /// Returns the number of differences and the first of them, or `None` if there are none.
    pub(crate) fn findings(&self) -> Option<String> {
        let count = self.wrong.len();
        (count > 0).then(|| format!("{count} differences: {}", self.wrong[..count.min(TOLD)].join("; ")))
    }
}

impl Batch {
    fn differences(&self, seen: &HashMap<Uuid, Seen>, replayed: bool) -> Vec<String> {
        let of = |one: &Sent| seen.get(&one.id).cloned().unwrap_or_default();
        let told = |one: &Sent, what: String| {
            let place = one.offset.map_or_else(String::new, |(partition, offset)| format!(" at {partition}/{offset}"));
            format!("{}, {}{place} ({:?}): {what}", self.kind, one.id, one.outcome)
        };
        let mut wrong: Vec<String> =
            self.sent.iter().filter_map(|one| Some(told(one, differs(one, &of(one), replayed)?))).collect();
        // Twins were sent as consecutive records.
        let twins: Vec<&Sent> = self.sent.iter().filter(|one| one.outcome == Outcome::Twin).collect();
        for pair in twins.chunks(2) {
            let rows: i64 = pair.iter().map(|one| of(one).rows).sum();
            let expected = if replayed { 2 } else { 1 };
            if rows != expected {
                wrong.push(told(pair[0], format!("{rows} rows of two twins instead of {expected}")));
            }
        }
        wrong
    }
}

/// Returns the state of a record in PostgreSQL if it contradicts the expected outcome.
fn differs(one: &Sent, seen: &Seen, replayed: bool) -> Option<String> {
    let Seen { rows, redirected, letters } = seen;
    let right = match (one.outcome, letters.as_slice()) {
        // `Batch::differences` counts the rows of both twins.
        (Outcome::Row | Outcome::Twin, []) => *rows == 1,
        (Outcome::Aborted, []) => *rows == 0,
        (Outcome::Suppressed, []) => (*rows, *redirected) == (0, 0),
        (Outcome::Redirected, []) => (*rows, *redirected) == (0, 1),
        (Outcome::Invalid, [letter]) => {
            *rows == 0 && letter.sqlstate.is_none() && Some(letter.place) == one.offset && !letter.replayed
        }
        (Outcome::Refused(state), [letter]) => {
            let is_letter = letter.sqlstate.as_deref() == Some(state) && Some(letter.place) == one.offset;
            is_letter && letter.replayed == replayed && *rows == i64::from(replayed)
        }
        (Outcome::Twin, [letter]) => {
            let is_letter = letter.sqlstate.as_deref() == Some("23505") && Some(letter.place) == one.offset;
            is_letter && letter.replayed == replayed && *rows == i64::from(replayed)
        }
        _ => false,
    };
    (!right).then(|| format!("{seen:?}"))
}

const ROWS: &str = "SELECT event_id, count(*) FROM staging.product_events_raw
    WHERE event_id = ANY ($1::text[]::uuid[]) GROUP BY event_id";
const REDIRECTED_ROWS: &str = "SELECT event_id, count(*) FROM chaos.redirected
    WHERE event_id = ANY ($1::text[]::uuid[]) GROUP BY event_id";
const LETTERS: &str = r#"SELECT convert_from(key, 'UTF8')::uuid, partition, "offset", sqlstate, replayed_at IS NOT NULL
    FROM pipeline.dead_letters WHERE key = ANY (SELECT convert_to(id, 'UTF8') FROM unnest($1::text[]) AS id)"#;

async fn look(client: &Client, ids: impl Iterator<Item = Uuid>) -> anyhow::Result<HashMap<Uuid, Seen>> {
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    let mut all: HashMap<Uuid, Seen> = HashMap::new();
    for row in client.query(ROWS, &[&ids]).await? {
        all.entry(row.get(0)).or_default().rows = row.get(1);
    }
    for row in client.query(REDIRECTED_ROWS, &[&ids]).await? {
        all.entry(row.get(0)).or_default().redirected = row.get(1);
    }
    for row in client.query(LETTERS, &[&ids]).await? {
        let letter = Letter { place: (row.get(1), row.get(2)), sqlstate: row.get(3), replayed: row.get(4) };
        all.entry(row.get(0)).or_default().letters.push(letter);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(outcome: Outcome) -> Sent {
        Sent { id: Uuid::nil(), outcome, offset: Some((3, 17)) }
    }

    fn seen(rows: i64, letters: &[(&str, bool)]) -> Seen {
        let letter = |(state, replayed): &(&str, bool)| Letter {
            place: (3, 17),
            sqlstate: (!state.is_empty()).then(|| (*state).to_owned()),
            replayed: *replayed,
        };
        Seen { rows, redirected: 0, letters: letters.iter().map(letter).collect() }
    }

    #[test]
    fn each_outcome_is_seen_in_one_way_only() {
        let refused = Outcome::Refused("P0001");
        let right = [
            (Outcome::Row, false, seen(1, &[])),
            (Outcome::Invalid, true, seen(0, &[("", false)])),
            (refused, false, seen(0, &[("P0001", false)])),
            (refused, true, seen(1, &[("P0001", true)])),
            (Outcome::Suppressed, true, seen(0, &[])),
            (Outcome::Redirected, true, Seen { redirected: 1, ..Seen::default() }),
            (Outcome::Twin, false, seen(1, &[])),
            (Outcome::Twin, false, seen(0, &[("23505", false)])),
            (Outcome::Twin, true, seen(1, &[("23505", true)])),
            (Outcome::Aborted, false, seen(0, &[])),
        ];
        for (outcome, replayed, seen) in right {
            assert_eq!(differs(&sent(outcome), &seen, replayed), None, "{outcome:?}");
        }
        let wrong = [
            (Outcome::Row, seen(0, &[])),
            (Outcome::Row, seen(2, &[])),
            (Outcome::Row, seen(1, &[("", false)])),
            (Outcome::Invalid, seen(0, &[])),
            (Outcome::Invalid, seen(0, &[("", false), ("", false)])),
            (refused, seen(0, &[("42501", false)])),
            (refused, seen(1, &[("P0001", false)])),
            (refused, seen(0, &[])),
            (Outcome::Suppressed, seen(1, &[])),
            (Outcome::Redirected, seen(0, &[])),
            (Outcome::Redirected, Seen { redirected: 2, ..Seen::default() }),
            (Outcome::Twin, seen(0, &[])),
            (Outcome::Aborted, seen(1, &[])),
        ];
        for (outcome, seen) in wrong {
            assert!(differs(&sent(outcome), &seen, false).is_some(), "{outcome:?}, {seen:?}");
        }
        let elsewhere = Sent { offset: Some((3, 18)), ..sent(Outcome::Invalid) };
        assert!(differs(&elsewhere, &seen(0, &[("", false)]), false).is_some());
    }

    #[test]
    fn one_of_two_twins_is_a_row() {
        let twins = [1, 2].map(|number| Sent { id: Uuid::from_u128(number), ..sent(Outcome::Twin) });
        let batch = Batch { kind: "fault".to_owned(), sent: twins.to_vec(), proved: false };
        let found = |rows: [Seen; 2], replayed| {
            batch.differences(&twins.iter().map(|twin| twin.id).zip(rows).collect(), replayed).len()
        };
        let [row, open, replayed] = [seen(1, &[]), seen(0, &[("23505", false)]), seen(1, &[("23505", true)])];
        assert_eq!(found([row.clone(), open.clone()], false), 0);
        assert_eq!(found([row.clone(), replayed], true), 0);
        assert_eq!(found([row.clone(), row], false), 1);
        assert_eq!(found([open.clone(), open], false), 1);
    }
}
