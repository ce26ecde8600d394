//! The way of a record: Kafka -> source -> batch -> writer -> PostgreSQL.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use event_model::Window;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::http::{self, HttpAddr};
use pipeline_runtime::kafka::{self, KafkaArgs};
use pipeline_runtime::progress::Progress;
use pipeline_runtime::shutdown::{self, ShutdownDeadline};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::arranger;
use crate::batch::Limits;
use crate::counters::Tally;
use crate::kafka_client::{KafkaClient, client_config, uncommitted};
use crate::lag;
use crate::memory::Memory;
use crate::migrations::{self, Pending};
use crate::offsets::identity::TopicIdentity;
use crate::offsets::resume::{Accept, Resume};
use crate::offsets::{self, Claim, Start};
use crate::postgres::{self, Target};
use crate::recent_ids::RecentIds;
use crate::site::{DEFAULT_ADDRESS, Site};
use crate::source::{FAREWELL, Finish, Reread, Setting as SourceSetting, Source};
use crate::writer::{Breaker, Command, Report, Setting as WriterSetting, Tolerance, Writer, WriterError};

/// Time of a shutdown for the batches in flight.
pub const GRACE: Duration = Duration::from_secs(6);

const MARGIN: Duration = Duration::from_millis(500);

/// What a run is asked to do.
#[derive(Clone)]
pub struct Settings {
    /// Kafka and the topic.
    pub kafka: KafkaArgs,
    /// The warehouse.
    pub target: Target,
    /// The consumer group.
    pub group: String,
    /// A name in the group that outlives this process.
    pub instance: Option<String>,
    /// Where a new group begins.
    pub start: Start,
    /// When batches are closed.
    pub limits: Limits,
    /// How far events may lie from their records.
    pub window: Window,
    /// Sessions of PostgreSQL that write side by side.
    pub writers: usize,
    /// What the process may take.
    pub memory: Memory,
    /// How many dead letters are borne.
    pub tolerance: Tolerance,
    /// What is accepted where records are gone.
    pub accept: Accept,
    /// End when everything up to the ends of all partitions is committed.
    pub until_caught_up: bool,
    /// Maximum wait of such a run for an open transaction.
    pub open_transaction_timeout: Duration,
    /// What to do about pending scripts.
    pub pending: Pending,
    /// The address of `--http-addr`, if given.
    pub http: Option<HttpAddr>,
    /// Show progress.
    pub progress: bool,
}

/// What a run did.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// What became of the records.
    pub tally: Tally,
    /// Batches that were committed.
    pub transactions: u64,
    /// Attempts that were made again.
    pub retries: u64,
    /// From the first subscription to the end.
    pub elapsed: Duration,
    /// From the first record to the last commit.
    pub reading: Duration,
}

/// Runs until it is caught up or the shutdown is asked for.
pub async fn run(settings: Settings, shutdown: ShutdownDeadline) -> Result<Summary, Failure> {
    let claim = Claim { group: settings.group.clone(), topic: settings.kafka.topic.clone() };
    let site = Arc::new(Site::new(claim.clone()));
    let _server = http::start(settings.http.as_ref(), DEFAULT_ADDRESS, Arc::clone(&site) as Arc<_>)
        .await
        .map_err(anyhow::Error::from)?;
    let mut config = client_config(&settings.kafka, &settings.group)?;
    let topic = kafka::ensure_topic(&config, &settings.kafka.topic).await?;
    settings.memory.bound_queues(usize::try_from(topic.partitions).unwrap_or(1), &mut config);
    let mut client = postgres::connect_at_start(&settings.target).await?;
    for script in migrations::bring_up_to_date(&mut client, settings.pending).await? {
        tracing::info!(script, "script applied");
    }
    let kafka = KafkaClient::new(&config, settings.instance.as_deref())?;
    offsets::first_start(&mut client, &claim, &kafka.current(), settings.start).await?;
    drop(client);
    tracing::info!(topic = claim.topic, partitions = topic.partitions, group = claim.group, postgres = %settings.target, "reading");

    let began = Instant::now();
    let counters = Arc::clone(&site.counters);
    let breaker = Breaker::new(settings.tolerance);
    let reread = Reread::new(&config, &claim.topic);
    let give_up = CancellationToken::new();
    let (reporter, reports) = mpsc::unbounded_channel();
    let start = |number| start_writer(number, &settings, &site, &breaker, &reread, &reporter, &give_up);
    let (commands, writers) = (1..=settings.writers).map(start).unzip();
    drop(reporter);

    let (target, accept) = (settings.target.clone(), settings.accept);
    let identity = Arc::<TopicIdentity>::default();
    let source = SourceSetting {
        resume: Resume { target, claim, kafka: kafka.clone(), reread, accept, identity: Arc::clone(&identity) },
        limits: settings.limits,
        window: settings.window,
        until_caught_up: settings.until_caught_up,
        open_transaction_timeout: settings.open_transaction_timeout,
        ends: Arc::clone(&site.ends),
        shutdown: shutdown.clone(),
        give_up: give_up.clone(),
        runtime: Handle::current(),
        health: Arc::clone(&site.health),
    };
    let stop_asking = CancellationToken::new();
    let ends = lag::Watch {
        kafka,
        topic: site.claim.topic.clone(),
        uncommitted: Reread::new(&uncommitted(&config), &site.claim.topic),
        counters: Arc::clone(&counters),
        ends: Arc::clone(&site.ends),
        identity,
    };
    let asking = tokio::spawn(ends.run(stop_asking.clone()));
    let remembering = tokio::spawn(Arc::clone(&site.recent).keep(Arc::clone(&counters), Arc::clone(&site.ends)));
    let source = Source::new(source, commands, reports);
    let reading = std::thread::Builder::new()
        .name("source".to_owned())
        .spawn(|| source.run())
        .context("no thread for the source")?;
    let reading = tokio::task::spawn_blocking(move || reading.join());

    let watching = tokio::spawn(watch(settings.progress, Arc::clone(&site), shutdown, give_up.clone()));
    let stop = async {
        stop_asking.cancel();
        let _ = asking.await;
    };
    let result = end(reading, stop, writers, give_up).await;
    watching.abort();
    remembering.abort();
    result?;
    Ok(Summary {
        tally: counters.tally(),
        transactions: counters.batches(),
        retries: counters.retries(),
        elapsed: began.elapsed(),
        reading: counters.reading(),
    })
}

/// Starts a writer and who puts its batches in order. Returns where its batches are handed over, and its end.
fn start_writer(
    number: usize,
    settings: &Settings,
    site: &Site,
    breaker: &Breaker,
    reread: &Reread,
    reporter: &mpsc::UnboundedSender<Report>,
    give_up: &CancellationToken,
) -> (mpsc::Sender<Command>, Writing) {
    let setting = WriterSetting {
        target: settings.target.named(&format!("kafka-consumer {} {number}", settings.group)),
        claim: site.claim.clone(),
        breaker: breaker.clone(),
        reread: reread.clone(),
        number,
        counters: Arc::clone(&site.counters),
        health: Arc::clone(&site.health),
        give_up: give_up.clone(),
    };
    let (command, inbox) = mpsc::channel(1);
    let (arranged, batches) = mpsc::channel(1);
    let recent = RecentIds::with_size(settings.memory.recent_ids(settings.writers));
    tokio::spawn(arranger::run(inbox, arranged, recent));
    (command, tokio::spawn(Writer::new(setting, reporter.clone()).run(batches)))
}

type Writing = JoinHandle<Result<(), WriterError>>;
type Reading = JoinHandle<std::thread::Result<anyhow::Result<Finish>>>;

/// Waits for the source, then for the writers, and only then leaves the group. A writer's error comes first: it is why
/// the source ended.
async fn end(
    reading: Reading,
    others_let_go: impl Future<Output = ()>,
    writers: Vec<Writing>,
    give_up: CancellationToken,
) -> anyhow::Result<()> {
    shutdown::waiting_for("the reading thread");
    let read = reading.await.context("the reading thread was not waited for")?;
    // A panic has ended the process already, unless this runs as a library.
    let finish = read.unwrap_or_else(|panic| resume_unwind(panic));
    shutdown::waiting_for("Kafka's answer about the ends of partitions");
    others_let_go.await;
    shutdown::waiting_for("PostgreSQL, to commit the batches in flight");
    if finish.is_err() {
        // What ends with an error does not wait out an outage first.
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            give_up.cancel();
        });
    }
    match worst(writers).await? {
        None => {}
        // One that gave up may have done so because of what ended the source.
        Some(WriterError::Abandoned { .. }) if finish.is_err() => {}
        Some(error) => return Err(error.into()),
    }
    let mut finish = finish?;
    let caught_up = finish.caught_up();
    shutdown::waiting_for("Kafka, to leave the group");
    let leaving = tokio::task::spawn_blocking(|| finish.leave(FAREWELL));
    // Closing has the same limit; this one is for a call of librdkafka that does not return.
    if !matches!(tokio::time::timeout(FAREWELL + MARGIN, leaving).await, Ok(Ok(true))) {
        tracing::warn!("group not left: kafka does not answer");
    }
    caught_up
}

/// The error that the others follow from: one that gave up did so because another one failed.
async fn worst(writers: Vec<Writing>) -> anyhow::Result<Option<WriterError>> {
    let mut worst = None;
    for writer in writers {
        let ended = writer.await.context("a writer was not waited for")?;
        if let Err(error) = ended
            && matches!(worst, None | Some(WriterError::Abandoned { .. }))
        {
            worst = Some(error);
        }
    }
    Ok(worst)
}

/// Shows progress, and bounds the end once it was asked for.
async fn watch(show: bool, site: Arc<Site>, shutdown: ShutdownDeadline, give_up: CancellationToken) {
    let progress = Progress::new(show, None, "records");
    let show = async {
        loop {
            let tally = site.counters.tally();
            progress.set(tally.records);
            let suppressed = match tally.suppressed {
                0 => String::new(),
                count => format!(", {count} suppressed"),
            };
            progress.say(format!(
                "{} rows, {} duplicates, {} dead letters{suppressed}",
                tally.rows, tally.duplicates, tally.dead_letters
            ));
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
