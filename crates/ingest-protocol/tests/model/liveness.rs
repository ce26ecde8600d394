//! Liveness: from each state, a fair run without faults settles all records.

use ingest_protocol::assignment::Input;

use super::actions::{Action, End};
use super::consumer::{Command, Consumer};
use super::{Bounds, World};

/// Number of fair rounds after which a run counts as stuck.
const ROUNDS: usize = 60;

impl Bounds {
    /// Returns true if all records are settled and all consumers are idle.
    pub(crate) fn is_done(&self, world: &World) -> bool {
        let at_end = |partition: i32| {
            let row = world.postgres.tables.offsets.get(&partition);
            row.is_some_and(|row| row.stored.next_offset == self.offsets && row.version == world.topic.version)
        };
        (0..self.partitions).all(at_end)
            && world.postgres.open.is_empty()
            && world.consumers.iter().all(|consumer| !consumer.stopped && consumer.is_idle())
    }

    /// Returns true if a fair run without faults settles all records.
    pub(crate) fn recovers(&self, world: &World) -> bool {
        let mut world = World { changes: 0, faults: 0, ..world.clone() };
        for _ in 0..ROUNDS {
            if self.is_done(&world) {
                return true;
            }
            restart_after_failover(&mut world);
            self.balance(&mut world);
            while let Some(index) = world.postgres.open.iter().position(|one| one.owner.is_none()) {
                self.apply(&mut world, Action::EndAbandoned(index, false));
            }
            for c in 0..world.consumers.len() {
                self.take_turn(&mut world, c);
            }
            world.check_state();
            if world.violation.is_some() {
                return false;
            }
        }
        false
    }

    /// The group assigns each partition to one consumer.
    fn balance(&self, world: &mut World) {
        for partition in 0..self.partitions {
            let holds = |c: &usize| world.consumers[*c].granted.contains(&partition);
            let holders: Vec<usize> = (0..world.consumers.len()).filter(holds).collect();
            match holders.split_first() {
                Some((_, others)) => {
                    for c in others {
                        world.take(*c, partition, Input::Lost);
                    }
                }
                None => {
                    if let Some(c) = (0..world.consumers.len()).find(|c| !world.consumers[*c].stopped) {
                        world.grant(c, &[partition]);
                    }
                }
            }
        }
    }

    fn take_turn(&self, world: &mut World, c: usize) {
        let mut actions = Vec::new();
        self.enabled(world, &mut actions);
        let is_own = |action: &Action| match action {
            Action::Locate(of)
            | Action::Arrive(of, false)
            | Action::Released(of)
            | Action::Attempt(of)
            | Action::End(of, End::Committed)
            | Action::Report(of)
            | Action::Notice(of)
            | Action::Restart(of) => *of == c,
            _ => false,
        };
        for action in actions.into_iter().filter(is_own) {
            if !world.consumers[c].stopped || matches!(action, Action::Restart(_)) {
                self.apply(world, action);
            }
        }
        let consumer = &world.consumers[c];
        if consumer.queue.iter().any(|command| matches!(command, Command::Write(_))) {
            return;
        }
        for partition in 0..self.partitions {
            while self.can_read(world, &world.consumers[c], partition) {
                world.consumers[c].read(partition);
            }
        }
        world.consumers[c].close();
        world.consumers[c].run_commands();
    }
}

/// Restarts idle consumers once after a failover. A consumer notices that a promoted standby lacks its last commits when
/// the partition has another record, is assigned again, or the process starts again.
fn restart_after_failover(world: &mut World) {
    if world.postgres.promoted && world.consumers.iter().all(Consumer::is_idle) {
        world.postgres.promoted = false;
        for consumer in &mut world.consumers {
            *consumer = Consumer::new(consumer.life + 1, true);
        }
    }
}
