//! `kafka-consumer healthcheck`.

use std::time::Duration;

use clap::Args;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::http::{self, HttpAddr};

use super::{DEFAULT_HTTP_ADDR, duration};

#[derive(Args, Clone)]
pub(super) struct HealthcheckArgs {
    /// Where the running consumer serves: its own --http-addr
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_HTTP_ADDR)]
    http_addr: HttpAddr,
    /// Ask whether records are brought in now (/readyz), not only whether the process can go on (/livez)
    #[arg(long)]
    ready: bool,
    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    timeout: Duration,
}

impl HealthcheckArgs {
    /// Succeeds when the answer is yes; prints the answer.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let HttpAddr::At(address) = &self.http_addr else {
            return Err(Failure::usage("--http-addr off: there is nobody to ask"));
        };
        let path = if self.ready { "/readyz" } else { "/livez" };
        let (status, body) = http::get(address, path, self.timeout).await.map_err(anyhow::Error::from)?;
        let said = body.trim();
        if status == 200 {
            println!("{said}");
            return Ok(());
        }
        Err(Failure::Failed(anyhow::anyhow!("{path} at {address} says {status}: {said}")))
    }
}
