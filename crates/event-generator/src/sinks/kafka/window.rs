//! How much may be on its way to Kafka at a time.

use std::time::{Duration, Instant};

/// The smallest window for a topic of few partitions, in bytes.
const LEAST: u64 = 1 << 20;
/// A trip is the mean over so many windows full of records.
const WINDOWS_OF_A_ROUND: u64 = 2;
/// Rounds with the smallest window, of which the middle one counts.
const TRIALS: usize = 3;
/// How long it is believed in.
const BELIEVED: Duration = Duration::from_secs(30);

/// Bytes of records that may be unacknowledged: no more than keeps the brokers and the way to them busy.
///
/// A record that waits in a long queue has left the processor's caches when its turn comes: with 50 MB in the queue an
/// event cost 2.1 us of processor time, with 1.5 MB 1.3 us. But brokers that are far away need the long queue. So the
/// window follows the time from a record to its acknowledgement, as TCP Vegas does (Brakmo and Peterson, 1995): it grows
/// while that time is hardly longer than with the smallest window, and shrinks when records only wait longer. Now and
/// then the smallest window is tried again, as BBR does.
#[derive(Debug)]
pub(super) struct Window {
    least: u64,
    size: u64,
    round: Round,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The smallest window is tried. What came of it, and the size that it had before.
    Trying { trips: Vec<Duration>, wide: u64 },
    /// The trip with the smallest window, which is believed in for a while.
    Following { least_trip: Duration, until: Instant },
}

/// What is measured at a time.
#[derive(Clone, Copy, Debug)]
enum Round {
    /// Nothing yet: more is on its way than the window admits.
    Draining,
    /// Since then, and since so many bytes were acknowledged. Whether the window was ever full.
    Running { began: Instant, acknowledged: u64, full: bool },
}

impl Window {
    /// For a topic of so many partitions and batches of so many bytes. The smallest is a batch of each partition that is
    /// with the broker, and half of one that fills.
    pub(super) fn new(partitions: u64, batch_bytes: u64) -> Self {
        let least = LEAST.max(partitions.saturating_mul(batch_bytes).saturating_mul(3) / 2);
        let state = State::Trying { trips: Vec::new(), wide: least };
        Self { least, size: least, round: Round::Draining, state }
    }

    /// Whether one more record may be sent while so many bytes are unacknowledged.
    pub(super) fn admits(&mut self, open: u64) -> bool {
        let room = open < self.size;
        if let Round::Running { full, .. } = &mut self.round {
            *full |= !room;
        }
        room
    }

    /// Takes in that so many bytes are acknowledged by now, in all, and so many are not.
    pub(super) fn note(&mut self, now: Instant, acknowledged: u64, open: u64) {
        match self.round {
            Round::Draining if open <= self.size => {
                self.round = Round::Running { began: now, acknowledged, full: false };
            }
            Round::Draining => {}
            Round::Running { began, acknowledged: before, full } => {
                let bytes = acknowledged - before;
                if bytes >= self.size.saturating_mul(WINDOWS_OF_A_ROUND) {
                    self.round = Round::Draining;
                    if full {
                        self.follow(now, trip(now - began, self.size, bytes));
                    }
                }
            }
        }
    }

    fn follow(&mut self, now: Instant, trip: Duration) {
        tracing::trace!(bytes = self.size, trip_us = trip.as_micros(), "window");
        match &mut self.state {
            State::Trying { trips, wide } => {
                trips.push(trip);
                if trips.len() == TRIALS {
                    trips.sort_unstable();
                    self.size = *wide;
                    self.state = State::Following { least_trip: trips[TRIALS / 2], until: now + BELIEVED };
                }
            }
            State::Following { until, .. } if now > *until => {
                self.state = State::Trying { trips: Vec::new(), wide: self.size };
                self.size = self.least;
            }
            State::Following { least_trip, .. } => {
                if trip < *least_trip * 23 / 20 {
                    self.size = self.size.saturating_add(self.size / 4);
                } else if trip > *least_trip * 13 / 10 {
                    self.size = self.least.max(in_time(self.size, *least_trip * 6 / 5, trip));
                }
            }
        }
    }
}

/// The time that a byte spends in a window that is full, by Little's law: its size by the rate.
fn trip(time: Duration, size: u64, bytes: u64) -> Duration {
    Duration::from_nanos(times(nanos(time), size, bytes))
}

/// What passes in a part of the time.
fn in_time(bytes: u64, part: Duration, time: Duration) -> u64 {
    times(bytes, nanos(part), nanos(time))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// `a * b / c` without overflow on the way.
fn times(a: u64, b: u64, c: u64) -> u64 {
    u64::try_from(u128::from(a) * u128::from(b) / u128::from(c.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const RECORD: u64 = 1_000;

    /// A way that takes a record each `service` and acknowledges it `latency` later, and a sender that always has one.
    /// The window in the end, and the records of the last second.
    fn drive(service: Duration, latency: impl Fn(u64) -> Duration) -> (u64, u64) {
        let mut window = Window::new(6, 128 * 1024);
        let start = Instant::now();
        let (mut now, mut free_at) = (start, start);
        let mut on_the_way: VecDeque<Instant> = VecDeque::new();
        let (mut sent, mut acknowledged, mut late) = (0, 0, 0);
        while now - start < Duration::from_secs(8) {
            while window.admits((sent - acknowledged) * RECORD) {
                free_at = free_at.max(now) + service;
                let arrives = on_the_way.back().copied().unwrap_or(start).max(free_at + latency(sent));
                on_the_way.push_back(arrives);
                sent += 1;
            }
            now += Duration::from_millis(1);
            while on_the_way.front().is_some_and(|arrives| *arrives <= now) {
                on_the_way.pop_front();
                acknowledged += 1;
                late += u64::from(now - start > Duration::from_secs(7));
            }
            window.note(now, acknowledged * RECORD, (sent - acknowledged) * RECORD);
        }
        (window.size, late)
    }

    #[test]
    fn a_near_broker_has_little_on_its_way() {
        let (size, records) = drive(Duration::from_micros(5), |_| Duration::from_millis(1));
        assert!(size < 2 << 20, "{size}");
        assert!(records > 190_000, "{records}");
    }

    #[test]
    fn a_far_broker_has_as_much_as_it_can_take() {
        // 100 ms away, with 20 ms more or less: 20 MB are on their way at full speed.
        for jitter in [0, 20] {
            let latency = |n: u64| Duration::from_millis(100 + n.wrapping_mul(0x9E37_79B9) / 1_000 % (jitter + 1));
            let (size, records) = drive(Duration::from_micros(5), latency);
            assert!(records > 150_000, "{records} a second with {size} bytes");
        }
    }

    #[test]
    fn few_partitions_have_a_window_too() {
        assert!(Window::new(1, 16_384).admits(LEAST - 1));
        assert!(!Window::new(1, 16_384).admits(LEAST));
    }
}
