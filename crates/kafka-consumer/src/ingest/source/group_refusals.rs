//! Refusals of the group that no retry cures.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::kafka::client::KafkaClient;
use crate::kafka::group_topic::GroupTopic;

/// Duration of refusals after which a run ends that other members could still let in.
const PERSISTENT: Duration = Duration::from_secs(15);
/// Time without a refusal after which the next one is a new one. librdkafka repeats a refused join each second.
const APART: Duration = Duration::from_secs(5);

/// Present refusal of the group.
#[derive(Debug, Default)]
pub(crate) struct GroupRefusals {
    present: Option<Refusal>,
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    code: Code,
    since: Instant,
    last: Instant,
}

/// Consequence of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// It is new, and others may cure it.
    Warn,
    /// It was reported before.
    Wait,
    /// The run ends.
    End,
}

impl GroupRefusals {
    /// Counts a refusal and returns its consequence.
    pub(crate) fn note(&mut self, code: Code, now: Instant) -> Consequence {
        let continued = self.present.filter(|one| one.code == code && now.saturating_duration_since(one.last) < APART);
        let since = continued.map_or(now, |one| one.since);
        self.present = Some(Refusal { code, since, last: now });
        if is_permanent(code) || now.saturating_duration_since(since) >= PERSISTENT {
            return Consequence::End;
        }
        if continued.is_some() { Consequence::Wait } else { Consequence::Warn }
    }
}

/// Returns true if no other member can cure the refusal.
fn is_permanent(code: Code) -> bool {
    matches!(code, Code::InvalidSessionTimeout | Code::InvalidGroupId)
}

/// Describes a refusal with its remedy. `None` for any other error.
pub(crate) fn describe(code: Code, group_topic: &GroupTopic, kafka: &KafkaClient) -> Option<String> {
    let group = &group_topic.group;
    let set = |property: &str| kafka.property(property).unwrap_or_default().to_owned();
    let (cause, remedy) = match code {
        Code::InvalidSessionTimeout => (
            format!(
                "session.timeout.ms={} is outside the broker's limits (group.min.session.timeout.ms to \
                 group.max.session.timeout.ms)",
                set("session.timeout.ms")
            ),
            "set it with -X session.timeout.ms=N",
        ),
        Code::InvalidGroupId => ("the broker refuses its name".to_owned(), "set another one with --group-id"),
        Code::InconsistentGroupProtocol => (
            format!(
                "its other members do not use the assignment strategy {}, or are no consumers",
                set("partition.assignment.strategy")
            ),
            "set theirs with -X partition.assignment.strategy=NAME, or use another --group-id",
        ),
        Code::GroupMaxSizeReached => (
            "it has as many members as the broker allows (group.max.size)".to_owned(),
            "stop one of its consumers, or raise group.max.size",
        ),
        _ => return None,
    };
    Some(format!("cannot join group {group}: {cause}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Consequence::{End, Wait, Warn};

    #[test]
    fn others_may_cure_some_refusals_for_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut refusals = GroupRefusals::default();
        let mut note = |code, seconds| refusals.note(code, at(seconds));
        let strategy = Code::InconsistentGroupProtocol;
        assert_eq!([0, 1, 4, 8, 12].map(|seconds| note(strategy, seconds)), [Warn, Wait, Wait, Wait, Wait]);
        assert_eq!(note(strategy, 15), End);
        assert_eq!(note(strategy, 30), Warn, "it was in the group in the meantime");
        assert_eq!(note(Code::GroupMaxSizeReached, 31), Warn);
        assert_eq!(note(Code::InvalidSessionTimeout, 32), End);
        assert_eq!(note(Code::InvalidGroupId, 33), End);
    }
}
