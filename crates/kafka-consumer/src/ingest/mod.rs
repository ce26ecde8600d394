//! Moves records from Kafka to PostgreSQL: source -> sorter -> writer.

pub(crate) mod batch;
pub(crate) mod memory_budget;
mod messages;
mod next_partition;
pub(crate) mod offsets;
pub(crate) mod row_loader;
mod source;
pub(crate) mod topic;
pub(crate) mod writer;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use event_model::Window;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::http::{self, HttpAddr};
use pipeline_runtime::kafka::{Connection, KafkaArgs};
use pipeline_runtime::progress::Progress;
use pipeline_runtime::shutdown::{self, ShutdownDeadline};
use pipeline_runtime::units::grouped;
use rdkafka::config::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ingest::batch::open::Limits;
use crate::ingest::batch::recent_ids::RecentIds;
use crate::ingest::batch::sorter;
use crate::ingest::memory_budget::{MemoryBudget, PartitionQueues};
use crate::ingest::messages::{Command, Report};
use crate::ingest::next_partition::NextPartition;
use crate::ingest::offsets::resume::{DataLossPolicy, Resume};
use crate::ingest::source::config::SourceConfig;
use crate::ingest::source::finish::FinishedSource;
use crate::ingest::source::{FAREWELL, Source};
use crate::ingest::topic::MissingTopic;
use crate::ingest::writer::dead_letter_limit::DeadLetterLimit;
use crate::ingest::writer::dead_letter_limiter::DeadLetterLimiter;
use crate::ingest::writer::error::WriterError;
use crate::ingest::writer::{Writer, WriterConfig};
use crate::kafka::client::{self, KafkaClient, client_config, uncommitted};
use crate::kafka::group_topic::GroupTopic;
use crate::kafka::record_lookup::RecordLookup;
use crate::kafka::start_offset::StartOffset;
use crate::kafka::topic_identity::TopicIdentity;
use crate::observability::endpoints::{DEFAULT_ADDRESS, HttpEndpoints};
use crate::observability::history::total_lag;
use crate::observability::lag;
use crate::observability::record_counts::RecordCounts;
use crate::postgres::migrations::{self, Pending};
use crate::postgres::{self, Conninfo};

/// Time to commit the in-flight batches during a shutdown.
pub(crate) const GRACE: Duration = Duration::from_secs(6);

const MARGIN: Duration = Duration::from_millis(500);

/// Settings of a run.
#[derive(Clone)]
pub(crate) struct RunConfig {
    pub(crate) kafka: KafkaArgs,
    pub(crate) target: Conninfo,
    pub(crate) group: String,
    /// Static membership ID (`group.instance.id`).
    pub(crate) instance: Option<String>,
    /// Start offset of a group that has never read the topic.
    pub(crate) start: StartOffset,
    /// Limits of a batch.
    pub(crate) limits: Limits,
    /// Accepted range of event timestamps, relative to their records.
    pub(crate) window: Window,
    /// Number of writers, each with its own PostgreSQL session.
    pub(crate) writers: usize,
    /// Memory limit of the process.
    pub(crate) memory: MemoryBudget,
    pub(crate) dead_letter_limit: DeadLetterLimit,
    /// Data losses that the operator has allowed.
    pub(crate) accept: DataLossPolicy,
    /// End the run once all partitions are committed up to their ends.
    pub(crate) until_caught_up: bool,
    /// Maximum wait of such a run for an open Kafka transaction.
    pub(crate) open_transaction_timeout: Duration,
    /// Maximum time for which Kafka or PostgreSQL may refuse the login.
    pub(crate) login_grace: Duration,
    /// Action if the topic does not exist.
    pub(crate) missing_topic: MissingTopic,
    /// Action on pending migration scripts.
    pub(crate) pending: Pending,
    /// Address of `--http-addr`, if given.
    pub(crate) http: Option<HttpAddr>,
    pub(crate) progress: bool,
}

/// Result of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    /// Committed records by outcome.
    pub(crate) tally: RecordCounts,
    /// Number of committed batches.
    pub(crate) transactions: u64,
    /// Number of retries.
    pub(crate) retries: u64,
    /// Time from the start of the writers to the end of the run.
    pub(crate) elapsed: Duration,
    /// Time from the first record to the last commit.
    pub(crate) reading: Duration,
}

/// Divides the memory limit between the queues of librdkafka. Fails if the limit is too small for the partitions.
async fn bound_memory(
    settings: &RunConfig,
    partitions: usize,
    connection: &Connection,
    config: &mut ClientConfig,
) -> Result<PartitionQueues, Failure> {
    if let Some(needed) = settings.memory.too_small_for(partitions) {
        let limit = settings.memory.limit();
        let error = format!("--memory-limit {limit} is too small for {partitions} partitions; use at least {needed}");
        return Err(Failure::usage(error));
    }
    let queues = settings.memory.queues(partitions);
    let brokers = match queues {
        PartitionQueues::Separate => 1,
        PartitionQueues::Shared => client::leaders(config, &settings.kafka.topic, connection).await?,
    };
    settings.memory.bound_queues(partitions, brokers, config);
    Ok(queues)
}

/// Consumes until the run is caught up (with `--until-caught-up`) or a shutdown is requested.
pub(crate) async fn run(settings: RunConfig, shutdown: ShutdownDeadline) -> Result<Summary, Failure> {
    // Invalid properties fail before a port is taken.
    let mut config = client_config(&settings.kafka, &settings.group)?;
    let group_topic = GroupTopic { group: settings.group.clone(), topic: settings.kafka.topic.clone() };
    let connection = settings.kafka.connection();
    let site = Arc::new(HttpEndpoints::new(group_topic.clone(), connection.clone()));
    let _server = http::start(settings.http.as_ref(), DEFAULT_ADDRESS, Arc::clone(&site) as Arc<_>)
        .await
        .map_err(anyhow::Error::from)?;
    let found = topic::find(&config, &group_topic.topic, settings.missing_topic).await?;
    connection.succeeded();
    let mut client = postgres::connect_at_start(&settings.target).await?;
    for script in migrations::bring_up_to_date(&mut client, settings.pending).await? {
        tracing::info!(script, "migration applied");
    }
    let partitions = if let Some(partitions) = found {
        partitions
    } else {
        drop(client);
        let appeared = topic::appearance(&config, &group_topic.topic, &site.health, &shutdown).await?;
        let Some(partitions) = appeared else { return Ok(Summary::default()) };
        client = postgres::connect_at_start(&settings.target).await?;
        partitions
    };
    let queues = bound_memory(&settings, usize::try_from(partitions).unwrap_or(1), &connection, &mut config).await?;
    let kafka = KafkaClient::new(&config, settings.instance.as_deref(), &connection)?;
    offsets::first_start::insert_initial_offsets(&mut client, &group_topic, &kafka.current(), settings.start).await?;
    let stop_asking = CancellationToken::new();
    NextPartition::new(&settings.target, Arc::clone(&site.health)).start(&client, stop_asking.clone()).await;
    drop(client);
    tracing::info!(topic = group_topic.topic, partitions, group = group_topic.group, postgres = %settings.target, "consuming");

    let began = Instant::now();
    let counters = Arc::clone(&site.counters);
    let limiter = DeadLetterLimiter::new(settings.dead_letter_limit);
    let record_lookup = RecordLookup::new(&config, &group_topic.topic, &connection);
    let give_up = CancellationToken::new();
    let (reporter, reports) = mpsc::unbounded_channel();
    let start = |number| start_writer(number, &settings, &site, &limiter, &record_lookup, &reporter, &give_up);
    let (commands, writers) = (1..=settings.writers).map(start).unzip();
    drop(reporter);

    let (target, accept) = (settings.target.clone(), settings.accept);
    let identity = Arc::<TopicIdentity>::default();
    let source = SourceConfig {
        resume: Resume {
            target,
            group_topic,
            kafka: kafka.clone(),
            record_lookup,
            accept,
            start: settings.start,
            identity: Arc::clone(&identity),
        },
        queues,
        limits: settings.limits,
        window: settings.window,
        until_caught_up: settings.until_caught_up,
        open_transaction_timeout: settings.open_transaction_timeout,
        login_grace: settings.login_grace,
        ends: Arc::clone(&site.ends),
        shutdown: shutdown.clone(),
        give_up: give_up.clone(),
        runtime: Handle::current(),
        health: Arc::clone(&site.health),
    };
    let ends = lag::LagMonitor {
        kafka,
        topic: site.group_topic.topic.clone(),
        uncommitted: RecordLookup::new(&uncommitted(&config), &site.group_topic.topic, &connection),
        counters: Arc::clone(&counters),
        ends: Arc::clone(&site.ends),
        identity,
    };
    let asking = tokio::spawn(ends.run(stop_asking.clone()));
    let collecting = collect_for_page(&site, &settings.target);
    let source = Source::new(source, commands, reports);
    let reading = std::thread::Builder::new()
        .name("source".to_owned())
        .spawn(|| source.run())
        .context("cannot start the reading thread")?;
    let reading = tokio::task::spawn_blocking(move || reading.join());

    let watching = tokio::spawn(watch(settings.progress, Arc::clone(&site), shutdown, give_up.clone()));
    let stop = async {
        stop_asking.cancel();
        let _ = asking.await;
    };
    let result = end(reading, stop, writers, give_up).await;
    watching.abort();
    collecting.abort();
    result?;
    Ok(Summary {
        tally: counters.tally(),
        transactions: counters.batches(),
        retries: counters.retries(),
        elapsed: began.elapsed(),
        reading: counters.reading(),
    })
}

/// Collects the history and the totals of the group, which the page shows.
fn collect_for_page(site: &Arc<HttpEndpoints>, target: &Conninfo) -> JoinHandle<()> {
    let (site, target) = (Arc::clone(site), target.named("kafka-consumer page"));
    tokio::spawn(async move {
        let history = Arc::clone(&site.history);
        let history = history.keep(Arc::clone(&site.counters), Arc::clone(&site.ends), Arc::clone(&site.health));
        tokio::join!(history, site.group_totals.keep(&target, &site.group_topic));
    })
}

/// Starts a writer and its sorter. Returns the command channel and the writer's task.
fn start_writer(
    number: usize,
    settings: &RunConfig,
    site: &HttpEndpoints,
    limiter: &DeadLetterLimiter,
    record_lookup: &RecordLookup,
    reporter: &mpsc::UnboundedSender<Report>,
    give_up: &CancellationToken,
) -> (mpsc::Sender<Command>, Writing) {
    let setting = WriterConfig {
        target: settings.target.named(&format!("kafka-consumer {} {number}", settings.group)),
        group_topic: site.group_topic.clone(),
        limiter: limiter.clone(),
        record_lookup: record_lookup.clone(),
        number,
        counters: Arc::clone(&site.counters),
        health: Arc::clone(&site.health),
        give_up: give_up.clone(),
    };
    let (command, inbox) = mpsc::channel(1);
    let (arranged, batches) = mpsc::channel(1);
    let recent = RecentIds::with_size(settings.memory.recent_ids(settings.writers));
    tokio::spawn(sorter::run(inbox, arranged, recent));
    (command, tokio::spawn(Writer::new(setting, reporter.clone()).run(batches)))
}

type Writing = JoinHandle<Result<(), WriterError>>;
type Reading = JoinHandle<std::thread::Result<anyhow::Result<FinishedSource>>>;

/// Waits for the source, then for the writers, and leaves the group last, so that the final commits reach it. A
/// writer's error takes precedence: it made the source end.
async fn end(
    reading: Reading,
    others_let_go: impl Future<Output = ()>,
    writers: Vec<Writing>,
    give_up: CancellationToken,
) -> anyhow::Result<()> {
    shutdown::waiting_for("the reading thread");
    let read = reading.await.context("cannot wait for the reading thread")?;
    // A panic has ended the process already, unless this runs as a library.
    let finish = read.unwrap_or_else(|panic| resume_unwind(panic));
    shutdown::waiting_for("Kafka, to report the partition offsets");
    others_let_go.await;
    shutdown::waiting_for("PostgreSQL, to commit the batches in flight");
    if finish.is_err() {
        // After an error the writers get the grace period only, instead of waiting for an outage to end.
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            give_up.cancel();
        });
    }
    match worst(writers).await? {
        None => {}
        // The writer may have given up because the source failed. The source's error is returned instead.
        Some(WriterError::Abandoned { .. }) if finish.is_err() => {}
        Some(error) => return Err(error.into()),
    }
    let mut finish = finish?;
    let caught_up = finish.caught_up();
    shutdown::waiting_for("Kafka, to leave the group");
    let leaving = tokio::task::spawn_blocking(|| finish.leave(FAREWELL));
    // `leave` has the same timeout. This one covers a call to librdkafka that does not return.
    if !matches!(tokio::time::timeout(FAREWELL + MARGIN, leaving).await, Ok(Ok(true))) {
        tracing::warn!("group not left: no answer from kafka");
    }
    caught_up
}

/// Returns the root error of the writers: a writer that gave up did so because another one failed.
async fn worst(writers: Vec<Writing>) -> anyhow::Result<Option<WriterError>> {
    let mut worst = None;
    for writer in writers {
        let ended = writer.await.context("cannot wait for a writer")?;
        if let Err(error) = ended
            && matches!(worst, None | Some(WriterError::Abandoned { .. }))
        {
            worst = Some(error);
        }
    }
    Ok(worst)
}

/// Shows progress. Once the deadline of a shutdown passes, makes the writers give up.
async fn watch(show: bool, site: Arc<HttpEndpoints>, shutdown: ShutdownDeadline, give_up: CancellationToken) {
    let progress = Progress::new(show, None, "records");
    let show = async {
        loop {
            let totals = site.counters.totals();
            let tally = totals.tally();
            site.health.kafka().log_outage(Instant::now());
            progress.set(tally.records);
            progress.say(match site.health.ready() {
                Ok(()) => format!(
                    "lag {}, {} duplicates, {} dead letters",
                    total_lag(&totals, &site.ends, &site.health).map_or_else(|| "unknown".to_owned(), grouped),
                    grouped(tally.duplicates),
                    grouped(tally.dead_letters)
                ),
                Err(reason) => reason,
            });
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::select! {
        () = show => {}
        () = async {
            shutdown.requested().await;
            site.health.ending();
            shutdown.over().await;
        } => give_up.cancel(),
    }
    std::future::pending::<()>().await;
}
