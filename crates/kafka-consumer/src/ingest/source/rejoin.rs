//! Whether a member that was fenced joins the group again.

use std::time::{Duration, Instant};

/// How long after trouble on the way to Kafka the group may still take this consumer for another; and how soon after it
/// has joined again it can only be another.
const RECENT: Duration = Duration::from_mins(5);

/// The group knows a member with a name by the id that it gave it last. If that answer got lost on the way, the member
/// comes back with the id before and is fenced, as it would be if another process had started under its name. It joins
/// again after trouble on the way, but not twice in a row: of two processes with one name, one has to end.
#[derive(Debug, Default)]
pub(crate) struct RejoinPolicy {
    last: Option<Instant>,
}

impl RejoinPolicy {
    /// Whether to join again; `trouble` is when the way to Kafka last failed. To be asked when that will be done.
    pub(crate) fn is_due(&mut self, now: Instant, trouble: Option<Instant>) -> bool {
        let recently = |time: Option<Instant>| time.is_some_and(|time| now.saturating_duration_since(time) < RECENT);
        if !recently(trouble) || recently(self.last) {
            return false;
        }
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_after_trouble() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rejoin = RejoinPolicy::default();
        assert!(!rejoin.is_due(at(0), None), "there was no trouble");
        assert!(!rejoin.is_due(at(400), Some(at(10))), "it was long ago");
        assert!(rejoin.is_due(at(400), Some(at(390))));
        assert!(!rejoin.is_due(at(420), Some(at(410))), "twice in a row");
        assert!(rejoin.is_due(at(800), Some(at(790))));
    }
}
