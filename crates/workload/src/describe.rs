//! Expected statistics of a run's events, as far as their fields can show them.
//!
//! The statistics are computed, not sampled. A lane is a renewal process whose sessions are walks along the chains, cut
//! off at the end of the chunk; the computation takes all of that into account. Floating-point numbers are for display
//! only and never influence the events.
#![expect(clippy::cast_precision_loss, reason = "counts of users and events are far below 2^52")]

use std::collections::BTreeMap;

use event_model::EventType;
use serde::Serialize;

use crate::behaviour::{Chain, TYPES, WHOLE};
use crate::session::CHUNK;
use crate::source::Source;

/// Expected statistics of a run's valid events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Probability that one type follows another in a session without an effect. The rest of a row ends the session.
    pub steps: BTreeMap<&'static str, BTreeMap<&'static str, f64>>,
    /// All users.
    pub all: Group,
    /// Users of each experiment, in the order of [`World::experiments`](crate::World::experiments).
    pub experiments: Vec<Group>,
    /// Tenths of the users, the most active first.
    pub user_deciles: Vec<Group>,
}

/// Expected statistics of the events of a group of users.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Name of the group: `all`, an experiment or the number of a decile.
    pub name: String,
    /// Number of users.
    pub users: u64,
    /// Fraction of all events, 0 to 1.
    pub share: f64,
    /// Events of each type, as a fraction of all events.
    #[serde(serialize_with = "by_name")]
    pub types: TypeCounts,
    /// Requests for quotation per view.
    pub rfq_per_view: f64,
    /// Clicks on results and recommendations per search.
    pub clicks_per_search: f64,
}

/// One number per type, in the order of [`EventType::ALL`].
pub type TypeCounts = [f64; TYPES];

const STEPS: usize = CHUNK;

impl Source {
    /// Returns the expected statistics of this run's events. Takes about a microsecond per user.
    #[must_use]
    pub fn describe(&self) -> Description {
        let names = &self.settings().world.experiments;
        let mut experiments: Vec<(u64, TypeCounts)> = vec![(0, [0.0; TYPES]); names.len()];
        let mut users: Vec<TypeCounts> = Vec::new();
        let (arms, arm_of) = self.arms();
        let population = self.sessions().population();
        let events = STEPS as f64 * population.lanes().len() as f64;
        for (number, lane) in population.lanes().iter().enumerate() {
            let weights = population.weights(number);
            let sum: u64 = weights.iter().sum();
            let parts: Vec<f64> = weights.iter().map(|weight| *weight as f64 / sum as f64).collect();
            let mut mix = vec![0.0; arms.len()];
            for (user, part) in lane.users().iter().zip(&parts) {
                mix[arm_of[usize::from(user.experiment)]] += part;
            }
            let expected = expected_of_lane(&arms, &mix);
            for (user, part) in lane.users().iter().zip(&parts) {
                let own = expected[arm_of[usize::from(user.experiment)]].map(|count| count * part / events);
                let (people, counts) = &mut experiments[usize::from(user.experiment)];
                *people += 1;
                add(counts, &own);
                users.push(own);
            }
        }
        let experiments = names.iter().zip(experiments).map(|(name, (users, types))| Group::new(name, users, types));
        Description {
            steps: steps(),
            all: Group::of("all", &users),
            experiments: experiments.collect(),
            user_deciles: deciles(users),
        }
    }

    /// Returns the distinct chains, and for each experiment the index of its chain.
    fn arms(&self) -> (Vec<Arm>, Vec<usize>) {
        let mut different: Vec<&Chain> = Vec::new();
        let mut arm_of = Vec::new();
        for chain in self.sessions().chains() {
            let known = different.iter().position(|other| *other == chain);
            arm_of.push(known.unwrap_or_else(|| {
                different.push(chain);
                different.len() - 1
            }));
        }
        (different.into_iter().map(Arm::new).collect(), arm_of)
    }
}

/// Sessions of one chain.
struct Arm {
    /// Expected number of events, indexed by the number of steps left in the chunk when the session begins.
    within: [TypeCounts; STEPS + 1],
    /// Probability of each session length.
    length: [f64; STEPS + 1],
}

impl Arm {
    fn new(chain: &Chain) -> Self {
        let mut arm = Self { within: [[0.0; TYPES]; STEPS + 1], length: [0.0; STEPS + 1] };
        let mut now = [0.0; TYPES];
        now[EventType::SearchPerformed as usize] = 1.0;
        for step in 1..=STEPS {
            arm.within[step] = arm.within[step - 1];
            add(&mut arm.within[step], &now);
            let mut next = [0.0; TYPES];
            for from in EventType::ALL {
                for to in EventType::ALL {
                    let part = f64::from(chain.probability(from, to)) / f64::from(WHOLE);
                    next[to as usize] += now[from as usize] * part;
                }
            }
            arm.length[step] = now.iter().sum::<f64>() - next.iter().sum::<f64>();
            now = next;
        }
        arm
    }
}

/// Returns for each arm the expected events of a lane in one chunk if all its sessions belonged to that arm.
///
/// Session starts are distributed as in the real mix of arms, so weighting the results by user gives the lane's events.
fn expected_of_lane(arms: &[Arm], mix: &[f64]) -> Vec<TypeCounts> {
    let mut begins = [0.0; STEPS];
    for step in 0..STEPS {
        begins[step] = if step == 0 { 1.0 } else { 0.0 };
        for earlier in 0..step {
            let lengths = arms.iter().zip(mix).map(|(arm, part)| part * arm.length[step - earlier]);
            begins[step] += begins[earlier] * lengths.sum::<f64>();
        }
    }
    let of = |arm: &Arm| {
        let mut sum = [0.0; TYPES];
        for (step, begins) in begins.iter().enumerate() {
            add(&mut sum, &arm.within[STEPS - step].map(|count| count * begins));
        }
        sum
    };
    arms.iter().map(of).collect()
}

impl Group {
    fn of(name: &str, users: &[TypeCounts]) -> Self {
        let mut types = [0.0; TYPES];
        for user in users {
            add(&mut types, user);
        }
        Self::new(name, users.len() as u64, types)
    }

    fn new(name: &str, users: u64, types: TypeCounts) -> Self {
        let of = |event_type: EventType| types[event_type as usize];
        let clicks = of(EventType::ResultClicked) + of(EventType::RecommendationClicked);
        Self {
            name: name.to_owned(),
            users,
            share: types.iter().sum(),
            types,
            rfq_per_view: ratio(of(EventType::RfqSent), of(EventType::ProductViewed)),
            clicks_per_search: ratio(clicks, of(EventType::SearchPerformed)),
        }
    }
}

/// Splits the users as `ntile(10)` does: the first groups have one user more if the number is not divisible by ten.
fn deciles(mut users: Vec<TypeCounts>) -> Vec<Group> {
    let share = |types: &TypeCounts| types.iter().sum::<f64>();
    users.sort_unstable_by(|a, b| share(b).total_cmp(&share(a)));
    let (each, larger) = (users.len() / 10, users.len() % 10);
    let mut rest = users.as_slice();
    (0..10)
        .map(|number| {
            let (these, others) = rest.split_at(each + usize::from(number < larger));
            rest = others;
            Group::of(&(number + 1).to_string(), these)
        })
        .collect()
}

fn steps() -> BTreeMap<&'static str, BTreeMap<&'static str, f64>> {
    let chain = Chain::new(0);
    let part = |from, to| f64::from(chain.probability(from, to)) / f64::from(WHOLE);
    let row = |from| EventType::ALL.into_iter().map(move |to| (to.as_str(), part(from, to))).filter(|(_, p)| *p > 0.0);
    EventType::ALL.into_iter().map(|from| (from.as_str(), row(from).collect())).collect()
}

fn add(sum: &mut TypeCounts, other: &TypeCounts) {
    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn by_name<S: serde::Serializer>(types: &TypeCounts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(EventType::ALL.into_iter().map(EventType::as_str).zip(types))
}
