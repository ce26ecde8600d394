//! User behaviour: each session is a walk along a Markov chain and begins with a search.

use event_model::EventType;

use crate::effect::Effects;
use crate::keyed_rng::scale;

/// Probability of 1: probabilities are integers in parts per billion.
pub(crate) const WHOLE: u32 = 1_000_000_000;

const PER_CENT: u32 = WHOLE / 100;

/// Transition probabilities in per cent; the remainder to 100 ends the session. The columns are in the order of
/// [`EventType::ALL`]: search, result, view, recommendation, request.
const STEPS: [(EventType, [u32; TYPES]); TYPES] = [
    (EventType::SearchPerformed, [20, 45, 0, 10, 0]),
    (EventType::ResultClicked, [10, 0, 70, 0, 0]),
    (EventType::ProductViewed, [13, 15, 0, 20, 12]),
    (EventType::RecommendationClicked, [10, 0, 75, 0, 0]),
    (EventType::RfqSent, [30, 0, 0, 0, 0]),
];

pub(crate) const TYPES: usize = EventType::ALL.len();

/// Markov chain of one arm of an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Cumulative transition probabilities of each event type, in parts per billion.
    limits: [[u32; TYPES]; TYPES],
}

impl Chain {
    /// Creates the chain for an effect in parts per million.
    ///
    /// A request follows a view `1 + effect` times as often as without an effect. The probability that the session ends
    /// after a view changes by the same amount in the other direction.
    pub(crate) fn new(effect: i32) -> Self {
        let mut limits = [[0; TYPES]; TYPES];
        for (from, parts) in STEPS {
            let mut sum = 0;
            for to in EventType::ALL {
                let mut part = parts[to as usize] * PER_CENT;
                if (from, to) == (EventType::ProductViewed, EventType::RfqSent) {
                    part = Effects::apply(part, effect);
                }
                sum += part;
                limits[from as usize][to as usize] = sum;
            }
        }
        Self { limits }
    }

    /// Returns the type of the next event, or `None` if the session ends.
    pub(crate) fn next(&self, from: EventType, random: u64) -> Option<EventType> {
        let part = scale(random, WHOLE.into());
        let limits = &self.limits[from as usize];
        EventType::ALL.into_iter().find(|to| part < u64::from(limits[*to as usize]))
    }

    /// Returns the probability that `to` follows `from`, in parts per billion.
    pub(crate) fn probability(&self, from: EventType, to: EventType) -> u32 {
        let limits = &self.limits[from as usize];
        let before = (to as usize).checked_sub(1).map_or(0, |before| limits[before]);
        limits[to as usize] - before
    }
}

/// Returns true if the event selects a new product: one found by a search or a recommendation.
pub(crate) fn brings_a_product(event_type: EventType) -> bool {
    matches!(event_type, EventType::SearchPerformed | EventType::RecommendationClicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_in_their_places() {
        for (place, (event_type, _)) in STEPS.iter().enumerate() {
            assert_eq!((*event_type as usize, EventType::ALL[place]), (place, *event_type));
        }
    }

    #[test]
    fn steps_follow_the_probabilities() {
        let chain = Chain::new(500_000);
        let mut numbers = crate::keyed_rng::KeyedRng::new(1, 1);
        for from in EventType::ALL {
            let mut seen = [0_u32; TYPES];
            for _ in 0..100_000 {
                if let Some(to) = chain.next(from, numbers.next()) {
                    seen[to as usize] += 1;
                }
            }
            for to in EventType::ALL {
                let expected = chain.probability(from, to) / 10_000;
                assert!(seen[to as usize].abs_diff(expected) < 700, "{from:?} {to:?}: {seen:?}");
            }
        }
        assert_eq!(chain.probability(EventType::ProductViewed, EventType::RfqSent), 18 * PER_CENT);
    }
}
