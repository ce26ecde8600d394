//! Kills a sink with `kill -9` in the middle of the topic and restarts it at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::sink::Candidate;
use super::stage::{Difference, Stage, Topic};

/// Deadline for a sink to start and write its first row. A consumer group waits up to 45 s for a member that died.
const TIMEOUT: Duration = Duration::from_mins(3);
/// A sink that inserts no row for this long is considered done.
const QUIET: Duration = Duration::from_secs(30);

/// State of the table when the sink was done.
pub(crate) struct Outcome {
    difference: Difference,
    next_row: Option<Duration>,
}

pub(crate) fn run(stage: &Stage, topic: &Topic, candidate: Candidate) -> Outcome {
    stage.clear();
    let table = candidate.keys.table();
    let source = stage.source(topic);
    let sink = candidate.start(stage, &source);
    assert!(stage.await_more(&sink, table, topic.bytes() / 2, TIMEOUT), "{candidate} exited:\n{}", stage.said(&source));
    sink.kill();
    // Statements already sent to the server may still commit.
    std::thread::sleep(Duration::from_millis(300));
    let bytes = stage.bytes(table);
    let began = Instant::now();
    let sink = candidate.start(stage, &source);
    let next_row = stage.await_more(&sink, table, bytes, TIMEOUT).then(|| began.elapsed());
    stage.await_rest(candidate.keys, topic, QUIET);
    sink.kill();
    let outcome = Outcome { difference: stage.difference(table, topic), next_row };
    eprintln!("kill -9: {candidate:<40} {}", outcome.cells().join(", "));
    outcome
}

impl Outcome {
    /// Returns the lost rows, the duplicates and the seconds to the next row.
    pub(crate) fn cells(&self) -> Vec<String> {
        let Difference { missing, doubled, .. } = self.difference;
        let seconds = self.next_row.map_or("never".to_owned(), |time| format!("{:.1}", time.as_secs_f64()));
        vec![missing.to_string(), doubled.to_string(), seconds]
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "lost": self.difference.missing,
            "doubled": self.difference.doubled,
            "seconds_to_next_row": self.next_row.map(|time| time.as_secs_f64()),
        })
    }
}
