//! Maps an event index to a step of a session.
//!
//! Indices are distributed over lanes, whose number is a power of two. Each row of indices advances every lane by one
//! step, in an order that changes from row to row. A lane has its own users and runs one session after another, so a
//! user has at most one session at a time. After [`CHUNK`] steps a lane restarts and ends the current session. Any
//! event can therefore be computed by walking from the start of its chunk, without earlier chunks.

use event_model::EventType;

use crate::behaviour::{Chain, brings_a_product};
use crate::keyed_rng::{KeyedRng, key_for};
use crate::population::{Lane, Population, Product, User};

/// Steps of a lane between two restarts. The last session of a chunk is cut off.
pub(crate) const CHUNK: usize = 32;

/// Purposes of the random keys.
const STEPS: u64 = 1;
const ROWS: u64 = 3;

/// Random numbers reserved for each step.
const TAKES: u64 = 3;

/// Type, user and product of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) event_type: EventType,
    pub(crate) user: User,
    pub(crate) product: Product,
}

/// All sessions of a run.
#[derive(Debug)]
pub(crate) struct Sessions {
    steps: u64,
    rows: u64,
    population: Population,
    /// Indexed like [`World::experiments`](crate::World::experiments).
    chains: Vec<Chain>,
    /// True if all chains are equal, as without effects. The walk then needs no user.
    all_alike: bool,
}

impl Sessions {
    /// Creates the sessions. `chains` has one chain per experiment of the world.
    pub(crate) fn new(seed: u64, population: Population, chains: Vec<Chain>) -> Self {
        let all_alike = chains.windows(2).all(|pair| pair[0] == pair[1]);
        Self { steps: key_for(seed, STEPS), rows: key_for(seed, ROWS), population, chains, all_alike }
    }

    /// Returns the indices of the first session of a lane in a chunk. `number` counts the lanes, chunk after chunk.
    pub(crate) fn indices(&self, number: u64) -> impl Iterator<Item = u64> + '_ {
        let lanes = self.lanes();
        let (chunk, lane) = (number / lanes, number % lanes);
        let numbers = KeyedRng::new(self.steps, chunk * lanes + lane);
        let lane_users = &self.population.lanes()[usize::try_from(lane).unwrap_or(0)];
        let steps = (0..CHUNK as u64).take_while(move |step| self.walk(lane_users, &numbers, *step).1 == 0);
        steps.map(move |step| {
            let row = chunk * CHUNK as u64 + step;
            row * lanes + self.permuted(row, lane)
        })
    }

    fn lanes(&self) -> u64 {
        self.population.lanes().len() as u64
    }

    /// Returns the lane of a place in a row, or the place of a lane: the permutation is its own inverse.
    fn permuted(&self, row: u64, place: u64) -> u64 {
        (place ^ KeyedRng::new(self.rows, row).next()) & (self.lanes() - 1)
    }

    pub(crate) fn action(&self, index: u64) -> Action {
        let lanes = self.lanes();
        let (row, place) = (index / lanes, index % lanes);
        let lane = self.permuted(row, place);
        let (chunk, step) = (row / CHUNK as u64, row % CHUNK as u64);
        let numbers = KeyedRng::new(self.steps, chunk * lanes + lane);
        self.walk(&self.population.lanes()[usize::try_from(lane).unwrap_or(0)], &numbers, step).0
    }

    /// Walks from the start of the chunk to a step. Also returns the step at which the session began.
    fn walk(&self, lane: &Lane, numbers: &KeyedRng, step: u64) -> (Action, u64) {
        let (mut event_type, mut began, mut product) = (EventType::SearchPerformed, 0, 0);
        let mut user = None;
        for at in 1..=step {
            let chain = if self.all_alike {
                &self.chains[0]
            } else {
                let user = user.get_or_insert_with(|| lane.user(numbers.nth(began * TAKES + 1)));
                &self.chains[usize::from(user.experiment)]
            };
            if let Some(next) = chain.next(event_type, numbers.nth(at * TAKES)) {
                event_type = next;
            } else {
                (event_type, began, user) = (EventType::SearchPerformed, at, None);
            }
            if brings_a_product(event_type) {
                product = at;
            }
        }
        let action = Action {
            event_type,
            user: user.unwrap_or_else(|| lane.user(numbers.nth(began * TAKES + 1))),
            product: self.population.product(numbers.nth(product * TAKES + 2)),
        };
        (action, began)
    }

    pub(crate) fn population(&self) -> &Population {
        &self.population
    }

    pub(crate) fn chains(&self) -> &[Chain] {
        &self.chains
    }
}
