//! Users and products of the world, created once from the world's seed.

use fake::Fake;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::alias::AliasTable;
use crate::world::World;

/// Separate streams of random numbers, so that the number of users does not change the products.
const USERS: u64 = 1;
const PRODUCTS: u64 = 2;

/// Minimum shift of the weights.
///
/// The n-th most active user has the weight `1 / (n + shift)`: Zipf's law with Mandelbrot's shift. Without the shift
/// the most active user, and so one Kafka partition, would receive a tenth of all events.
const LEAST_SHIFT: u32 = 10;
/// Number of users per unit of shift. The most active user is about twenty times as active as the least active.
const SHIFT_PER: u32 = 20;
/// Minimum number of users in a lane, unless the world has fewer.
///
/// All lanes have the same share of events. In a smaller lane that share would determine the activity of its users.
const LEAST_IN_LANE: u32 = 12;
const MOST_LANES: u32 = 1 << 16;
const UNIT_WEIGHT: u64 = 1 << 40;

/// Users and products with their fixed attributes.
#[derive(Debug)]
pub(crate) struct Population {
    lanes: Vec<Lane>,
    products: Vec<Product>,
    popular_products: AliasTable,
}

/// A group of users who take turns. Each user belongs to one lane.
#[derive(Debug)]
pub(crate) struct Lane {
    /// In descending order of weight.
    users: Vec<User>,
    active: AliasTable,
}

impl Lane {
    /// Returns the user of the next session, active users more often than others.
    pub(crate) fn user(&self, random: u64) -> User {
        self.users[self.active.choose(random) as usize]
    }

    pub(crate) fn users(&self) -> &[User] {
        &self.users
    }
}

/// A user with its fixed attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: i32,
    pub(crate) account: i32,
    /// Index into [`World::experiments`].
    pub(crate) experiment: u16,
}

/// A product with its fixed attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    pub(crate) id: i32,
    /// Index into [`World::categories`].
    pub(crate) category: u16,
}

impl Population {
    /// Creates users and products. Requires a world that passes [`World::check`]; returns `None` if a count does not
    /// fit.
    pub(crate) fn new(world: &World) -> Option<Self> {
        let mut numbers = ChaCha12Rng::seed_from_u64(world.seed);
        numbers.set_stream(USERS);
        let experiments = u16::try_from(world.experiments.len() - 1).ok()?;
        let accounts = i32::try_from(world.accounts).ok()?;
        let mut users: Vec<User> = (1..=i32::try_from(world.users).ok()?)
            .map(|id| User {
                id,
                account: (1..=accounts).fake_with_rng(&mut numbers),
                experiment: (0..=experiments).fake_with_rng(&mut numbers),
            })
            .collect();
        // From here on the position is the rank by weight, which is unrelated to the ID.
        shuffle(&mut users, &mut numbers);
        let lanes = lanes_of(&users)?;

        let mut numbers = ChaCha12Rng::seed_from_u64(world.seed);
        numbers.set_stream(PRODUCTS);
        let categories = u16::try_from(world.categories.len() - 1).ok()?;
        let products = (1..=i32::try_from(world.products).ok()?)
            .map(|id| Product { id, category: (0..=categories).fake_with_rng(&mut numbers) })
            .collect();
        let mut weights: Vec<u64> = (0..world.products).map(|rank| weight(rank, world.products)).collect();
        shuffle(&mut weights, &mut numbers);
        let popular_products = AliasTable::new(&weights)?;
        Some(Self { lanes, products, popular_products })
    }

    /// Returns all lanes. Their number is a power of two.
    pub(crate) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Returns the most active user.
    pub(crate) fn heaviest(&self) -> User {
        self.lanes[0].users[0]
    }

    /// Returns the weights of a lane's users, in the order of its users.
    pub(crate) fn weights(&self, lane: usize) -> Vec<u64> {
        let users = self.lanes.iter().map(|lane| lane.users.len()).sum::<usize>();
        let users = u32::try_from(users).unwrap_or(u32::MAX);
        let lanes = u32::try_from(self.lanes.len()).unwrap_or(1);
        let lane = u32::try_from(lane).unwrap_or(0);
        ranks(lane, lanes, users).map(|rank| weight(rank, users)).collect()
    }

    /// Returns a product, popular ones more often than others.
    pub(crate) fn product(&self, random: u64) -> Product {
        self.products[self.popular_products.choose(random) as usize]
    }
}

/// Returns the weight of the user or product at a rank, counted from 0.
fn weight(rank: u32, count: u32) -> u64 {
    UNIT_WEIGHT / (u64::from(rank) + 1 + u64::from((count / SHIFT_PER).max(LEAST_SHIFT)))
}

/// Deals users to lanes in alternating directions, so that all lanes have nearly the same total weight.
fn lanes_of(users: &[User]) -> Option<Vec<Lane>> {
    let count = u32::try_from(users.len()).ok()?;
    let most = (count / LEAST_IN_LANE).clamp(1, MOST_LANES);
    let lanes = 1 << most.ilog2();
    (0..lanes)
        .map(|lane| {
            let weights: Vec<u64> = ranks(lane, lanes, count).map(|rank| weight(rank, count)).collect();
            let users = ranks(lane, lanes, count).map(|rank| users[rank as usize]).collect();
            Some(Lane { users, active: AliasTable::new(&weights)? })
        })
        .collect()
}

/// Returns the ranks of a lane's users.
fn ranks(lane: u32, lanes: u32, count: u32) -> impl Iterator<Item = u32> {
    let there = (lane..count).step_by(lanes as usize * 2);
    let back = (2 * lanes - 1 - lane..count).step_by(lanes as usize * 2);
    let mut turns = (there, back);
    (0..).map_while(move |turn| if turn % 2 == 0 { turns.0.next() } else { turns.1.next() })
}

/// Shuffles with the Fisher-Yates algorithm, from the end.
fn shuffle<T>(all: &mut [T], numbers: &mut ChaCha12Rng) {
    for end in (1..u32::try_from(all.len()).unwrap_or(0)).rev() {
        let other: u32 = (0..=end).fake_with_rng(numbers);
        all.swap(end as usize, other as usize);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn small(seed: u64) -> World {
        World { seed, users: 50, ..World::default() }
    }

    fn users(population: &Population) -> Vec<User> {
        population.lanes.iter().flat_map(|lane| lane.users.clone()).collect()
    }

    #[test]
    fn the_seed_decides() {
        let [a, b, c] = [1, 1, 2].map(|seed| Population::new(&small(seed)).unwrap());
        assert_eq!(users(&a), users(&b));
        assert_eq!(a.products, b.products);
        assert_ne!(users(&a), users(&c));
        assert_ne!(a.products, c.products);
    }

    #[test]
    fn more_users_leave_the_catalogue_and_the_other_users_alone() {
        let [few, many] = [50, 1_000].map(|count| Population::new(&World { users: count, ..small(1) }).unwrap());
        assert_eq!(few.products, many.products);
        let by_id = |population: &Population| {
            let mut users = users(population);
            users.sort_unstable_by_key(|user| user.id);
            users
        };
        assert_eq!(by_id(&few), by_id(&many)[..50]);
    }

    #[test]
    fn everybody_is_in_one_lane_and_lanes_weigh_the_same() {
        for (count, lanes) in [(1, 1), (11, 1), (23, 1), (50, 4), (1_000, 64), (100_000, 8_192)] {
            let population = Population::new(&World { seed: 3, users: count, ..World::default() }).unwrap();
            assert_eq!(population.lanes().len(), lanes, "{count}");
            let mut ids: Vec<i32> = users(&population).iter().map(|user| user.id).collect();
            ids.sort_unstable();
            assert!(ids.into_iter().eq(1..=i32::try_from(count).unwrap()));
            let sums: Vec<u64> = (0..lanes).map(|lane| population.weights(lane).iter().sum()).collect();
            let (least, most) = (*sums.iter().min().unwrap(), *sums.iter().max().unwrap());
            assert!(most < least + least / 2, "{count}: {least} to {most}");
        }
    }
}
