//! Throughput, CPU time and memory of one sink.

use std::time::{Duration, Instant};

use super::sink::{Candidate, Sink};
use super::stage::{LOOK, Stage, Topic};
use crate::run::Run;
use crate::usage;
use crate::watched::Watched;

/// Deadline for the start of a sink, and for all rows.
const TIMEOUT: Duration = Duration::from_mins(10);

pub(crate) fn run(stage: &Stage, topic: &Topic, candidate: Candidate) -> Run {
    stage.clear();
    let run =
        if candidate.sink == Sink::PsqlCopy { copy(stage, topic, candidate) } else { follow(stage, topic, candidate) };
    stage.compare(candidate.keys.table(), topic);
    run
}

/// Measures from the first block of the table until the last row is visible.
fn follow(stage: &Stage, topic: &Topic, candidate: Candidate) -> Run {
    let table = candidate.keys.table();
    let source = stage.source(topic);
    let sink = candidate.start(stage, &source);
    assert!(stage.await_more(&sink, table, 0, TIMEOUT), "{candidate} wrote no row:\n{}", stage.said(&source));
    let seconds = || (usage::cpu_seconds(sink.pid), usage::postgres_seconds(&stage.environment.stack));
    let (began, before) = (Instant::now(), seconds());
    let (ended, after) = loop {
        assert!(began.elapsed() < TIMEOUT && !sink.has_ended(), "{candidate} exited:\n{}", stage.said(&source));
        if stage.seems_complete(candidate.keys, topic) {
            // Taken before counting, which takes a while and is not part of the sink's work.
            let now = (Instant::now(), seconds());
            if stage.has_all_rows(candidate.keys, topic) {
                break now;
            }
        }
        std::thread::sleep(LOOK);
    };
    let usage = sink.kill();
    Run {
        elapsed: ended - began,
        cpu_seconds: after.0 - before.0,
        server_cpu_seconds: after.1 - before.1,
        ..Run::of(topic.rows(), &usage)
    }
}

/// Measures the whole process, because its start-up is negligible.
fn copy(stage: &Stage, topic: &Topic, candidate: Candidate) -> Run {
    let before = usage::postgres_seconds(&stage.environment.stack);
    let usage = Watched::start(&mut stage.copy(candidate.keys)).wait();
    Run {
        server_cpu_seconds: usage::postgres_seconds(&stage.environment.stack) - before,
        ..Run::of(topic.rows(), &usage)
    }
}
