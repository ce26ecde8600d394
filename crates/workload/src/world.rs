//! Size and names of the simulated world.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Maximum number of users, and of products. The lookup tables for that many take 280 MB.
pub const MAX_PEOPLE_OR_PRODUCTS: u32 = 10_000_000;

/// World seed of runs that do not set one, so that their users and products have the same attributes.
pub const DEFAULT_WORLD_SEED: u64 = 7;

const MAX_NAMES: usize = 65_536;

/// Number of users, accounts and products, and names of categories and experiments. IDs run from 1 to the number,
/// inclusive.
///
/// The world decides the account and the experiment of a user and the category of a product. Runs with the same
/// world agree on them, even if their seeds differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// Seed of the attributes of users and products, separate from the seed of the run.
    pub seed: u64,
    /// Number of users, 1 to [`MAX_PEOPLE_OR_PRODUCTS`].
    pub users: u32,
    /// Number of accounts, 1 to 2^31-1. Each user belongs to one account.
    pub accounts: u32,
    /// Number of products, 1 to [`MAX_PEOPLE_OR_PRODUCTS`]. Each product belongs to one category.
    pub products: u32,
    /// Product categories, each 1 to 64 characters.
    pub categories: Vec<String>,
    /// Experiments, each 1 to 64 characters. Each user belongs to one experiment.
    pub experiments: Vec<String>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            seed: DEFAULT_WORLD_SEED,
            users: 1_000,
            accounts: 10,
            products: 100,
            categories: ["electronics", "furniture", "tools"].map(str::to_owned).to_vec(),
            experiments: (1..=10).map(|number| format!("exp_{number}")).collect(),
        }
    }
}

/// Error returned when a world is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WorldError {
    /// A number is out of range.
    #[error("invalid number of {what}: {number} is out of range; use 1 to {most}")]
    Number {
        /// `users`, `accounts` or `products`.
        what: &'static str,
        /// Invalid number.
        number: u32,
        /// Maximum.
        most: u32,
    },
    /// There are no names, or too many.
    #[error("invalid number of {what}: {count} is out of range; use 1 to 65536")]
    Names {
        /// `categories` or `experiments`.
        what: &'static str,
        /// Number of names.
        count: usize,
    },
    /// A name has an invalid length or contains control characters.
    #[error("invalid name in {what}: {name:?}; use 1 to 64 characters without control characters")]
    Name {
        /// `categories` or `experiments`.
        what: &'static str,
        /// Invalid name.
        name: String,
    },
}

impl World {
    pub(crate) fn check(&self) -> Result<(), WorldError> {
        for (what, number, most) in [
            ("users", self.users, MAX_PEOPLE_OR_PRODUCTS),
            ("accounts", self.accounts, i32::MAX.unsigned_abs()),
            ("products", self.products, MAX_PEOPLE_OR_PRODUCTS),
        ] {
            if !(1..=most).contains(&number) {
                return Err(WorldError::Number { what, number, most });
            }
        }
        check_names("categories", &self.categories)?;
        check_names("experiments", &self.experiments)
    }
}

fn check_names(what: &'static str, names: &[String]) -> Result<(), WorldError> {
    let count = names.len();
    if !(1..=MAX_NAMES).contains(&count) {
        return Err(WorldError::Names { what, count });
    }
    let wrong = |name: &&String| !(1..=64).contains(&name.chars().count()) || name.chars().any(char::is_control);
    match names.iter().find(wrong) {
        Some(name) => Err(WorldError::Name { what, name: name.clone() }),
        None => Ok(()),
    }
}
