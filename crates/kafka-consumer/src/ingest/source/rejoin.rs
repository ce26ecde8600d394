//! Decides whether a fenced member rejoins the group.

use std::time::{Duration, Instant};

/// Period after a connection failure during which fencing may be its consequence. Fencing within the same period after
/// a rejoin can only come from another process.
const RECENT: Duration = Duration::from_mins(5);

/// Policy for rejoining the group after a static member was fenced.
///
/// The group identifies a static member by the member ID that it assigned last. If the response with that ID is lost,
/// the member returns with the previous one and is fenced, just as if another process had started under its
/// `group.instance.id`. It therefore rejoins after a connection failure, but not twice in a row: of two processes with
/// one name, one has to end.
#[derive(Debug, Default)]
pub(crate) struct RejoinPolicy {
    last: Option<Instant>,
}

impl RejoinPolicy {
    /// Returns true if the member should rejoin, and counts that as a rejoin. `trouble` is the time of the last
    /// connection failure.
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
