//! `healthcheck`: queries the probes of a running program.

use clap::Args;

use crate::exit::Failure;
use crate::http::{self, HttpAddr};
use crate::output;
use crate::units::TimeSpan;

/// Address and probe to query.
#[derive(Args, Clone, Debug)]
pub struct HealthcheckArgs {
    /// Address of the running program, as in its --http-addr [default: 127.0.0.1:9464 for kafka-consumer,
    /// 127.0.0.1:9465 for event-generator]
    #[arg(long, value_name = "HOST:PORT")]
    pub http_addr: Option<HttpAddr>,
    /// Query readiness (/readyz) instead of liveness (/livez)
    #[arg(long)]
    pub ready: bool,
    /// Deadline for the response, such as 500ms or 3s
    #[arg(long, value_name = "DURATION", default_value = "3s", allow_hyphen_values = true)]
    pub timeout: TimeSpan,
}

impl HealthcheckArgs {
    /// Queries the probe and prints its response. `default` is the address if `--http-addr` is not given.
    ///
    /// Fails unless the status is 200.
    pub async fn run(&self, default: &str) -> Result<(), Failure> {
        let address = match &self.http_addr {
            None => default,
            Some(HttpAddr::At(address)) => address,
            Some(HttpAddr::Off) => {
                return Err(Failure::usage("--http-addr off: no address to query; give the HOST:PORT of the program"));
            }
        };
        let path = if self.ready { "/readyz" } else { "/livez" };
        let (status, body) = http::get(address, path, self.timeout.get()).await.map_err(anyhow::Error::from)?;
        let said = body.trim();
        if status == 200 {
            return output::line(said);
        }
        Err(Failure::Failed(anyhow::anyhow!("{path} at {address} returned {status}: {said}")))
    }
}
