//! Flow control: limits the number of unacknowledged bytes.

use std::time::{Duration, Instant};

/// Minimum window in bytes. A topic with many partitions has a larger minimum.
const MIN_BYTES: u64 = 1 << 20;
/// Number of full windows over which the round-trip time is averaged.
const WINDOWS_PER_ROUND: u64 = 2;
/// Number of rounds with the minimum window; their median is the base round-trip time.
const PROBES: usize = 3;
/// Time until the base round-trip time is measured again.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum number of unacknowledged bytes: just enough to keep brokers and network busy.
///
/// A record that waits in a long queue has left the processor's caches when the client sends it: with 50 MB in the
/// queue an event cost 2.1 us of processor time, with 1.5 MB 1.3 us. But distant brokers need the long queue. So the
/// window follows the round-trip time of a record, as TCP Vegas does (Brakmo and Peterson, 1995): it grows while that
/// time is close to the base time, measured with the minimum window, and shrinks when records only wait longer. Every
/// 30 s the base time is measured again, as in BBR.
#[derive(Debug)]
pub(super) struct Window {
    min: u64,
    size: u64,
    round: Round,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Measures the base round-trip time with the minimum window. `size_after` is the size to return to.
    Probing { trips: Vec<Duration>, size_after: u64 },
    /// Adjusts the window until it is time to probe again.
    Following { base_trip: Duration, until: Instant },
}

/// One measurement of the round-trip time.
#[derive(Clone, Copy, Debug)]
enum Round {
    /// Waits until no more bytes are in flight than the window admits.
    Draining,
    /// Measures since `started`, when `acknowledged` bytes were acknowledged. `full` is true once the window was full.
    Running { started: Instant, acknowledged: u64, full: bool },
}

impl Window {
    /// Creates the window of a topic. Its minimum per partition is one batch in flight and half a batch being filled.
    pub(super) fn new(partitions: u64, batch_bytes: u64) -> Self {
        let min = MIN_BYTES.max(partitions.saturating_mul(batch_bytes).saturating_mul(3) / 2);
        let state = State::Probing { trips: Vec::new(), size_after: min };
        Self { min, size: min, round: Round::Draining, state }
    }

    /// Returns true if another record may be sent while `open` bytes are unacknowledged.
    pub(super) fn admits(&mut self, open: u64) -> bool {
        let room = open < self.size;
        if let Round::Running { full, .. } = &mut self.round {
            *full |= !room;
        }
        room
    }

    /// Records the total number of acknowledged bytes and the number of unacknowledged ones.
    pub(super) fn record(&mut self, now: Instant, acknowledged: u64, open: u64) {
        match self.round {
            Round::Draining if open <= self.size => {
                self.round = Round::Running { started: now, acknowledged, full: false };
            }
            Round::Draining => {}
            Round::Running { started, acknowledged: before, full } => {
                let bytes = acknowledged - before;
                if bytes >= self.size.saturating_mul(WINDOWS_PER_ROUND) {
                    self.round = Round::Draining;
                    if full {
                        self.adjust(now, trip(now - started, self.size, bytes));
                    }
                }
            }
        }
    }

    fn adjust(&mut self, now: Instant, trip: Duration) {
        tracing::trace!(bytes = self.size, trip_us = trip.as_micros(), "window");
        match &mut self.state {
            State::Probing { trips, size_after } => {
                trips.push(trip);
                if trips.len() == PROBES {
                    trips.sort_unstable();
                    self.size = *size_after;
                    self.state = State::Following { base_trip: trips[PROBES / 2], until: now + PROBE_INTERVAL };
                }
            }
            State::Following { until, .. } if now > *until => {
                self.state = State::Probing { trips: Vec::new(), size_after: self.size };
                self.size = self.min;
            }
            State::Following { base_trip, .. } => {
                if trip < *base_trip * 23 / 20 {
                    self.size = self.size.saturating_add(self.size / 4);
                } else if trip > *base_trip * 13 / 10 {
                    self.size = self.min.max(in_time(self.size, *base_trip * 6 / 5, trip));
                }
            }
        }
    }
}

/// Returns the time that a byte spends in a full window, by Little's law: its size divided by the rate.
fn trip(time: Duration, size: u64, bytes: u64) -> Duration {
    Duration::from_nanos(times(nanos(time), size, bytes))
}

/// Scales a number of bytes to a part of the time in which they passed.
fn in_time(bytes: u64, part: Duration, time: Duration) -> u64 {
    times(bytes, nanos(part), nanos(time))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Computes `a * b / c` without intermediate overflow.
fn times(a: u64, b: u64, c: u64) -> u64 {
    u64::try_from(u128::from(a) * u128::from(b) / u128::from(c.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const RECORD: u64 = 1_000;

    /// Simulates a link that takes a record every `service` and acknowledges it `latency` later, with a sender that
    /// never pauses. Returns the final window and the number of records in the last second.
    fn simulate(service: Duration, latency: impl Fn(u64) -> Duration) -> (u64, u64) {
        let mut window = Window::new(6, 128 * 1024);
        let start = Instant::now();
        let (mut now, mut free_at) = (start, start);
        let mut in_flight: VecDeque<Instant> = VecDeque::new();
        let (mut sent, mut acknowledged, mut late) = (0, 0, 0);
        while now - start < Duration::from_secs(8) {
            while window.admits((sent - acknowledged) * RECORD) {
                free_at = free_at.max(now) + service;
                let arrives = in_flight.back().copied().unwrap_or(start).max(free_at + latency(sent));
                in_flight.push_back(arrives);
                sent += 1;
            }
            now += Duration::from_millis(1);
            while in_flight.front().is_some_and(|arrives| *arrives <= now) {
                in_flight.pop_front();
                acknowledged += 1;
                late += u64::from(now - start > Duration::from_secs(7));
            }
            window.record(now, acknowledged * RECORD, (sent - acknowledged) * RECORD);
        }
        (window.size, late)
    }

    #[test]
    fn a_near_broker_gets_a_small_window() {
        let (size, records) = simulate(Duration::from_micros(5), |_| Duration::from_millis(1));
        assert!(size < 2 << 20, "{size}");
        assert!(records > 190_000, "{records}");
    }

    #[test]
    fn a_distant_broker_gets_a_large_window() {
        // 100 ms away, with up to 20 ms of jitter: 20 MB are in flight at full speed.
        for jitter in [0, 20] {
            let latency = |n: u64| Duration::from_millis(100 + n.wrapping_mul(0x9E37_79B9) / 1_000 % (jitter + 1));
            let (size, records) = simulate(Duration::from_micros(5), latency);
            assert!(records > 150_000, "{records} a second with {size} bytes");
        }
    }

    #[test]
    fn few_partitions_get_the_minimum() {
        assert!(Window::new(1, 16_384).admits(MIN_BYTES - 1));
        assert!(!Window::new(1, 16_384).admits(MIN_BYTES));
    }
}
