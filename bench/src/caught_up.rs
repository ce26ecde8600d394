//! Measures a consumer that reads a topic to its end.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::programs::summary;
use crate::run::Run;
use crate::usage;

/// Runs `kafka-consumer` until it has caught up. The elapsed time excludes the start-up, the CPU time includes it.
pub(crate) fn catch_up(consumer: &mut Command) -> Run {
    let began = Instant::now();
    let mut child = consumer.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text).unwrap()
    });
    let usage = usage::watch(&mut child, began);
    let log = reader.join().unwrap();
    assert!(usage.status.success(), "{log}");
    let summary = summary(&log);
    let elapsed = Duration::from_secs_f64(summary["reading_seconds"].as_f64().unwrap());
    assert!(elapsed < usage.elapsed);
    let rows = summary["records"].as_u64().unwrap();
    Run { elapsed, ..Run::of(rows, &usage) }
}
