//! Counts and hashes of the contents of a store by hour.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use event_model::{Hour, ProductEvent, Timestamp};
use lake::SetHash;

/// A count and a sum of hashes, as in the manifest for each hour and outcome.
pub(crate) type Sum = (u64, SetHash);

/// Sums of the values read, by hour. Any number of threads may add to them.
#[derive(Debug, Default)]
pub(crate) struct HourlySums(Mutex<Filling>);

#[derive(Debug, Default)]
struct Filling {
    hours: BTreeMap<Hour, Sum>,
    scratch: Vec<u8>,
}

impl HourlySums {
    /// Adds a valid event to the hour of its timestamp.
    pub(crate) fn add_event(&self, event: &ProductEvent<'_>) {
        self.add(event.event_timestamp.hour(), |sum, scratch| sum.add_event(event, scratch));
    }

    /// Adds a rejected value to the hour of its due time.
    pub(crate) fn add_rejected(&self, index: u64, due: Timestamp, value: &[u8]) {
        self.add(due.hour(), |sum, scratch| sum.add_rejected(index, due, value, scratch));
    }

    /// Adds a corrupt value to hour 0, since the record does not carry its due time.
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

    /// Returns a copy of the sums.
    pub(crate) fn sums(&self) -> BTreeMap<Hour, Sum> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hours.clone()
    }
}
