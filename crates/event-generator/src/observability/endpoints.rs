//! What a running generator answers over HTTP: probes and metrics.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pipeline_runtime::http::{Answer, Answers, HttpAddr, HttpError, Server};
use pipeline_runtime::metrics::Histogram;

use crate::observability::metrics::{self, LATENESS_BOUNDS, Shown};
use crate::observability::run_stats::Ledger;
use crate::pipeline::block_plan::{Clock, Pace};
use crate::shutdown::Ending;

/// Where it is listened unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:9465";
/// So long Kafka acknowledges nothing, and the run is not ready.
const KAFKA_STALL: Duration = Duration::from_secs(5);
/// So long the lake takes no file. The largest ones need that where the line is slow.
const LAKE_STALL: Duration = Duration::from_secs(30);

/// All that is seen from outside.
#[derive(Debug)]
pub struct Site {
    run: OnceLock<(Ledger, Pace)>,
    lateness: Histogram,
    clock: Clock,
    ending: Ending,
    kafka: Mutex<Stall>,
    lake: Mutex<Stall>,
}

/// Since when a sink has taken no more, although there is more.
#[derive(Debug)]
struct Stall {
    taken: u64,
    since: Instant,
}

impl Site {
    /// Of a process that has just started.
    #[must_use]
    pub fn new(clock: Clock, ending: Ending) -> Self {
        let [kafka, lake] = [(), ()].map(|()| Mutex::new(Stall { taken: 0, since: Instant::now() }));
        Self { run: OnceLock::new(), lateness: Histogram::new(LATENESS_BOUNDS), clock, ending, kafka, lake }
    }

    /// The run has begun.
    pub fn begin(&self, ledger: Ledger, pace: Pace) {
        self.run.get_or_init(|| (ledger, pace));
        for stall in [&self.kafka, &self.lake] {
            lock(stall).since = Instant::now();
        }
    }

    /// An event was handed over so many microseconds after it was due.
    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    pub fn handed_over(&self, late_micros: i64) {
        self.lateness.observe(late_micros.max(0) as f64 / 1e6, 1);
    }

    /// Looks whether Kafka and the lake get on. Called a few times a second.
    pub fn look(&self) {
        let Some((ledger, _)) = self.run.get() else { return };
        if let Some((_, deliveries)) = &ledger.kafka {
            let records = deliveries.records();
            lock(&self.kafka).see(records, ledger.tally.made().counts.expected_counts().kafka_records > records);
        }
        if let Some((_, _, written)) = &ledger.lake {
            let files = written.files();
            lock(&self.lake).see(files.raw.files + files.quarantine.files, written.is_writing());
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

impl Stall {
    fn see(&mut self, taken: u64, more: bool) {
        if !more || taken != self.taken {
            *self = Self { taken, since: Instant::now() };
        }
    }
}

fn lock(stall: &Mutex<Stall>) -> MutexGuard<'_, Stall> {
    stall.lock().unwrap_or_else(PoisonError::into_inner)
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
        let stalled = |stall: &Mutex<Stall>, most| Some(lock(stall).since.elapsed()).filter(|still| *still > most);
        if let Some(still) = stalled(&self.kafka, KAFKA_STALL) {
            return Err(format!("Kafka has acknowledged nothing for {} s", still.as_secs()));
        }
        if let Some(still) = stalled(&self.lake, LAKE_STALL) {
            return Err(format!("the lake has taken no file for {} s", still.as_secs()));
        }
        Ok(())
    }

    fn other(&self, _: &str, _: &str) -> Option<Answer> {
        None
    }
}
