//! Model of consumers that run the real state machines, with Kafka's group, the topic and PostgreSQL around them.
//!
//! Every step of a consumer is delayed arbitrarily, which includes suspension: a consumer that takes no step for a while
//! is suspended.

pub(crate) mod actions;
pub(crate) mod consumer;
pub(crate) mod kafka;
mod liveness;
pub(crate) mod postgres;
mod properties;
mod writer;

use stateright::{Model, Property};

use self::actions::Action;
use self::consumer::Consumer;
use self::kafka::Topic;
use self::postgres::Postgres;
pub(crate) use self::properties::Violation;

/// Name of the property that some run reaches the end.
pub(crate) const DONE: &str = "all records are settled";

/// Kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A consumer is killed, with its transaction.
    Crash,
    /// The answer to a COMMIT is lost, before or after it.
    NoAnswer,
    /// A session is terminated.
    Kill,
    /// PostgreSQL accepts no session for a while.
    Unavailable,
    /// A standby that lags is promoted.
    Promote,
    /// The topic is deleted and created again.
    Recreate,
    /// The log is truncated and written again; the topic keeps its ID.
    Truncate,
    /// The writers do not release partitions before the deadline.
    ReleaseTimeout,
    /// Kafka reports an error that makes positions uncertain.
    Uncertain,
    /// A seek fails.
    Seek,
    /// The client is fenced and replaced.
    Replace,
}

/// Bounds of an exploration.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) consumers: usize,
    pub(crate) partitions: i32,
    pub(crate) offsets: i64,
    /// Number of changes of the assignment after the first one.
    pub(crate) changes: u8,
    /// Number of faults, and their kinds.
    pub(crate) faults: u8,
    pub(crate) kinds: &'static [Fault],
    /// Check that all records are settled once faults stop, from every state.
    pub(crate) liveness: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) topic: Topic,
    pub(crate) postgres: Postgres,
    pub(crate) consumers: Vec<Consumer>,
    /// Changes of the assignment and faults that are left.
    pub(crate) changes: u8,
    pub(crate) faults: u8,
    pub(crate) violation: Option<Violation>,
    pub(crate) bounds_offsets: i64,
}

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = World {
            topic: Topic::default(),
            postgres: Postgres::default(),
            // The operator has allowed a recreated topic to all consumers but the first.
            consumers: (0..self.consumers).map(|c| Consumer::new(0, c > 0)).collect(),
            changes: self.changes,
            faults: self.faults,
            violation: None,
            bounds_offsets: self.offsets,
        };
        world.grant(0, &(0..self.partitions).collect::<Vec<i32>>());
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.violation.is_none() {
            self.enabled(world, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        if !self.apply(&mut next, action) {
            return None;
        }
        next.check_state();
        if self.liveness && next.violation.is_none() && !self.recovers(&next) {
            next.violate(Violation::Stuck);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! properties {
            ($($index:literal)*) => {
                vec![$(Property::always(Violation::ALL[$index].1, |_: &Bounds, world: &World| {
                    world.violation != Some(Violation::ALL[$index].0)
                })),*]
            };
        }
        let all = properties!(0 1 2 3 4 5 6 7 8 9);
        // A model without any run to the end would prove nothing.
        let done = Property::sometimes(DONE, |bounds: &Bounds, world: &World| bounds.is_done(world));
        all.into_iter().chain([done]).collect()
    }
}
