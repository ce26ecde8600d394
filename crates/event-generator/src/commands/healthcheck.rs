//! `healthcheck`: queries a running generator.

use anyhow::Context;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::healthcheck::HealthcheckArgs;

use crate::observability::DEFAULT_ADDRESS;

pub(crate) fn execute(args: &HealthcheckArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the async runtime")?.block_on(args.run(DEFAULT_ADDRESS))
}
