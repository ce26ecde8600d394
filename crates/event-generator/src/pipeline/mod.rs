//! Generates the events of a run and sends them to the sinks.
//!
//! ```text
//! block_plan --> workers --> dispatch --+--> sinks::kafka
//!                blocks                 +--> sinks::lake       segments, once all their events are sent
//!                                       +--> RunCounts         counts of the events sent --> manifest
//!                                       +--> PendingBlocks --> checkpointer, for a resume
//! ```

mod block;
mod block_counts;
mod block_plan;
mod dispatch;
mod schedule;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use lake::{End, Lake, LakeError, Manifest, RunId};
use pipeline_runtime::metrics::Histogram;
use pipeline_runtime::shutdown::{self, ShutdownDeadline};
use tokio::task::JoinHandle;
use workload::Source;

pub use block::Block;

use block_plan::BlockPlan;
use dispatch::{DispatchError, Dispatched, Dispatcher, StartPosition};
use workers::Workers;

use crate::clock::{Clock, Pace};
use crate::memory::MemoryLimit;
use crate::observability::{HttpEndpoints, KafkaStats, LakeStats, Monitor, RunCounts, RunStats, SentEvents};
use crate::run_state::{Checkpointer, PendingBlocks, RunFolder, RunHandle, RunState, SinkProgress};
use crate::sinks::kafka::KafkaSink;
use crate::sinks::lake::{LakeSink, SegmentFeed};

/// The events of a run and their pace.
#[derive(Clone, Debug)]
pub(crate) struct RunConfig {
    pub(crate) source: Arc<Source>,
    /// Name of the run in keys and in its manifest.
    pub(crate) run: RunId,
    /// Number of events. Without it the run ends on request only.
    pub(crate) count: Option<u64>,
    pub(crate) pace: Pace,
}

/// Destinations of a run.
pub(crate) struct Sinks {
    pub(crate) kafka: Option<KafkaSink>,
    /// Retries indefinitely during an outage.
    pub(crate) lake: Option<Lake>,
}

/// Resources and output of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PipelineOptions {
    pub(crate) threads: u16,
    pub(crate) memory: MemoryLimit,
    pub(crate) show_progress: bool,
}

/// A run that stored all events it sent.
#[derive(Debug)]
pub(crate) struct FinishedRun {
    pub(crate) manifest: Manifest,
    pub(crate) folder: RunFolder,
    /// Lateness of the events in seconds; none for a backfill.
    pub(crate) lateness: Option<Arc<Histogram>>,
    /// Time from the first event to the last one stored.
    pub(crate) elapsed: Duration,
}

/// Executes a run until it ends or a shutdown is requested.
pub(crate) async fn run(
    config: &RunConfig,
    sinks: Sinks,
    handle: RunHandle,
    options: PipelineOptions,
    clock: Clock,
    shutdown: &ShutdownDeadline,
    endpoints: &Arc<HttpEndpoints>,
) -> anyhow::Result<FinishedRun> {
    let started = clock.micros();
    let RunHandle { folder, state } = handle;
    let start = StartPosition {
        first_index: state.acknowledged.next_index,
        min_end: state.run_end.map_or(state.reserved, |end| end.next_index),
        end_reason: state.run_end.map_or(End::CountReached, |end| end.reason),
    };
    let sent_before = SentEvents { next_index: start.first_index, counts: state.acknowledged_counts() };
    let mut stats = RunStats {
        run: config.run.clone(),
        source: Arc::clone(&config.source),
        started_at: state.started_at,
        resumes: state.resumes,
        counts: Arc::new(RunCounts::resuming(sent_before)),
        kafka: None,
        lake: None,
    };
    let workers = start_workers(config, &sinks, &state, options.threads)?;

    stats.kafka = sinks.kafka.as_ref().map(|kafka| KafkaStats {
        topic: kafka.topic().to_owned(),
        deliveries: kafka.deliveries(),
        connection: kafka.connection(),
    });
    let lake = sinks.lake.as_ref().map(|lake| start_lake(lake, config, &state, options.memory));
    let (writing, feed) = match lake {
        Some((writing, feed, lake_stats)) => {
            stats.lake = Some(lake_stats);
            (Some(writing), Some(feed))
        }
        None => (None, None),
    };
    let pending = Arc::new(PendingBlocks::default());
    let progress = SinkProgress {
        pending: Arc::clone(&pending),
        kafka: stats.kafka.as_ref().map(|kafka| Arc::clone(&kafka.deliveries)),
        lake: stats.lake.as_ref().map(|lake| Arc::clone(&lake.progress)),
    };
    let checkpointer = Checkpointer::start(folder, state, config.count, progress)?;
    let dispatcher = Dispatcher {
        source: Arc::clone(&config.source),
        workers,
        pace: config.pace,
        clock,
        kafka: sinks.kafka,
        lake: feed,
        counts: Arc::clone(&stats.counts),
        start,
        reservation: checkpointer.reservation(),
        pending,
        endpoints: Arc::clone(endpoints),
        shutdown: shutdown.clone(),
    };
    endpoints.start_run(stats.clone(), config.pace);

    let monitor = Monitor {
        stats: stats.clone(),
        lake: sinks.lake,
        count: config.count,
        show_progress: options.show_progress,
        pace: config.pace,
        clock,
        endpoints: Arc::clone(endpoints),
    };
    let monitor_task = tokio::spawn(monitor.run());
    let dispatch_task = tokio::task::spawn_blocking(|| dispatcher.run());
    let outcome = wait_for_sinks(dispatch_task, writing, shutdown, &stats).await;
    monitor_task.abort();
    // After this the progress line is removed and no draft overwrites the manifest.
    let _ = monitor_task.await;

    // The checkpointer's error comes first: it is the cause of the dispatcher's.
    let folder = checkpointer.finish()?;
    let Dispatched { end_reason, .. } = outcome?;
    let lateness = (config.pace != Pace::Max).then(|| endpoints.lateness());
    let manifest = stats.final_manifest(end_reason, clock.now()).map_err(|problems| {
        anyhow!("cannot write the manifest: its counts disagree: {}; report this bug", problems.join("; "))
    })?;
    let elapsed = Duration::from_micros(u64::try_from(clock.micros() - started).unwrap_or(0));
    Ok(FinishedRun { manifest, folder, lateness, elapsed })
}

fn start_workers(config: &RunConfig, sinks: &Sinks, state: &RunState, threads: u16) -> anyhow::Result<Workers> {
    let settings = config.source.settings();
    let plan = BlockPlan::new(config.pace, settings.event_rate, config.count)
        .with_padding(settings.padding)
        .in_segments(state.acknowledged.next_index, state.destination.segment_indices);
    // The lake generates its events itself.
    let records = sinks.kafka.is_some() || sinks.lake.is_none();
    Workers::start(&config.source, plan, threads, records).context("cannot start a worker thread")
}

/// Starts the task that writes to the lake. Returns it with the feed of its segments and its counters.
fn start_lake(
    lake: &Lake,
    config: &RunConfig,
    state: &RunState,
    memory: MemoryLimit,
) -> (JoinHandle<Result<(), LakeError>>, SegmentFeed, LakeStats) {
    let (source, run) = (Arc::clone(&config.source), config.run.clone());
    let (sink, feed) = LakeSink::new(lake.clone(), source, run, &state.durable_prefix, memory);
    let segment_indices = state.destination.segment_indices;
    let counters = LakeStats { url: lake.url().to_string(), segment_indices, progress: sink.progress() };
    (tokio::spawn(sink.run()), feed, counters)
}

/// Waits until both sinks have stored all events or the deadline passes.
async fn wait_for_sinks(
    sending: JoinHandle<Result<Dispatched, DispatchError>>,
    writing: Option<JoinHandle<Result<(), LakeError>>>,
    shutdown: &ShutdownDeadline,
    stats: &RunStats,
) -> anyhow::Result<Dispatched> {
    shutdown::waiting_for("Kafka and the lake to store the generated events");
    let dispatched = sending.await.context("the dispatcher panicked; report this bug")?;
    let Some(mut writing) = writing else {
        return check_complete(dispatched?, true, stats);
    };
    if let Err(error) = dispatched {
        if let DispatchError::Lake = error {
            (&mut writing).await.context("the lake task panicked; report this bug")??;
        }
        writing.abort();
        return Err(error.into());
    }
    let written = tokio::select! {
        written = &mut writing => {
            written.context("the lake task panicked; report this bug")??;
            true
        }
        () = shutdown.over() => {
            writing.abort();
            false
        }
    };
    check_complete(dispatched?, written, stats)
}

/// Fails unless all events sent are stored in each sink.
fn check_complete(dispatched: Dispatched, written: bool, stats: &RunStats) -> anyhow::Result<Dispatched> {
    let mut missing = Vec::new();
    if dispatched.unacknowledged > 0 {
        missing.push(format!("Kafka has not acknowledged {} records", dispatched.unacknowledged));
    }
    if let Some(lake) = stats.lake.as_ref().filter(|_| !(written && dispatched.complete)) {
        let files = lake.progress.files();
        let counts = stats.counts.sent().counts.outcomes;
        missing.push(format!(
            "the lake is missing {} of {} valid and {} of {} rejected events",
            counts.valid.saturating_sub(files.raw.rows),
            counts.valid,
            counts.invalid.saturating_sub(files.quarantine.rows),
            counts.invalid
        ));
    }
    if missing.is_empty() && !dispatched.complete {
        missing.push("the end of the run is not saved".to_owned());
    }
    if missing.is_empty() {
        return Ok(dispatched);
    }
    Err(anyhow!(
        "run stopped before all events were stored: {}; no manifest is written, and a resume sends these events again",
        missing.join(", and ")
    ))
}
