//! `kafka-consumer run`.

use anyhow::Context;
use clap::Args;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::http::{self, HttpAddr};
use pipeline_runtime::kafka::{KafkaArgs, not_empty};
use pipeline_runtime::output;
use pipeline_runtime::shutdown::ShutdownDeadline;
use pipeline_runtime::telemetry::LogArgs;
use pipeline_runtime::units::{ByteSize, Count, TimeSpan};
use serde_json::json;

use crate::commands::args::{DatabaseArgs, GroupArgs, WindowArgs};
use crate::commands::summary;
use crate::ingest::batch::open::Limits;
use crate::ingest::memory_budget::MemoryBudget;
use crate::ingest::offsets::resume::DataLossPolicy;
use crate::ingest::topic::MissingTopic;
use crate::ingest::writer::dead_letter_limit::DeadLetterLimit;
use crate::ingest::{self, RunConfig};
use crate::kafka::start_offset::StartOffset;
use crate::observability::endpoints::DEFAULT_ADDRESS;
use crate::postgres::migrations::Pending;

#[derive(Args, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    group: GroupArgs,
    /// Static membership ID (group.instance.id): a consumer that restarts within the session timeout keeps its
    /// partitions (-X session.timeout.ms=N, 6 s by default) [default: none]
    #[arg(long, value_name = "ID", value_parser = not_empty)]
    group_instance_id: Option<String>,
    /// Start offset of a group that has never read the topic: earliest, latest, or a time such as 2026-11-22T00:00:00Z
    #[arg(long, value_name = "OFFSET", default_value = "earliest")]
    start: StartOffset,
    /// Exit with code 0 once all partitions are committed up to their ends
    #[arg(long)]
    until_caught_up: bool,
    /// Maximum time that --until-caught-up waits for an open Kafka transaction; exit with code 1 after that. Brokers
    /// abort the transactions of Java producers within 70s by default
    #[arg(long, value_name = "DURATION", default_value = "90s", allow_hyphen_values = true)]
    open_transaction_timeout: TimeSpan,
    /// Create the topic with 6 partitions if it does not exist [default: wait until it exists]
    #[arg(long)]
    create_topic: bool,
    /// Maximum time for which Kafka or PostgreSQL may refuse the login while it runs, such as after a password change;
    /// exit with code 1 after that. The files with passwords and certificates are read again for each login
    #[arg(long, value_name = "DURATION", default_value = "2m", allow_hyphen_values = true)]
    login_grace: TimeSpan,
    /// Fail if migrations are pending instead of applying them
    #[arg(long)]
    no_migrate: bool,
    /// Print the effective configuration as JSON, without secrets, and exit
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    window: WindowArgs,
    /// Maximum number of records per transaction, from 1 to 1M
    #[arg(long, value_name = "N", default_value = "30k", allow_hyphen_values = true, value_parser = Count::within(Count::new(1)..=Count::new(1_000_000)))]
    batch_rows: Count,
    /// Maximum size of a transaction, at least 1KiB [default: a share of --memory-limit, from 64KiB to 8MiB]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = ByteSize::within(ByteSize::from_kib(1)..))]
    batch_bytes: Option<ByteSize>,
    /// Maximum time that a record waits for its transaction to fill while the writer is free
    #[arg(long, value_name = "DURATION", default_value = "100ms", allow_hyphen_values = true)]
    batch_interval: TimeSpan,
    /// Number of PostgreSQL sessions that write in parallel, each for its own partitions, from 1 to 64
    #[arg(long, value_name = "N", default_value_t = 2, allow_hyphen_values = true, value_parser = pipeline_runtime::units::count_within::<u8>(1..=64))]
    writers: u8,
    /// Maximum memory of the process, at least 128MiB; limits Kafka's prefetch queues and the batches
    #[arg(long, value_name = "BYTES", default_value = "256MiB", allow_hyphen_values = true)]
    memory_limit: MemoryBudget,
    /// Maximum number of dead letters among --dead-letter-window consecutive records; more stop the consumer
    #[arg(long, value_name = "N", default_value = "1k", allow_hyphen_values = true)]
    dead_letter_limit: Count,
    /// Number of consecutive records to which --dead-letter-limit applies, at least 1
    #[arg(long, value_name = "N", default_value = "10k", allow_hyphen_values = true, value_parser = Count::within(Count::new(1)..))]
    dead_letter_window: Count,
    /// Number of dead letters that this run accepts beyond the limit
    #[arg(long, value_name = "N", default_value = "0", allow_hyphen_values = true)]
    allow_dead_letters: Count,
    /// Resume at the oldest record if Kafka's retention deleted records before they were read
    #[arg(long)]
    allow_data_loss: bool,
    /// Read the topic from its beginning, or from --start if that is a time, if it was deleted and recreated or the
    /// brokers are those of another cluster
    #[arg(long)]
    allow_recreated_topic: bool,
    /// Listen address for metrics, probes and the web page, as HOST:PORT or off; port 0 selects a free port
    /// [default: 127.0.0.1:9464 if that port is free, otherwise off]
    #[arg(long, value_name = "HOST:PORT")]
    http_addr: Option<HttpAddr>,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl RunArgs {
    fn settings(&self, log: &LogArgs) -> Result<RunConfig, Failure> {
        Ok(RunConfig {
            kafka: self.kafka.clone(),
            target: self.database.target()?.named("kafka-consumer"),
            group: self.group.group_id.clone(),
            instance: self.group_instance_id.clone(),
            start: self.start,
            limits: Limits {
                rows: usize::try_from(self.batch_rows.get()).unwrap_or(usize::MAX),
                bytes: self
                    .batch_bytes
                    .map_or_else(|| self.memory_limit.batch_bytes(self.writers.into()), ByteSize::to_usize),
                interval: self.batch_interval.get(),
            },
            window: self.window.window(),
            writers: usize::from(self.writers),
            memory: self.memory_limit,
            dead_letter_limit: DeadLetterLimit {
                maximum: self.dead_letter_limit.get(),
                window: self.dead_letter_window.get(),
                allowance: self.allow_dead_letters.get(),
            },
            accept: DataLossPolicy { lost_records: self.allow_data_loss, new_topic: self.allow_recreated_topic },
            until_caught_up: self.until_caught_up,
            open_transaction_timeout: self.open_transaction_timeout.get(),
            login_grace: self.login_grace.get(),
            missing_topic: match (self.create_topic, self.until_caught_up) {
                (true, _) => MissingTopic::Create,
                (false, true) => MissingTopic::Fail,
                (false, false) => MissingTopic::Await,
            },
            http: self.http_addr.clone(),
            pending: if self.no_migrate { Pending::Refuse } else { Pending::Apply },
            progress: log.shows_progress(),
        })
    }

    fn print_config(&self, settings: &RunConfig) -> Result<(), Failure> {
        output::config(&json!({
            "kafka": self.kafka.printed()?,
            "group_id": settings.group,
            "group_instance_id": settings.instance,
            "start": settings.start.to_string(),
            "database": settings.target.to_string(),
            "migrate": settings.pending == Pending::Apply,
            "until_caught_up": settings.until_caught_up,
            "open_transaction_timeout": self.open_transaction_timeout.to_string(),
            "create_topic": self.create_topic,
            "login_grace": self.login_grace.to_string(),
            "http_addr": http::address(settings.http.as_ref(), DEFAULT_ADDRESS).to_string(),
            "max_event_age": self.window.max_event_age.to_string(),
            "max_event_skew": self.window.max_event_skew.to_string(),
            "batch_rows": settings.limits.rows,
            "batch_bytes": ByteSize::from_bytes(settings.limits.bytes as u64).to_string(),
            "batch_interval": self.batch_interval.to_string(),
            "writers": settings.writers,
            "memory_limit": settings.memory.limit().to_string(),
            "dead_letter_limit": settings.dead_letter_limit.maximum,
            "dead_letter_window": settings.dead_letter_limit.window,
            "allow_dead_letters": settings.dead_letter_limit.allowance,
            "allow_data_loss": settings.accept.lost_records,
            "allow_recreated_topic": settings.accept.new_topic,
        }))
    }

    /// Runs the pipeline and prints its summary.
    pub(crate) async fn run(&self, log: &LogArgs) -> Result<(), Failure> {
        let settings = self.settings(log)?;
        if self.print_config {
            return self.print_config(&settings);
        }
        let shutdown = ShutdownDeadline::on_signal(ingest::GRACE).context("cannot install the signal handlers")?;
        summary::show(&ingest::run(settings, shutdown).await?, log);
        Ok(())
    }
}
