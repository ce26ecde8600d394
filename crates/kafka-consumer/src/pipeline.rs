//! The way of a record: Kafka -> source -> batch -> writer -> PostgreSQL.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use event_model::Window;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::{self, Guard, KafkaArgs};
use pipeline_runtime::progress::Progress;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::BaseConsumer;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::arranger;
use crate::batch::Limits;
use crate::counters::{Counters, Tally};
use crate::memory::Memory;
use crate::migrations::{self, Pending};
use crate::offsets::resume::{Accept, Resume};
use crate::offsets::{self, Claim, Start};
use crate::postgres::{self, Target};
use crate::recent_ids::RecentIds;
use crate::source::{Context as SourceContext, Finish, Reread, Setting as SourceSetting, Source};
use crate::writer::{Breaker, Setting as WriterSetting, Tolerance, Writer, WriterError};

/// How long an end that was asked for may take.
const GRACE: Duration = Duration::from_secs(8);

/// Properties on which the guarantee rests.
const GUARDS: &[Guard] = &[
    Guard {
        property: "enable.auto.commit",
        value: Some("false"),
        because: "the offsets are kept in PostgreSQL and told to Kafka only after they are committed there",
    },
    Guard {
        property: "enable.auto.offset.store",
        value: Some("false"),
        because: "the offsets are kept in PostgreSQL and told to Kafka only after they are committed there",
    },
    Guard {
        property: "isolation.level",
        value: Some("read_committed"),
        because: "records of aborted transactions would become rows",
    },
    Guard {
        property: "auto.offset.reset",
        value: Some("error"),
        because: "a jump over records that are gone would go unnoticed; --start says where a new group begins",
    },
    Guard { property: "enable.partition.eof", value: Some("true"), because: "--until-caught-up would never end" },
    Guard {
        property: "group.protocol",
        value: Some("classic"),
        because: "the rebalances of the other one are not handled",
    },
    Guard { property: "group.id", value: None, because: "--group-id gives it" },
    Guard { property: "group.instance.id", value: None, because: "--group-instance-id gives it" },
    Guard { property: "enable.idempotence", value: None, because: "it is a producer's" },
    Guard { property: "partitioner", value: None, because: "it is a producer's" },
];

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
    /// End at the end of all partitions.
    pub until_caught_up: bool,
    /// What to do about pending scripts.
    pub pending: Pending,
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
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<Summary, Failure> {
    let mut config = client_config(&settings.kafka, &settings.group)?;
    let topic = kafka::ensure_topic(&config, &settings.kafka.topic).await?;
    settings.memory.bound_queues(usize::try_from(topic.partitions).unwrap_or(1), &mut config);
    let mut client = postgres::connect_at_start(&settings.target).await?;
    for script in migrations::bring_up_to_date(&mut client, settings.pending).await? {
        tracing::info!(script, "script applied");
    }
    let claim = Claim { group: settings.group.clone(), topic: settings.kafka.topic.clone() };
    let kafka = consumer(&config, settings.instance.as_deref())?;
    offsets::first_start(&mut client, &claim, &kafka, settings.start).await?;
    drop(client);
    tracing::info!(topic = claim.topic, partitions = topic.partitions, group = claim.group, postgres = %settings.target, "reading");

    let began = Instant::now();
    let counters = Arc::new(Counters::default());
    let breaker = Breaker::new(settings.tolerance);
    let reread = Reread::new(&config, &claim.topic);
    let give_up = CancellationToken::new();
    let (reporter, reports) = mpsc::unbounded_channel();
    let mut writers = Vec::new();
    let mut commands = Vec::new();
    for number in 1..=settings.writers {
        let setting = WriterSetting {
            target: settings.target.named(&format!("kafka-consumer {} {number}", settings.group)),
            claim: claim.clone(),
            breaker: breaker.clone(),
            reread: reread.clone(),
            counters: Arc::clone(&counters),
            give_up: give_up.clone(),
        };
        let (command, inbox) = mpsc::channel(1);
        let (arranged, batches) = mpsc::channel(1);
        let recent = RecentIds::with_size(settings.memory.recent_ids(settings.writers));
        commands.push(command);
        tokio::spawn(arranger::run(inbox, arranged, recent));
        writers.push(tokio::spawn(Writer::new(setting, reporter.clone()).run(batches)));
    }
    drop(reporter);

    let (target, accept) = (settings.target.clone(), settings.accept);
    let source = SourceSetting {
        resume: Resume { target, claim, kafka: Arc::clone(&kafka), reread, accept },
        limits: settings.limits,
        window: settings.window,
        until_caught_up: settings.until_caught_up,
        shutdown: shutdown.clone(),
        runtime: Handle::current(),
    };
    let source = Source::new(source, kafka, commands, reports);
    let reading = std::thread::Builder::new()
        .name("source".to_owned())
        .spawn(|| source.run())
        .context("no thread for the source")?;
    let reading = tokio::task::spawn_blocking(move || reading.join());

    let watching = tokio::spawn(watch(settings.progress, Arc::clone(&counters), shutdown, give_up.clone()));
    let result = end(reading, writers, give_up).await;
    watching.abort();
    result?;
    Ok(Summary {
        tally: counters.tally(),
        transactions: counters.batches(),
        retries: counters.retries(),
        elapsed: began.elapsed(),
        reading: counters.reading(),
    })
}

type Reading = JoinHandle<std::thread::Result<anyhow::Result<Finish>>>;

/// Waits for the source, then for the writers, and only then leaves the group. A writer's error comes first: it is why
/// the source ended.
async fn end(
    reading: Reading,
    writers: Vec<JoinHandle<Result<(), WriterError>>>,
    give_up: CancellationToken,
) -> anyhow::Result<()> {
    let finish = match reading.await {
        Ok(Ok(finish)) => finish,
        _ => Err(anyhow!("the source panicked, which is a bug; nothing is lost: the offsets stand where the rows do")),
    };
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
    let finish = finish?;
    tokio::task::spawn_blocking(|| finish.leave()).await.context("the group was not left in order")
}

/// The error that the others follow from: one that gave up did so because another one failed.
async fn worst(writers: Vec<JoinHandle<Result<(), WriterError>>>) -> anyhow::Result<Option<WriterError>> {
    let mut worst = None;
    for writer in writers {
        let ended = writer.await.context("a writer panicked, which is a bug; its transaction is rolled back")?;
        if let Err(error) = ended
            && matches!(worst, None | Some(WriterError::Abandoned { .. }))
        {
            worst = Some(error);
        }
    }
    Ok(worst)
}

/// Shows progress, and bounds the end once it was asked for.
async fn watch(show: bool, counters: Arc<Counters>, shutdown: CancellationToken, give_up: CancellationToken) {
    let progress = Progress::new(show, None, "records");
    let show = async {
        loop {
            let tally = counters.tally();
            progress.set(tally.records);
            progress.say(format!(
                "{} rows, {} duplicates, {} dead letters",
                tally.rows, tally.duplicates, tally.dead_letters
            ));
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::select! {
        () = show => {}
        () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE).await } => give_up.cancel(),
    }
    std::future::pending::<()>().await;
}

/// The consumer's configuration, with what the guarantee needs.
pub fn client_config(kafka: &KafkaArgs, group: &str) -> Result<ClientConfig, Failure> {
    let mut config = kafka.client_config(GUARDS)?;
    config.set("group.id", group).set("client.id", "kafka-consumer");
    for guard in GUARDS {
        if let Some(value) = guard.value {
            config.set(guard.property, value);
        }
    }
    // Ours are defaults where the user says nothing. A member that was killed is missed for six seconds only; the
    // queue's back-off of a second would leave a fast consumer without records.
    let defaults = [
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "2000"),
        ("fetch.queue.backoff.ms", "5"),
    ];
    for (property, value) in defaults {
        if config.get(property).is_none() {
            config.set(property, value);
        }
    }
    Ok(config)
}

fn consumer(config: &ClientConfig, instance: Option<&str>) -> Result<Arc<BaseConsumer<SourceContext>>, Failure> {
    let mut config = config.clone();
    if let Some(instance) = instance {
        config.set("group.instance.id", instance);
    }
    let consumer = BaseConsumer::from_config_and_context(&config, SourceContext::default());
    consumer.map(Arc::new).map_err(|error| Failure::usage(format!("Kafka's properties do not go together: {error}")))
}
