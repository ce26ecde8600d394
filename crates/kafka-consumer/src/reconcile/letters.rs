//! The group's dead letters, by the places of their records.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use pipeline_runtime::kafka::Watermarks;
use xxhash_rust::xxh3::xxh3_64;

/// A place in the topic: partition and offset.
pub(super) type Place = (i32, i64);

/// One letter, as far as it matters here.
#[derive(Debug)]
pub(super) struct Letter {
    /// XXH3 of the payload; none of a discarded one and of a tombstone.
    payload: Option<u64>,
    discarded: bool,
    /// Whether its event came into the table after all.
    pub(super) replayed: bool,
    met: AtomicBool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Letters(HashMap<Place, Letter>);

impl Letter {
    pub(super) fn new(payload: Option<&[u8]>, replayed: bool, discarded: bool) -> Self {
        Self { payload: payload.map(xxh3_64), discarded, replayed, met: AtomicBool::new(false) }
    }

    /// Whether it has the record's bytes. One that was discarded has none any more.
    pub(super) fn is_of(&self, payload: Option<&[u8]>) -> bool {
        self.discarded || self.payload == payload.map(xxh3_64)
    }
}

impl Letters {
    pub(super) fn add(&mut self, place: Place, letter: Letter) {
        self.0.insert(place, letter);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The letter of a record that is there.
    pub(super) fn meet(&self, place: Place) -> Option<&Letter> {
        let letter = self.0.get(&place)?;
        letter.met.store(true, Ordering::Relaxed);
        Some(letter)
    }

    /// The places of letters whose record is not there, though the partition has what lies around it.
    pub(super) fn unmet(&self, span: impl Fn(i32) -> Option<Watermarks>) -> Vec<Place> {
        let within =
            |(partition, offset): &Place| span(*partition).is_some_and(|span| (span.low..span.high).contains(offset));
        let unmet = self.0.iter().filter(|(place, letter)| !letter.met.load(Ordering::Relaxed) && within(place));
        let mut places: Vec<Place> = unmet.map(|(place, _)| *place).collect();
        places.sort_unstable();
        places
    }
}
