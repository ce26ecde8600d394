//! Which step of which session event i is.
//!
//! Indices go to a number of lanes, a power of two: each row of so many indices gives every lane one step, in an order
//! that changes from row to row. Every lane has its own users and walks through one session after the other, so a user
//! has one session at a time. After [`CHUNK`] steps a lane begins anew, whatever it was at: so any event is found by
//! walking from the start of its chunk, and needs nothing of earlier ones.

use event_model::EventType;

use crate::behaviour::{Chain, brings_a_product};
use crate::keyed_rng::{KeyedRng, key_for};
use crate::population::{Lane, Population, Product, User};

/// Steps of a lane in which sessions lie side by side; the last of them is cut short.
pub(crate) const CHUNK: usize = 32;

/// The keys' purposes.
const STEPS: u64 = 1;
const ROWS: u64 = 3;

/// Numbers that a step may take.
const TAKES: u64 = 3;

/// Who did what to which product.
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
    /// By the world's experiments.
    chains: Vec<Chain>,
    /// Without effects all are the same one, and nobody needs to know the user to go a step.
    all_alike: bool,
}

impl Sessions {
    /// `chains` has one for each of the world's experiments.
    pub(crate) fn new(seed: u64, population: Population, chains: Vec<Chain>) -> Self {
        let all_alike = chains.windows(2).all(|pair| pair[0] == pair[1]);
        Self { steps: key_for(seed, STEPS), rows: key_for(seed, ROWS), population, chains, all_alike }
    }

    /// What event `index` is.
    pub(crate) fn action(&self, index: u64) -> Action {
        let lanes = self.population.lanes().len() as u64;
        let (row, place) = (index / lanes, index % lanes);
        let turn = KeyedRng::new(self.rows, row).next();
        let lane = (place ^ turn) & (lanes - 1);
        let (chunk, step) = (row / CHUNK as u64, row % CHUNK as u64);
        let numbers = KeyedRng::new(self.steps, chunk * lanes + lane);
        self.walk(&self.population.lanes()[usize::try_from(lane).unwrap_or(0)], &numbers, step)
    }

    /// Walks from the chunk's start to a step.
    fn walk(&self, lane: &Lane, numbers: &KeyedRng, step: u64) -> Action {
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
        Action {
            event_type,
            user: user.unwrap_or_else(|| lane.user(numbers.nth(began * TAKES + 1))),
            product: self.population.product(numbers.nth(product * TAKES + 2)),
        }
    }

    pub(crate) fn population(&self) -> &Population {
        &self.population
    }

    pub(crate) fn chains(&self) -> &[Chain] {
        &self.chains
    }
}
