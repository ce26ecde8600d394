//! Sequence of faults, determined by the seed alone.

use std::fmt;
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::table::Change;

/// Maximum number of consumers. The last one joins and leaves, and no other fault affects it.
pub(crate) const MEMBERS: usize = 3;

/// Failpoints passed a thousand times a second.
const OFTEN: [&str; 2] = ["after-send", "after-ack"];
/// Number of partitions of a recreated topic.
const PARTITIONS: std::ops::RangeInclusive<i32> = 3..=9;
/// Failpoints passed when a run ends.
const AT_THE_END: [&str; 3] = ["before-put", "after-put", "before-manifest"];
const OF_A_TRANSACTION: [&str; 6] =
    ["after-partition", "after-cas", "during-copy", "after-copy", "before-commit", "after-commit"];

/// One of the pipeline's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Generator,
    Member(usize),
}

/// A connection through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    GeneratorKafka,
    ConsumerKafka,
    ConsumerPostgres,
    GeneratorLake,
}

impl Link {
    pub(crate) const ALL: [Self; 4] =
        [Self::GeneratorKafka, Self::ConsumerKafka, Self::ConsumerPostgres, Self::GeneratorLake];
}

/// Fault of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    Cut,
    HalfOpen,
    Slow,
    Late,
}

/// Target of a fault. Each target has at most one fault at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Program(Who),
    Server(local_stack::Name),
    Link(Link),
    Topic,
    Table,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, followed by a restart.
    Kill(Who),
    /// SIGSTOP, followed by SIGCONT.
    Freeze(Who),
    /// SIGTERM, followed by a restart.
    Terminate(Who),
    /// SIGKILL when the next process passes a failpoint for the nth time.
    KillAt(Who, &'static str, u32),
    /// SIGKILL at a failpoint of the run's end, which SIGTERM triggers.
    KillAtEnd(&'static str, u32),
    KillServer(local_stack::Name),
    FreezeServer(local_stack::Name),
    EndSessions,
    Damage(Link, Damage),
    /// The last consumer joins or leaves the group.
    ComeOrGo,
    /// Records with odd timestamps and header names.
    SendOddRecords,
    /// A transaction in half of the partitions. Its producer dies, and the coordinator aborts it after its timeout.
    HangTransaction,
    /// Adds a trigger or an index to the table and sends records that it concerns.
    ChangeTable(Change),
    /// Deletes the topic and recreates it with this number of partitions, once the pipeline is idle.
    RecreateTopic(i32),
}

/// A fault of the plan with its timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// Time since the previous step.
    pub(crate) pause: Duration,
    pub(crate) fault: Fault,
    /// Time until the fault is undone, if it must be undone.
    pub(crate) lasts: Duration,
}

/// An endless sequence of faults: all kinds in random order, then again in another order.
pub(crate) struct Plan {
    random: ChaCha8Rng,
    deck: Vec<Fault>,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), deck: Vec::new() }
    }

    fn shuffle(&mut self) {
        use local_stack::Name::{Kafka, Postgres, S3};
        let random = &mut self.random;
        let mut deck = vec![Fault::EndSessions, Fault::ComeOrGo, Fault::ComeOrGo];
        for who in [Who::Generator, Who::Member(random.random_range(0..MEMBERS - 1))] {
            deck.extend([Fault::Kill(who), Fault::Freeze(who), Fault::Terminate(who)]);
        }
        deck.push(Fault::KillAt(Who::Generator, one_of(random, &OFTEN), random.random_range(1..10_000)));
        deck.push(Fault::KillAt(Who::Generator, "after-state", random.random_range(1..5)));
        deck.push(Fault::KillAtEnd(one_of(random, &AT_THE_END), 1));
        for _ in 0..2 {
            let member = Who::Member(random.random_range(0..MEMBERS - 1));
            deck.push(Fault::KillAt(member, one_of(random, &OF_A_TRANSACTION), random.random_range(1..20)));
        }
        deck.extend([Kafka, Postgres, S3].map(Fault::KillServer));
        deck.extend([Kafka, Postgres, S3].map(Fault::FreezeServer));
        for link in Link::ALL {
            let damages = [Damage::Cut, Damage::HalfOpen, Damage::Slow, Damage::Late];
            deck.extend(damages.map(|damage| Fault::Damage(link, damage)));
        }
        deck.extend(Change::ALL.map(Fault::ChangeTable));
        deck.extend([Fault::SendOddRecords, Fault::HangTransaction, Fault::SendOddRecords, Fault::HangTransaction]);
        deck.push(Fault::RecreateTopic(random.random_range(PARTITIONS)));
        deck.shuffle(random);
        self.deck = deck;
    }
}

fn one_of(random: &mut ChaCha8Rng, names: &[&'static str]) -> &'static str {
    names[random.random_range(0..names.len())]
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.deck.is_empty() {
            self.shuffle();
        }
        let fault = self.deck.pop()?;
        let pause = Duration::from_millis(self.random.random_range(1_000..8_000));
        let lasts = Duration::from_millis(self.random.random_range(5_000..20_000));
        Some(Step { pause, fault, lasts })
    }
}

impl Fault {
    pub(crate) fn target(self) -> Target {
        match self {
            Self::Kill(who) | Self::Freeze(who) | Self::Terminate(who) | Self::KillAt(who, ..) => Target::Program(who),
            Self::KillAtEnd(..) => Target::Program(Who::Generator),
            Self::KillServer(name) | Self::FreezeServer(name) => Target::Server(name),
            Self::EndSessions => Target::Server(local_stack::Name::Postgres),
            Self::Damage(link, _) => Target::Link(link),
            Self::ComeOrGo => Target::Program(Who::Member(MEMBERS - 1)),
            Self::SendOddRecords | Self::HangTransaction | Self::RecreateTopic(_) => Target::Topic,
            Self::ChangeTable(_) => Target::Table,
        }
    }

    /// Returns the row of the report that the fault belongs to.
    pub(crate) fn kind(self) -> String {
        let of = |who| if who == Who::Generator { "generator" } else { "consumer" };
        match self {
            Self::Kill(who) => format!("{}: kill -9", of(who)),
            Self::Freeze(who) => format!("{}: SIGSTOP, SIGCONT", of(who)),
            Self::Terminate(who) => format!("{}: SIGTERM", of(who)),
            Self::KillAt(who, point, _) => format!("{}: killed {}", of(who), point.replace('-', " ")),
            Self::KillAtEnd(point, _) => format!("generator: killed {}", point.replace('-', " ")),
            Self::KillServer(name) => format!("{name}: kill -9"),
            Self::FreezeServer(name) => format!("{name}: SIGSTOP, SIGCONT"),
            Self::EndSessions => "postgres: all sessions ended".to_owned(),
            Self::Damage(link, damage) => format!("{link}: {damage}"),
            Self::ComeOrGo => "consumer: joined or left".to_owned(),
            Self::SendOddRecords => "records: odd timestamps and header names".to_owned(),
            Self::HangTransaction => "topic: open transaction".to_owned(),
            Self::ChangeTable(change) => format!("table: {change}"),
            Self::RecreateTopic(_) => "topic: deleted and recreated".to_owned(),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generator => f.write_str("generator"),
            Self::Member(number) => write!(f, "consumer-{number}"),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GeneratorKafka => "generator to kafka",
            Self::ConsumerKafka => "consumer to kafka",
            Self::ConsumerPostgres => "consumer to postgres",
            Self::GeneratorLake => "generator to s3",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "cut",
            Self::HalfOpen => "half-open",
            Self::Slow => "1 KB/s",
            Self::Late => "2 s late",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_is_an_order() {
        let steps = |seed| Plan::new(seed).take(200).collect::<Vec<_>>();
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn every_connection_and_server_has_its_turn() {
        let deck: BTreeSet<String> = Plan::new(7).take(45).map(|step| step.fault.kind()).collect();
        for link in Link::ALL {
            assert_eq!(deck.iter().filter(|kind| kind.starts_with(&format!("{link}:"))).count(), 4, "{deck:?}");
        }
        for name in local_stack::Name::ALL {
            assert!(deck.contains(&format!("{name}: kill -9")), "{deck:?}");
        }
        for kind in Change::ALL.map(|change| Fault::ChangeTable(change).kind()) {
            assert!(deck.contains(&kind), "{deck:?}");
        }
        assert!(deck.contains(&Fault::RecreateTopic(3).kind()), "{deck:?}");
    }
}
