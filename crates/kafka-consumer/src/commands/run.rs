//! `kafka-consumer run`.

use std::fmt::Display;
use std::time::Duration;

use clap::Args;
use pipeline_runtime::duration::duration;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::http::HttpAddr;
use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::telemetry::LogArgs;
use pipeline_runtime::{output, shutdown};

use crate::commands::args::{DatabaseArgs, GroupArgs, WindowArgs, default_http_addr};
use crate::commands::summary;
use crate::ingest::batch::open::Limits;
use crate::ingest::memory_budget::{self, MemoryBudget};
use crate::ingest::offsets::resume::DataLossPolicy;
use crate::ingest::writer::dead_letter_limit::DeadLetterLimit;
use crate::ingest::{self, RunConfig};
use crate::kafka::watermarks::StartOffset;
use crate::postgres::migrations::Pending;

#[derive(Args, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    group: GroupArgs,
    /// A name of this one consumer that outlives it: restarted under it before its session times out (-X
    /// session.timeout.ms, 6 s unless set), it has its partitions at once and the others keep theirs
    #[arg(long, value_name = "NAME")]
    group_instance_id: Option<String>,
    /// Where a group begins that has never read the topic: earliest, latest, or a time such as 2026-11-22T00:00:00Z
    #[arg(long, default_value = "earliest")]
    start: StartOffset,
    /// End with exit code 0 when every record up to the ends of all partitions is committed in PostgreSQL
    #[arg(long)]
    until_caught_up: bool,
    /// Maximum wait of --until-caught-up for an open transaction that holds records back; then exit code 1. Java
    /// producers abort theirs within 70s
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration)]
    open_transaction_timeout: Duration,
    /// Refuse to run when scripts are pending, instead of applying them
    #[arg(long)]
    no_migrate: bool,
    /// Print the configuration, secrets left out, and end
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    window: WindowArgs,
    /// Records in a transaction at most
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_rows: u32,
    /// Bytes in a transaction at most [default: what --memory-limit leaves for each, up to 8MiB]
    #[arg(long, value_name = "BYTES", value_parser = batch_bytes)]
    batch_bytes: Option<usize>,
    /// How long a record waits for others to fill its transaction
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration)]
    batch_interval: Duration,
    /// Sessions of PostgreSQL that write side by side, each with partitions of its own
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    writers: u8,
    /// `MemoryBudget` that the process may take: Kafka's queues and the batches are bounded by it
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = memory_budget::parse_limit)]
    memory_limit: MemoryBudget,
    /// Dead letters at most among --dead-letter-window records, one after the other; more stop the consumer
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    dead_letter_limit: u64,
    /// See --dead-letter-limit
    #[arg(long, value_name = "RECORDS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    dead_letter_window: u64,
    /// Let so many more dead letters pass than the limit allows, this time
    #[arg(long, value_name = "N", default_value_t = 0)]
    allow_dead_letters: u64,
    /// Go on with the oldest record where retention took records before they were read
    #[arg(long)]
    allow_data_loss: bool,
    /// Read a topic that was deleted and recreated from its beginning
    #[arg(long)]
    allow_recreated_topic: bool,
    /// Where metrics, probes and the page are served: HOST:PORT or off. Port 0 is any that is free
    /// [default: 127.0.0.1:9464 where that is free, none otherwise]
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
                rows: self.batch_rows as usize,
                bytes: self.batch_bytes.unwrap_or_else(|| self.memory_limit.batch_bytes(self.writers.into())),
                interval: self.batch_interval,
            },
            window: self.window.window(),
            writers: usize::from(self.writers),
            memory: self.memory_limit,
            dead_letter_limit: DeadLetterLimit {
                maximum: self.dead_letter_limit,
                window: self.dead_letter_window,
                allowance: self.allow_dead_letters,
            },
            accept: DataLossPolicy { lost_records: self.allow_data_loss, new_topic: self.allow_recreated_topic },
            until_caught_up: self.until_caught_up,
            open_transaction_timeout: self.open_transaction_timeout,
            http: self.http_addr.clone().unwrap_or_else(default_http_addr),
            http_may_fail: self.http_addr.is_none(),
            pending: if self.no_migrate { Pending::Refuse } else { Pending::Apply },
            progress: log.shows_progress(),
        })
    }

    fn print_config(&self, settings: &RunConfig) -> Result<(), Failure> {
        let mut lines = Vec::new();
        let mut add = |name: &str, value: &dyn Display| lines.push(format!("{name} = {value}"));
        add("bootstrap-servers", &self.kafka.bootstrap_servers);
        add("topic", &self.kafka.topic);
        add("group-id", &settings.group);
        add("group-instance-id", &settings.instance.as_deref().unwrap_or_default());
        add("start", &settings.start);
        add("database", &settings.target);
        add("migrate", &(settings.pending == Pending::Apply));
        add("until-caught-up", &settings.until_caught_up);
        add("open-transaction-timeout", &format!("{}s", settings.open_transaction_timeout.as_secs()));
        add("http-addr", &settings.http);
        add("max-event-age", &format!("{}s", settings.window.past.as_secs()));
        add("max-event-skew", &format!("{}s", settings.window.future.as_secs()));
        add("batch-rows", &settings.limits.rows);
        add("batch-bytes", &settings.limits.bytes);
        add("batch-interval", &format!("{}ms", settings.limits.interval.as_millis()));
        add("writers", &settings.writers);
        add("memory-limit", &settings.memory.limit());
        add("dead-letter-limit", &settings.dead_letter_limit.maximum);
        add("dead-letter-window", &settings.dead_letter_limit.window);
        add("allow-dead-letters", &settings.dead_letter_limit.allowance);
        add("allow-data-loss", &settings.accept.lost_records);
        add("allow-recreated-topic", &settings.accept.new_topic);
        for (name, value) in self.kafka.redacted_properties()? {
            add("kafka-property", &format!("{name}={value}"));
        }
        output::line(lines.join("\n"))
    }

    /// Runs the pipeline and shows its summary.
    pub(crate) async fn run(&self, log: &LogArgs) -> Result<(), Failure> {
        let settings = self.settings(log)?;
        if self.print_config {
            return self.print_config(&settings);
        }
        let shutdown = shutdown::on_signal().map_err(|error| Failure::Failed(error.into()))?;
        summary::show(&ingest::run(settings, shutdown).await?, log);
        Ok(())
    }
}

fn batch_bytes(text: &str) -> Result<usize, String> {
    match memory_budget::parse(text)? {
        bytes if bytes < 1_024 => Err("less than 1KiB".to_owned()),
        bytes => Ok(bytes),
    }
}
