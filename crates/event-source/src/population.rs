//! Who lives in the world and what is sold there, made once from the seed.

use fake::Fake;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::alias::AliasTable;
use crate::world::World;

/// Streams of the generator: a larger user base leaves the catalogue as it is.
const USERS: u64 = 1;
const PRODUCTS: u64 = 2;

/// The n-th most active user has a weight of `1 / (n + SHIFT)`: Zipf's law with Mandelbrot's shift,
/// which keeps the first from having a tenth of all events, and so one Kafka partition too.
const SHIFT: u64 = 10;
const UNIT_WEIGHT: u64 = 1 << 40;

/// Users and products with what they keep for life.
#[derive(Debug)]
pub(crate) struct Population {
    users: Vec<User>,
    products: Vec<Product>,
    active_users: AliasTable,
    popular_products: AliasTable,
}

/// What a user keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: i32,
    pub(crate) account: i32,
    /// The place in the world's experiments.
    pub(crate) experiment: u16,
}

/// What a product keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    pub(crate) id: i32,
    /// The place in the world's categories.
    pub(crate) category: u16,
}

impl Population {
    /// `None` for a world that [`World::check`] refuses.
    pub(crate) fn new(seed: u64, world: &World) -> Option<Self> {
        let mut numbers = ChaCha12Rng::seed_from_u64(seed);
        numbers.set_stream(USERS);
        let experiments = u16::try_from(world.experiments.len() - 1).ok()?;
        let accounts = i32::try_from(world.accounts).ok()?;
        let users = (1..=i32::try_from(world.users).ok()?)
            .map(|id| User {
                id,
                account: (1..=accounts).fake_with_rng(&mut numbers),
                experiment: (0..=experiments).fake_with_rng(&mut numbers),
            })
            .collect();
        let active_users = AliasTable::new(&weights(world.users, &mut numbers))?;

        let mut numbers = ChaCha12Rng::seed_from_u64(seed);
        numbers.set_stream(PRODUCTS);
        let categories = u16::try_from(world.categories.len() - 1).ok()?;
        let products = (1..=i32::try_from(world.products).ok()?)
            .map(|id| Product { id, category: (0..=categories).fake_with_rng(&mut numbers) })
            .collect();
        let popular_products = AliasTable::new(&weights(world.products, &mut numbers))?;
        Some(Self { users, products, active_users, popular_products })
    }

    /// A user, heavy ones more often than light ones.
    pub(crate) fn user(&self, random: u64) -> User {
        self.users[self.active_users.choose(random) as usize]
    }

    /// A product, popular ones more often.
    pub(crate) fn product(&self, random: u64) -> Product {
        self.products[self.popular_products.choose(random) as usize]
    }
}

/// Zipf's weights in an order of no meaning, so that a low id is no sign of a heavy user.
fn weights(count: u32, numbers: &mut ChaCha12Rng) -> Vec<u64> {
    let mut weights: Vec<u64> = (1..=u64::from(count)).map(|rank| UNIT_WEIGHT / (rank + SHIFT)).collect();
    // Fisher and Yates, from the end.
    for end in (1..count).rev() {
        let other: u32 = (0..=end).fake_with_rng(numbers);
        weights.swap(end as usize, other as usize);
    }
    weights
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::*;

    fn small() -> World {
        World { users: 50, ..World::default() }
    }

    #[test]
    fn the_seed_decides() {
        let (a, b, c) = (
            Population::new(1, &small()).unwrap(),
            Population::new(1, &small()).unwrap(),
            Population::new(2, &small()).unwrap(),
        );
        assert_eq!(a.users, b.users);
        assert_eq!(a.products, b.products);
        assert_ne!(a.users, c.users);
        assert_ne!(a.products, c.products);
    }

    #[test]
    fn more_users_leave_the_catalogue_alone() {
        let (few, many) = (Population::new(1, &small()).unwrap(), Population::new(1, &World::default()).unwrap());
        assert_eq!(few.products, many.products);
    }

    #[test]
    fn heavy_users_are_heavy_and_light_ones_are_seen() {
        let world = World::default();
        let population = Population::new(3, &world).unwrap();
        let mut seen = vec![0_u32; 1_001];
        let mut numbers = crate::keyed::Keyed::new(3, 0);
        for _ in 0..1_000_000 {
            seen[usize::try_from(population.user(numbers.next()).id).unwrap()] += 1;
        }
        seen[1..].sort_unstable();
        assert!(seen[1] > 100, "the lightest user: {}", seen[1]);
        assert!((15_000..25_000).contains(&seen[1_000]), "the heaviest: {}", seen[1_000]);
    }
}
