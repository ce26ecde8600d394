//! A run from the flags to the summary.

pub mod args;
pub mod config;
pub mod resume_flags;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use lake::{Lake, LakeError, Manifest, draft_key, manifest_key};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::{Topic, TopicSettings, ensure_topic, topic_settings};
use pipeline_runtime::lake::in_words;
use pipeline_runtime::output::unless_closed;
use pipeline_runtime::telemetry::LogArgs;
use pipeline_runtime::{progress, shutdown};
use rdkafka::config::ClientConfig;
use serde_json::json;

use crate::commands::run::args::RunArgs;
use crate::commands::run::config::Plan;
use crate::failpoint::{BEFORE_MANIFEST, pass};
use crate::observability::endpoints::{self as site, Site};
use crate::observability::summary;
use crate::pipeline::block_plan::{Clock, Pace};
use crate::pipeline::{self, Ended, Machine, Memory, Sinks};
use crate::run_state::Flags;
use crate::run_state::resume::{self, Begun};
use crate::shutdown::Ending;
use crate::sinks::kafka::{Deliveries, GUARDS, KafkaSink, MIN_MESSAGE_BYTES, producer_config};

/// Records that are removed before a consumer that was down for a while has read them are lost to it.
const SHORT_RETENTION_MILLIS: u64 = 3_600_000;
/// So late is worth a note at the end.
const LATE: Duration = Duration::from_secs(1);
/// What is left of the ten seconds for the manifest.
const MANIFEST_PATIENCE: Duration = Duration::from_millis(700);

/// Makes and publishes events until the end. `flags` are those that were given, for whoever goes on with the run.
pub async fn run(args: &RunArgs, flags: Flags, log: &LogArgs) -> Result<(), Failure> {
    let chance = random_seed();
    let clock = Clock::start();
    let plan = Plan::resolve(args, clock.now(), chance)?;
    let user = args.kafka.client_config(GUARDS)?;
    let ending = Ending::on(shutdown::on_signal().context("signals can't be received")?);
    let site = Arc::new(Site::new(clock, ending.clone()));
    let _server = site::listen(args.http_addr.as_ref(), &site).await?;

    let (kafka, lake) = tokio::join!(reach_kafka(args, &user, plan.source.largest_value()), reach_lake(args));
    let (topic, lake) = both(kafka, lake)?;
    // A run without --from begins when everything is ready, not when the first server was asked.
    let (clock, plan) = if args.shape.from.is_some() {
        (clock, plan)
    } else {
        let clock = Clock::start();
        (clock, Plan::resolve(args, clock.now(), chance)?)
    };
    let (memory, plan) = match resume::begin(args, flags, plan, lake.as_ref(), clock.now()).await? {
        Begun::Run(memory, plan) => (*memory, plan),
        Begun::FinishedBefore(manifest) => {
            tracing::info!(manifest = %manifest.display(), "run was finished already");
            return Ok(());
        }
    };
    let kafka = match topic {
        Some(topic) => Some(start_kafka(args, &user, topic, &plan, &memory)?),
        None => None,
    };
    announce(args, &plan, lake.as_ref(), &memory);

    let machine = Machine { threads: threads(args), memory: args.memory_limit, progress: log.shows_progress() };
    let sinks = Sinks { kafka, lake: lake.clone() };
    let ended = pipeline::run(&plan, sinks, memory, machine, clock, &ending, &site).await;
    let ended = ended.map_err(|error| resumable(&error, &plan))?;
    pass(BEFORE_MANIFEST);
    let manifest = finish(&ended, lake.as_ref(), &plan, &ending).await.map_err(|error| resumable(&error, &plan))?;
    tracing::debug!(manifest = %manifest.display(), "manifest written");
    sum_up(&ended, &plan, log);
    Ok(())
}

fn start_kafka(
    args: &RunArgs,
    user: &ClientConfig,
    (topic, settings): (Topic, TopicSettings),
    plan: &Plan,
    memory: &Memory,
) -> anyhow::Result<(String, KafkaSink)> {
    let config = producer_config(user, plan.pace, settings, args.memory_limit);
    let tag = plan.source.run_tag().to_string();
    let deliveries = Deliveries::after(&memory.state.safe, memory.state.destination.segment_indices);
    let sink = KafkaSink::start(&config, &args.kafka.topic, topic.partitions, tag, !args.no_headers, deliveries)?;
    Ok((args.kafka.topic.clone(), sink))
}

/// Writes the manifest, in the lake first: there it says that the run is over. The path of the one on this host.
async fn finish(ended: &Ended, lake: Option<&Lake>, plan: &Plan, ending: &Ending) -> anyhow::Result<PathBuf> {
    if let Some(lake) = lake {
        shutdown::waiting_for("the lake, to store the manifest");
        tokio::select! {
            put = put_manifest(lake, &ended.manifest, plan.again) => put.map_err(in_words)?,
            () = late(ending) => {
                return Err(anyhow!(
                    "all events are stored, but the manifest could not be written to {} in time", lake.url()
                ));
            }
        }
    }
    let path = ended.folder.write_manifest(&ended.manifest)?;
    ended.folder.forget_state()?;
    Ok(path)
}

fn resumable(error: &anyhow::Error, plan: &Plan) -> anyhow::Error {
    anyhow!("{error:#}\nOnce that is mended, `event-generator --resume --run-id {}` goes on with the run", plan.run)
}

/// The configuration as it would be used, as JSON.
pub fn print_config(args: &RunArgs, mut out: impl Write) -> Result<(), Failure> {
    let plan = Plan::resolve(args, Clock::start().now(), random_seed())?;
    args.kafka.client_config(GUARDS)?;
    let lake = (!args.no_lake).then(|| args.lake.url().to_string());
    let properties: serde_json::Map<_, _> =
        args.kafka.redacted_properties()?.into_iter().map(|(name, value)| (name, value.into())).collect();
    let kafka = (!args.no_kafka).then(|| {
        json!({
            "bootstrap_servers": args.kafka.bootstrap_servers,
            "topic": args.kafka.topic,
            "headers": !args.no_headers,
            "properties": properties,
        })
    });
    let config = json!({
        "run": plan.run.as_str(),
        "settings": plan.source.settings(),
        "rate": args.rate.to_string(),
        "count": plan.count,
        "again": plan.again,
        "kafka": kafka,
        "lake": lake,
        "threads": threads(args),
        "state_dir": args.state_dir(),
        "memory_limit": args.memory_limit.to_string(),
        "http_addr": args.http_addr.as_ref().map(ToString::to_string),
    });
    unless_closed(writeln!(out, "{config:#}").map_err(Into::into))
}

/// A seed that nobody has to type in full to see that it is another one.
#[must_use]
pub fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 32
}

fn threads(args: &RunArgs) -> u16 {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    // One makes more than one thread can hand to Kafka; cores are better left to the broker and the lake.
    args.threads.unwrap_or_else(|| u16::try_from((cores() / 2).clamp(1, 64)).unwrap_or(1))
}

async fn reach_lake(args: &RunArgs) -> anyhow::Result<Option<Lake>> {
    if args.no_lake {
        return Ok(None);
    }
    // Once it has answered, an outage is waited out.
    Ok(Some(args.lake.open().await?.with_patience(None)))
}

async fn reach_kafka(
    args: &RunArgs,
    config: &ClientConfig,
    largest_value: usize,
) -> anyhow::Result<Option<(Topic, TopicSettings)>> {
    if args.no_kafka {
        return Ok(None);
    }
    let topic = &args.kafka.topic;
    let found = ensure_topic(config, topic).await?;
    let settings = topic_settings(config, topic).await;
    let needed = MIN_MESSAGE_BYTES.max(largest_value as u64 + MIN_MESSAGE_BYTES / 2);
    if let Some(most) = settings.max_message_bytes.filter(|most| *most < needed) {
        return Err(anyhow!(
            "the topic {topic} takes {most} bytes at a time (max.message.bytes), but a record may need \
             {needed}: raise it"
        ));
    }
    if let Some(retention_ms) = settings.retention_ms.filter(|kept| *kept < SHORT_RETENTION_MILLIS) {
        tracing::warn!(topic, retention_ms, "topic keeps records for less than an hour");
    }
    Ok(Some((found, settings)))
}

/// Both, or what is wrong with either.
fn both<A, B>(a: anyhow::Result<A>, b: anyhow::Result<B>) -> anyhow::Result<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(first), Err(second)) => Err(anyhow!("{first:#}\nerror: {second:#}")),
    }
}

async fn put_manifest(lake: &Lake, manifest: &Manifest, again: bool) -> Result<(), LakeError> {
    if !again {
        return lake.put_manifest(manifest).await.map(drop);
    }
    let run = &manifest.run.id;
    lake.put_replacing(&manifest_key(run), manifest.to_json()?.into()).await?;
    lake.remove(&draft_key(run)).await
}

async fn late(ending: &Ending) {
    ending.until_over().await;
    tokio::time::sleep(MANIFEST_PATIENCE).await;
}

fn announce(args: &RunArgs, plan: &Plan, lake: Option<&Lake>, memory: &Memory) {
    let settings = plan.source.settings();
    tracing::info!(
        run = %plan.run,
        seed = settings.seed,
        from = %settings.from,
        rate = %args.rate,
        count = plan.count,
        topic = (!args.no_kafka).then_some(args.kafka.topic.as_str()),
        lake = lake.map(|lake| lake.url().to_string()),
        resumed_at = (memory.state.resumes > 0).then_some(memory.state.safe.next_index),
        state = %memory.folder.path().display(),
        "run started"
    );
}

/// A table for people, a line for logs.
fn sum_up(ended: &Ended, plan: &Plan, log: &LogArgs) {
    if plan.pace == Pace::Live && ended.lateness.max() > LATE {
        let seconds = ended.lateness.max().as_secs_f64();
        tracing::warn!(seconds, "the run fell behind its schedule: no event is lost, some were sent late");
    }
    if !log.is_text() {
        summary::log(ended, plan.pace);
    } else if log.quiet == 0 {
        let table = summary::table(ended, plan.pace);
        // There is nobody left to tell if stderr is gone.
        let _ = progress::above(|| writeln!(std::io::stderr(), "{table}"));
    }
}
