//! HTTP endpoints of a running generator: probes and metrics.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pipeline_runtime::http::{Answer, Answers};
use pipeline_runtime::kafka::ConnectionState;
use pipeline_runtime::metrics::Histogram;
use pipeline_runtime::shutdown::ShutdownDeadline;

use super::metrics::{self, ProcessMetrics};
use super::run_stats::RunStats;
use crate::clock::{Clock, Pace};

/// Default address.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:9465";
/// Time without an acknowledgement from Kafka after which the run is not ready.
const KAFKA_STALL: Duration = Duration::from_secs(5);
/// Time without a file in the lake after which the run is not ready. A large file takes that long on a slow connection.
const LAKE_STALL: Duration = Duration::from_secs(30);

/// Answers `/metrics`, `/livez` and `/readyz`.
#[derive(Debug)]
pub(crate) struct HttpEndpoints {
    run: OnceLock<(RunStats, Pace)>,
    lateness: Arc<Histogram>,
    clock: Clock,
    shutdown: ShutdownDeadline,
    kafka: Mutex<StallTimer>,
    lake: Mutex<StallTimer>,
}

/// Time since a sink with work in flight last made progress.
#[derive(Debug)]
struct StallTimer {
    stored: u64,
    since: Instant,
}

impl HttpEndpoints {
    pub(crate) fn new(clock: Clock, shutdown: ShutdownDeadline) -> Self {
        let [kafka, lake] = [(), ()].map(|()| Mutex::new(StallTimer { stored: 0, since: Instant::now() }));
        Self { run: OnceLock::new(), lateness: metrics::lateness(), clock, shutdown, kafka, lake }
    }

    /// Starts to report a run.
    pub(crate) fn start_run(&self, stats: RunStats, pace: Pace) {
        self.run.get_or_init(|| (stats, pace));
        for timer in [&self.kafka, &self.lake] {
            lock(timer).since = Instant::now();
        }
    }

    /// Returns the lateness of the events, in seconds.
    pub(crate) fn lateness(&self) -> Arc<Histogram> {
        Arc::clone(&self.lateness)
    }

    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    pub(crate) fn record_lateness(&self, micros: i64) {
        self.lateness.observe(micros.max(0) as f64 / 1e6, 1);
    }

    /// Checks the progress of Kafka and the lake. The monitor calls this a few times a second.
    pub(crate) fn update_stalls(&self) {
        let Some((stats, _)) = self.run.get() else { return };
        // A sink that the run does without has nothing to do.
        let (records, has_more) = stats.kafka.as_ref().map_or((0, false), |kafka| {
            let records = kafka.deliveries.records();
            let has_more = stats.counts.sent().counts.expected_counts().kafka_records > records;
            // Without records to send, a broker closes the idle connection, which is no outage.
            if has_more {
                kafka.connection.log_outage(Instant::now());
            }
            (records, has_more)
        });
        lock(&self.kafka).update(records, has_more);
        let (files, has_more) = stats.lake.as_ref().map_or((0, false), |lake| {
            let files = lake.progress.files();
            (files.raw.files + files.quarantine.files, lake.progress.is_writing())
        });
        lock(&self.lake).update(files, has_more);
    }

    /// Returns the seconds by which the next event of a live run is overdue.
    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    fn behind(&self) -> f64 {
        let live = self.run.get().filter(|(_, pace)| *pace == Pace::Live);
        live.map_or(0.0, |(stats, _)| {
            let due = stats.source.due(stats.counts.next_index()).micros();
            self.clock.micros().saturating_sub(due).max(0) as f64 / 1e6
        })
    }
}

impl StallTimer {
    fn update(&mut self, stored: u64, has_more: bool) {
        if !has_more || stored != self.stored {
            *self = Self { stored, since: Instant::now() };
        }
    }
}

fn lock(timer: &Mutex<StallTimer>) -> MutexGuard<'_, StallTimer> {
    timer.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answers for HttpEndpoints {
    fn metrics(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "seconds with a fraction")]
        let started = self.clock.started_at().micros() as f64 / 1e6;
        let (behind, ready) = (self.behind(), self.ready().is_ok());
        let process = ProcessMetrics { lateness: &self.lateness, behind, ready, started };
        metrics::render(self.run.get().map(|(stats, _)| stats), process)
    }

    fn live(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        if self.shutdown.is_requested() {
            return Err("shutting down".to_owned());
        }
        let Some((stats, _)) = self.run.get() else {
            return Err("connecting to Kafka and the lake".to_owned());
        };
        let connection = stats.kafka.as_ref().map(|kafka| kafka.connection.state(Instant::now()));
        if let Some(ConnectionState::LoginRefused(outage)) = connection {
            return Err(format!("Kafka refuses the login: {}", outage.reason));
        }
        let stalled = |timer: &Mutex<StallTimer>, max| Some(lock(timer).since.elapsed()).filter(|time| *time > max);
        if let Some(time) = stalled(&self.kafka, KAFKA_STALL) {
            let cause = match connection {
                Some(ConnectionState::Unavailable(outage)) => format!(": {}", outage.reason),
                _ => String::new(),
            };
            return Err(format!("Kafka has not acknowledged any record for {} s{cause}", time.as_secs()));
        }
        if let Some(time) = stalled(&self.lake, LAKE_STALL) {
            return Err(format!("the lake has not accepted any file for {} s", time.as_secs()));
        }
        Ok(())
    }

    fn other(&self, _: &str, _: &str) -> Option<Answer> {
        None
    }
}
