//! What a running generator answers over HTTP: probes and metrics.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pipeline_runtime::http::{Answer, Answers, HttpAddr, HttpError, Server};
use pipeline_runtime::metrics::Histogram;

use crate::ending::Ending;
use crate::manifest::Ledger;
use crate::metrics::{self, LATENESS_BOUNDS, Shown};
use crate::schedule::{Clock, Pace};

/// Where it is listened unless told otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9465";
/// So long nothing is acknowledged, and the run is not ready.
const STALL: Duration = Duration::from_secs(5);

/// All that is seen from outside.
#[derive(Debug)]
pub struct Site {
    run: OnceLock<(Ledger, Pace)>,
    lateness: Histogram,
    clock: Clock,
    ending: Ending,
    stall: Mutex<Stall>,
}

/// Since when Kafka has acknowledged no more, although there is more.
#[derive(Debug)]
struct Stall {
    records: u64,
    since: Instant,
}

impl Site {
    /// Of a process that has just started.
    #[must_use]
    pub fn new(clock: Clock, ending: Ending) -> Self {
        let stall = Mutex::new(Stall { records: 0, since: Instant::now() });
        Self { run: OnceLock::new(), lateness: Histogram::new(LATENESS_BOUNDS), clock, ending, stall }
    }

    /// The run has begun.
    pub fn begin(&self, ledger: Ledger, pace: Pace) {
        self.run.get_or_init(|| (ledger, pace));
        self.stall.lock().unwrap_or_else(PoisonError::into_inner).since = Instant::now();
    }

    /// An event was handed over so many microseconds after it was due.
    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    pub fn handed_over(&self, late_micros: i64) {
        self.lateness.observe(late_micros.max(0) as f64 / 1e6, 1);
    }

    /// Looks whether Kafka gets on. Called a few times a second.
    pub fn look(&self) {
        let Some((Some((_, deliveries)), made)) = self.run.get().map(|(ledger, _)| (&ledger.kafka, &ledger.tally))
        else {
            return;
        };
        let records = deliveries.records();
        let all = made.made().counts.ends().kafka_records <= records;
        let mut stall = self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        if all || records != stall.records {
            *stall = Stall { records, since: Instant::now() };
        }
    }

    /// In seconds.
    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    fn behind(&self) -> f64 {
        let live = self.run.get().filter(|(_, pace)| *pace == Pace::Live);
        live.map_or(0.0, |(ledger, _)| {
            let due = ledger.source.due(ledger.tally.next_index()).micros();
            self.clock.micros().saturating_sub(due).max(0) as f64 / 1e6
        })
    }
}

/// Answers from now on, if it is to. Without an address it goes on where the usual one is taken.
pub async fn listen(address: Option<&HttpAddr>, site: &Arc<Site>) -> anyhow::Result<Option<Server>> {
    let usual = HttpAddr::At(DEFAULT_ADDRESS.to_owned());
    let HttpAddr::At(place) = address.unwrap_or(&usual) else { return Ok(None) };
    match Server::start(place, Arc::clone(site) as Arc<_>).await {
        Ok(server) => {
            tracing::info!(address = %server.address(), "http listening");
            Ok(Some(server))
        }
        Err(error @ HttpError::Taken { .. }) if address.is_none() => {
            tracing::warn!(%error, "goes on without http");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

impl Answers for Site {
    fn metrics(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "seconds with a fraction")]
        let started = self.clock.started_at().micros() as f64 / 1e6;
        let shown = Shown { lateness: &self.lateness, behind: self.behind(), ready: self.ready().is_ok(), started };
        metrics::render(self.run.get().map(|(ledger, _)| ledger), shown)
    }

    fn live(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        if self.ending.asked() {
            return Err("ending".to_owned());
        }
        if self.run.get().is_none() {
            return Err("starting: Kafka and the lake are being reached".to_owned());
        }
        let still = self.stall.lock().unwrap_or_else(PoisonError::into_inner).since.elapsed();
        if still > STALL {
            return Err(format!("Kafka has acknowledged nothing for {} s", still.as_secs()));
        }
        Ok(())
    }

    fn other(&self, _: &str, _: &str) -> Option<Answer> {
        None
    }
}
