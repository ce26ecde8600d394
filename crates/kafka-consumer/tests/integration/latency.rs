//! Latency from the event to its row.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::number;
use crate::support::watched::{Sending, Watched};
use local_stack::Stack;

/// Warm-up before the measurement, in which connections are opened and table partitions created.
const WARMING: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);

#[test]
#[ignore = "fault"]
#[expect(clippy::cast_precision_loss, reason = "a count of thousands")]
fn a_thousand_events_a_second_are_rows_within_a_quarter_of_a_second() {
    let stack = Stack::ephemeral().unwrap();
    let consumer = Watched::start(&stack);
    let generator = Sending::start(&stack, "1000/s");
    thread::sleep(WARMING);
    let before = Buckets::of(&consumer);
    let began = Instant::now();
    thread::sleep(MEASURED);
    let added = Buckets::of(&consumer).less(&before);
    let seconds = began.elapsed().as_secs_f64();
    generator.end();

    let (p50, p99) = (added.quantile(0.5), added.quantile(0.99));
    println!(
        "event to committed row at {:.0} events/s: p50 {:.0} ms, p99 {:.0} ms",
        added.count() / seconds,
        p50 * 1e3,
        p99 * 1e3
    );
    assert!((900.0..1_100.0).contains(&(added.count() / seconds)), "{} events in {seconds} s", added.count());
    assert!(p99 < 0.250, "p99 is {p99} s");
    // PostgreSQL's clock confirms it: `ingested_at` is the start of the transaction, before the commit.
    let late = "SELECT count(*) FROM staging.product_events_raw WHERE ingested_at - event_timestamp > interval '250 ms'
        AND event_timestamp > (SELECT min(event_timestamp) + interval '5 seconds' FROM staging.product_events_raw)";
    let rows = number(&stack, "SELECT count(*) FROM staging.product_events_raw") as f64;
    assert!((number(&stack, late) as f64) < rows / 100.0, "{} of {rows}", number(&stack, late));
    consumer.end();
}

/// Buckets of `kafka_consumer_event_latency_seconds` as exported: upper bounds and cumulative counts.
struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    fn of(consumer: &Watched) -> Self {
        let (_, text) = consumer.get("/metrics");
        let bucket = |line: &str| {
            let (bound, count) =
                line.strip_prefix("kafka_consumer_event_latency_seconds_bucket{le=\"")?.split_once("\"} ")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().unwrap()))
        };
        Self(text.lines().filter_map(bucket).collect())
    }

    fn less(self, before: &Self) -> Self {
        Self(self.0.into_iter().zip(&before.0).map(|((bound, now), (_, then))| (bound, now - then)).collect())
    }

    fn count(&self) -> f64 {
        self.0.last().unwrap().1
    }

    /// Returns a quantile as Prometheus' `histogram_quantile` computes it.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = self.count() * share;
        let place = self.0.iter().position(|(_, count)| *count >= wanted).unwrap();
        let (low, below) = if place == 0 { (0.0, 0.0) } else { self.0[place - 1] };
        let (high, upto) = self.0[place];
        low + (high - low) * (wanted - below) / (upto - below)
    }
}
