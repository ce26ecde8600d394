//! `--print-config`: prints the resolved configuration as JSON.

use pipeline_runtime::exit::Failure;
use pipeline_runtime::{http, output};
use serde_json::{Value, json};

use super::args::RunArgs;
use super::config;
use crate::clock::Clock;
use crate::commands::event_args::random_seed;
use crate::observability::DEFAULT_ADDRESS;
use crate::sinks::kafka::GUARDS;

pub(super) fn print_config(args: &RunArgs) -> Result<(), Failure> {
    let flags = &args.flags;
    let config = config::resolve(flags, Clock::start().now(), random_seed())?;
    flags.kafka.client_config(GUARDS)?;
    let mut kafka = Value::Null;
    if !flags.no_kafka {
        kafka = flags.kafka.printed()?;
        kafka["headers"] = (!flags.no_headers).into();
    }
    output::config(&json!({
        "run": config.run.as_str(),
        "settings": config.source.settings(),
        "rate": flags.rate.to_string(),
        "count": config.count,
        "republish": args.republish,
        "kafka": kafka,
        "lake": (!flags.no_lake).then(|| flags.lake.url().to_string()),
        "threads": args.threads(),
        "state_dir": args.state_dir(),
        "login_grace": args.login_grace.to_string(),
        "memory_limit": args.memory_limit.to_string(),
        "http_addr": http::address(args.http_addr.as_ref(), DEFAULT_ADDRESS).to_string(),
    }))
}
