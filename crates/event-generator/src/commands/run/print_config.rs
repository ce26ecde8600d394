//! `--print-config`: prints the resolved configuration as JSON.

use std::io::{Write, stdout};

use pipeline_runtime::exit::Failure;
use pipeline_runtime::output::unless_closed;
use serde_json::{Map, Value, json};

use super::args::RunArgs;
use super::config;
use crate::clock::Clock;
use crate::commands::event_args::random_seed;
use crate::sinks::kafka::GUARDS;

pub(super) fn print_config(args: &RunArgs) -> Result<(), Failure> {
    let flags = &args.flags;
    let config = config::resolve(flags, Clock::start().now(), random_seed())?;
    flags.kafka.client_config(GUARDS)?;
    let lake = (!flags.no_lake).then(|| flags.lake.url().to_string());
    let properties: Map<String, Value> =
        flags.kafka.redacted_properties()?.into_iter().map(|(name, value)| (name, value.into())).collect();
    let kafka = (!flags.no_kafka).then(|| {
        json!({
            "bootstrap_servers": flags.kafka.bootstrap_servers,
            "topic": flags.kafka.topic,
            "headers": !flags.no_headers,
            "properties": properties,
        })
    });
    let document = json!({
        "run": config.run.as_str(),
        "settings": config.source.settings(),
        "rate": flags.rate.to_string(),
        "count": config.count,
        "republish": args.republish,
        "kafka": kafka,
        "lake": lake,
        "threads": args.threads(),
        "state_dir": args.state_dir(),
        "memory_limit": args.memory_limit.to_string(),
        "http_addr": args.http_addr.as_ref().map(ToString::to_string),
    });
    unless_closed(writeln!(stdout(), "{document:#}").map_err(Into::into))
}
