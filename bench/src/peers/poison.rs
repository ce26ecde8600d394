//! One record among twenty thousand that cannot become a row.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::sink::Candidate;
use super::stage::{Difference, Stage, Topic};

/// Number of events before the record, and after it.
const HALF: u64 = 10_000;
const START: Duration = Duration::from_mins(1);
/// A sink that inserts no row for this long is considered done.
const QUIET: Duration = Duration::from_secs(20);

/// Defect of the record.
#[derive(Clone, Copy)]
pub(crate) enum Poison {
    /// The JSON is truncated.
    Json,
    /// A text contains U+0000, which PostgreSQL rejects in any text.
    Nul,
    /// `user_id` does not fit into 32 bits.
    Range,
}

/// State of the table when the sink was done.
pub(crate) struct Outcome {
    difference: Difference,
    dead_letters: i64,
    runs: bool,
}

impl Poison {
    pub(crate) const ALL: [Self; 3] = [Self::Json, Self::Nul, Self::Range];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "truncated JSON",
            Self::Nul => "\\u0000 in text",
            Self::Range => "user_id 3000000000",
        }
    }

    fn value(self) -> String {
        let record = |user_id: &str, category: &str| {
            format!(
                r#"{{"event_id":"01900000-0000-7000-8000-000000000001","event_timestamp":"{}","event_type":"product_viewed","user_id":{user_id},"account_id":1,"product_id":1,"category":"{category}","experiment_id":"exp_1"}}"#,
                "2026-01-01T00:00:00Z"
            )
        };
        match self {
            Self::Json => record("1", "tools")[..120].to_owned(),
            Self::Nul => record("1", "to\\u0000ols"),
            Self::Range => record("3000000000", "tools"),
        }
    }

    /// Publishes a topic with the record in the middle.
    pub(crate) fn pour(self, stage: &Stage) -> Topic {
        let (topic, run) = match self {
            Self::Json => ("poison-json", "json"),
            Self::Nul => ("poison-nul", "nul"),
            Self::Range => ("poison-range", "range"),
        };
        stage.generate(topic, &format!("{run}-before"), HALF);
        stage.publish(topic, &self.value());
        stage.generate(topic, &format!("{run}-after"), HALF);
        stage.read_truth(topic, 2 * HALF)
    }
}

pub(crate) fn run(stage: &Stage, topic: &Topic, candidate: Candidate) -> Outcome {
    stage.clear();
    let table = candidate.keys.table();
    let source = stage.source(topic);
    let sink = candidate.start(stage, &source);
    stage.await_more(&sink, table, 0, START);
    stage.await_rest(candidate.keys, topic, QUIET);
    // Time for the sink to store a dead letter or to exit.
    std::thread::sleep(Duration::from_secs(2));
    let runs = !sink.has_ended();
    sink.kill();
    let outcome =
        Outcome { difference: stage.difference(table, topic), dead_letters: stage.dead_letters(&source), runs };
    eprintln!("poison: {candidate:<40} {}: {outcome}", source.topic);
    outcome
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { missing, doubled, foreign } = &self.difference;
        let mut parts = Vec::new();
        parts.push(if *missing == 0 { "all others inserted".to_owned() } else { format!("{missing} others missing") });
        if *doubled > 0 {
            parts.push(format!("{doubled} duplicates"));
        }
        parts.extend(foreign.iter().map(|user| format!("written with user_id {user}")));
        match self.dead_letters {
            0 => {}
            1 => parts.push("1 dead letter".to_owned()),
            letters => parts.push(format!("{letters} dead letters")),
        }
        if !self.runs {
            parts.push("sink exited".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}

impl Outcome {
    pub(crate) fn json(&self) -> Value {
        let Difference { missing, doubled, foreign } = &self.difference;
        json!({
            "others_missing": missing,
            "doubled": doubled,
            "written_with_user_id": foreign,
            "dead_letters": self.dead_letters,
            "runs": self.runs,
        })
    }
}
