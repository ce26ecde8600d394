//! What people do. Each event stands for itself: the types come by fixed weights.

use event_model::EventType;

use crate::keyed::Keyed;
use crate::population::{Population, Product, User};

/// Per cent of all events, by type.
const WEIGHTS: [(EventType, u64); 5] = [
    (EventType::SearchPerformed, 40),
    (EventType::ResultClicked, 25),
    (EventType::ProductViewed, 20),
    (EventType::RecommendationClicked, 10),
    (EventType::RfqSent, 5),
];

/// Who did what to which product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Action {
    pub(crate) event_type: EventType,
    pub(crate) user: User,
    pub(crate) product: Product,
}

/// Takes three numbers of the event, always.
pub(crate) fn act(population: &Population, numbers: &mut Keyed) -> Action {
    Action {
        user: population.user(numbers.next()),
        product: population.product(numbers.next()),
        event_type: event_type(numbers.below(100)),
    }
}

fn event_type(mut per_cent: u64) -> EventType {
    for (event_type, weight) in WEIGHTS {
        if per_cent < weight {
            return event_type;
        }
        per_cent -= weight;
    }
    EventType::SearchPerformed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_are_per_cent() {
        assert_eq!(WEIGHTS.iter().map(|(_, weight)| weight).sum::<u64>(), 100);
        for (event_type, weight) in WEIGHTS {
            let times = (0..100).filter(|&n| super::event_type(n) == event_type).count();
            assert_eq!(times as u64, weight);
        }
    }
}
