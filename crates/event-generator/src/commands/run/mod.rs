//! `run`: generates events and publishes them.

mod args;
mod config;
mod connect;
mod print_config;
mod resume_flags;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::ArgMatches;
use lake::{Lake, LakeError, Manifest, draft_key, manifest_key};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::{Topic, TopicSettings};
use pipeline_runtime::lake::with_hint;
use pipeline_runtime::metrics::Histogram;
use pipeline_runtime::shutdown::{self, ShutdownDeadline};
use pipeline_runtime::telemetry::LogArgs;
use pipeline_runtime::{http, progress};
use rdkafka::config::ClientConfig;

pub(crate) use args::RunArgs;

use crate::clock::{Clock, Pace};
use crate::commands::event_args::random_seed;
use crate::failpoint::{BEFORE_MANIFEST, pass};
use crate::observability::{DEFAULT_ADDRESS, HttpEndpoints, Summary};
use crate::pipeline::{self, FinishedRun, PipelineOptions, RunConfig, Sinks};
use crate::run_state::{Destination, OpenedRun, RunHandle, RunRequest, open_run};
use crate::sinks::kafka::{Deliveries, GUARDS, KafkaSink, LoginPolicy, producer_config};
use crate::sinks::lake::segment_indices;

/// Lateness beyond which a live run ends with a warning.
const LATE_SECONDS: f64 = 1.0;
/// Deadline of a shutdown for storing the events sent so far. The rest of the ten seconds is for the manifest and the
/// summary.
const GRACE: Duration = Duration::from_secs(9);
/// Time to write the manifest to the lake after [`GRACE`] has passed.
const MANIFEST_TIME: Duration = Duration::from_millis(700);

pub(crate) fn execute(args: &RunArgs, matches: &ArgMatches, log: &LogArgs) -> Result<(), Failure> {
    log.start()?;
    let args = &resume_flags::resolve(args, matches)?;
    if args.print_config {
        return print_config::print_config(args);
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let result = runtime.block_on(run(args, log));
    // A task that is blocked on a dead connection must not delay the end of the process.
    runtime.shutdown_background();
    result
}

async fn run(args: &RunArgs, log: &LogArgs) -> Result<(), Failure> {
    let flags = &args.flags;
    let random_seed = random_seed();
    let clock = Clock::start();
    let config = config::resolve(flags, clock.now(), random_seed)?;
    let kafka_config = flags.kafka.client_config(GUARDS)?;
    let shutdown = ShutdownDeadline::on_signal(GRACE).context("cannot receive signals")?;
    let endpoints = Arc::new(HttpEndpoints::new(clock, shutdown.clone()));
    let _server = http::start(args.http_addr.as_ref(), DEFAULT_ADDRESS, Arc::clone(&endpoints) as Arc<_>)
        .await
        .map_err(anyhow::Error::from)?;

    let (topic, lake) = connect::connect(flags, &kafka_config, config.source.largest_value()).await?;
    // A run without --from starts once its sinks are ready.
    let (clock, mut config) = if flags.events.from.is_some() {
        (clock, config)
    } else {
        let clock = Clock::start();
        (clock, config::resolve(flags, clock.now(), random_seed)?)
    };
    let handle = match open_run(request(args, &config), lake.as_ref(), clock.now()).await? {
        OpenedRun::Ready(handle) => *handle,
        OpenedRun::AlreadyFinished(manifest) => {
            tracing::info!(manifest = %manifest.display(), "run already finished");
            return Ok(());
        }
    };
    // An end that was decided before the resume takes precedence.
    config.count = handle.state.run_end.map(|end| end.next_index).or(config.count);
    if let Some((topic, _)) = topic {
        connect::check_acknowledged(&kafka_config, &flags.kafka.topic, topic, &handle).await?;
    }
    let kafka = topic.map(|topic| start_kafka(args, &kafka_config, topic, &config, &handle)).transpose()?;
    log_start(args, &config, lake.as_ref(), &handle);

    let options =
        PipelineOptions { threads: args.threads(), memory: args.memory_limit, show_progress: log.shows_progress() };
    let sinks = Sinks { kafka, lake: lake.clone() };
    let replaces_manifest = handle.state.republished;
    let finished = pipeline::run(&config, sinks, handle, options, clock, &shutdown, &endpoints).await;
    let finished = finished.map_err(|error| with_resume_hint(&error, &config))?;
    pass(BEFORE_MANIFEST);
    let manifest_path = store_manifest(&finished, lake.as_ref(), replaces_manifest, &shutdown)
        .await
        .map_err(|error| with_resume_hint(&error, &config))?;
    tracing::debug!(manifest = %manifest_path.display(), "manifest written");
    summarize(&finished, &manifest_path, config.pace, log);
    Ok(())
}

fn request(args: &RunArgs, config: &RunConfig) -> RunRequest {
    let flags = &args.flags;
    RunRequest {
        state_dir: args.state_dir(),
        run: config.run.clone(),
        mode: args.start_mode(),
        settings: serde_json::to_value(config.source.settings()).unwrap_or_default(),
        tag: config.source.run_tag().to_string(),
        destination: Destination {
            topic: (!flags.no_kafka).then(|| flags.kafka.topic.clone()),
            lake: (!flags.no_lake).then(|| flags.lake.url().to_string()),
            segment_indices: segment_indices(&config.source),
        },
        flags: resume_flags::to_json(flags),
        count: config.count,
    }
}

fn start_kafka(
    args: &RunArgs,
    kafka_config: &ClientConfig,
    (topic, settings): (Topic, TopicSettings),
    config: &RunConfig,
    handle: &RunHandle,
) -> anyhow::Result<KafkaSink> {
    let flags = &args.flags;
    let properties = producer_config(kafka_config, config.pace, settings, args.memory_limit);
    let tag = config.source.run_tag().to_string();
    let state = &handle.state;
    let before = state.acknowledged_counts().expected_counts().kafka_records;
    let deliveries = Deliveries::resuming(before, &state.acknowledged.end_offsets);
    let headers = !flags.no_headers;
    let connection = flags.kafka.connection();
    // The topic was just found.
    connection.succeeded();
    let login = LoginPolicy { connection, grace: args.login_grace.get() };
    Ok(KafkaSink::start(&properties, &flags.kafka.topic, topic.partitions, tag, headers, deliveries, login)?)
}

/// Writes the manifest, first to the lake, where it marks the run as finished. Returns its path on this host.
async fn store_manifest(
    finished: &FinishedRun,
    lake: Option<&Lake>,
    replace: bool,
    shutdown: &ShutdownDeadline,
) -> anyhow::Result<PathBuf> {
    if let Some(lake) = lake {
        shutdown::waiting_for("the manifest in the lake");
        tokio::select! {
            put = put_manifest(lake, &finished.manifest, replace) => put.map_err(with_hint)?,
            () = manifest_deadline(shutdown) => {
                return Err(anyhow!(
                    "cannot write the manifest to {}: deadline exceeded; all events are stored", lake.url()
                ));
            }
        }
    }
    let path = finished.folder.write_manifest(&finished.manifest)?;
    finished.folder.remove_state()?;
    Ok(path)
}

async fn put_manifest(lake: &Lake, manifest: &Manifest, replace: bool) -> Result<(), LakeError> {
    if !replace {
        return lake.put_manifest(manifest).await.map(drop);
    }
    let run = &manifest.run.id;
    lake.put_replacing(&manifest_key(run), manifest.to_json()?.into()).await?;
    lake.remove(&draft_key(run)).await
}

async fn manifest_deadline(shutdown: &ShutdownDeadline) {
    shutdown.over().await;
    tokio::time::sleep(MANIFEST_TIME).await;
}

fn with_resume_hint(error: &anyhow::Error, config: &RunConfig) -> anyhow::Error {
    anyhow!("{error:#}\nonce this is fixed, resume the run with 'event-generator --resume --run-id {}'", config.run)
}

fn log_start(args: &RunArgs, config: &RunConfig, lake: Option<&Lake>, handle: &RunHandle) {
    let (flags, settings, state) = (&args.flags, config.source.settings(), &handle.state);
    tracing::info!(
        run = %config.run,
        seed = settings.seed,
        from = %settings.from,
        rate = %flags.rate,
        count = config.count,
        topic = (!flags.no_kafka).then_some(flags.kafka.topic.as_str()),
        lake = lake.map(|lake| lake.url().to_string()),
        resumed_at = args.resume.then_some(state.acknowledged.next_index),
        state = %handle.folder.path().display(),
        "run started"
    );
}

/// Prints a table for people or logs a line.
fn summarize(finished: &FinishedRun, manifest_path: &Path, pace: Pace, log: &LogArgs) {
    let lateness = finished.lateness.as_deref();
    let late = lateness.map(Histogram::maximum).filter(|seconds| pace == Pace::Live && *seconds > LATE_SECONDS);
    if let Some(seconds) = late {
        tracing::warn!(seconds, "run fell behind its schedule; no event is lost, some were sent late");
    }
    let summary = Summary { manifest: &finished.manifest, manifest_path, lateness, elapsed: finished.elapsed };
    if !log.is_text() {
        summary.log();
    } else if log.quiet == 0 {
        let table = summary.table();
        // An error of standard error itself cannot be reported.
        let _ = progress::above(|| writeln!(std::io::stderr(), "{table}"));
    }
}
