//! The command `produce`: sends lines to Kafka as records, unchecked, to show what the pipeline does with them.

use std::io::{self, BufRead, Write};
use std::time::SystemTime;

use anyhow::{Context, ensure};
use clap::Args;
use local_stack::Name;
use local_stack::raw_producer::{RawProducer, RawRecord};
use local_stack::resident::{Resident, State};

#[derive(Debug, Args)]
pub(crate) struct ProduceArguments {
    /// Topic, which must exist
    #[arg(long, default_value = "product-events")]
    topic: String,
    /// Partition of the topic
    #[arg(long, default_value_t = 0, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    /// Key of each record [default: no key]
    #[arg(long)]
    key: Option<String>,
}

/// Sends each line of standard input as one record with the present timestamp, and prints its position.
pub(crate) fn produce(resident: &Resident, args: &ProduceArguments) -> anyhow::Result<()> {
    let statuses = resident.status()?;
    let kafka = statuses.iter().find(|one| one.name == Name::Kafka && one.state == State::Running);
    let kafka = kafka.context("cannot send records: Kafka does not run; start it with 'local-stack up'")?;
    let mut producer = RawProducer::connect(&format!("127.0.0.1:{}", kafka.port), &args.topic)?;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().split(b'\n') {
        let value = line.context("cannot read standard input")?;
        let offset = producer.send(&record(args, value)?)?;
        writeln!(out, "{}/{} offset {offset}", args.topic, args.partition)?;
    }
    Ok(())
}

fn record(args: &ProduceArguments, value: Vec<u8>) -> anyhow::Result<RawRecord> {
    ensure!(value.len() <= MAX_VALUE, "cannot send a record of {} bytes: the maximum is {MAX_VALUE}", value.len());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(RawRecord {
        partition: args.partition,
        timestamp: i64::try_from(now.as_millis())?,
        key: args.key.clone().map(String::into_bytes),
        value,
        headers: Vec::new(),
    })
}

/// Maximum size of a value in bytes. Kafka's default `message.max.bytes` is slightly above 1 MiB, with the overhead of a batch.
const MAX_VALUE: usize = 1_000_000;
