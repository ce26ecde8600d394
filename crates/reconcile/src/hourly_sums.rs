//! What a store has, hour by hour: how many, and what they say.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use event_model::{Hour, ProductEvent, Timestamp};
use lake::SetHash;

/// A number and a sum of hashes, as the manifest has them of each hour and outcome.
pub(crate) type Sum = (u64, SetHash);

/// Such sums by hour, of what was read. Filled by any number of threads.
#[derive(Debug, Default)]
pub(crate) struct HourlySums(Mutex<Filling>);

#[derive(Debug, Default)]
struct Filling {
    hours: BTreeMap<Hour, Sum>,
    scratch: Vec<u8>,
}

impl HourlySums {
    /// Adds a valid event, to the hour of its time.
    pub(crate) fn add_event(&self, event: &ProductEvent<'_>) {
        self.add(event.event_timestamp.hour(), |sum, scratch| sum.add_event(event, scratch));
    }

    /// Adds a refused value, to the hour in which it was due.
    pub(crate) fn add_rejected(&self, index: u64, due: Timestamp, value: &[u8]) {
        self.add(due.hour(), |sum, scratch| sum.add_rejected(index, due, value, scratch));
    }

    /// Adds a value broken on purpose. Nobody but the run knows when it was due.
    pub(crate) fn add_corrupt(&self, index: u64, key: i32, value: &[u8]) {
        self.add(Hour::from_hours(0), |sum, scratch| sum.add_corrupt(index, key, value, scratch));
    }

    fn add(&self, hour: Hour, add: impl FnOnce(&mut SetHash, &mut Vec<u8>)) {
        let mut filling = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Filling { hours, scratch } = &mut *filling;
        let (count, sum) = hours.entry(hour).or_default();
        *count += 1;
        add(sum, scratch);
    }

    /// As it is now.
    pub(crate) fn sums(&self) -> BTreeMap<Hour, Sum> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hours.clone()
    }
}
