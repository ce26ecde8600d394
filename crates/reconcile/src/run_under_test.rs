//! The run to compare, with its events generated again from its settings if possible.

use std::ops::Range;

use anyhow::{Context, bail};
use event_model::{ProductEvent, Window, parse};
use lake::{Manifest, OutcomeCounts};
use workload::{Fault, Generated, RunTag, Settings, Source, decode_event_id};

use crate::index_set::IndexSet;

/// Number of consecutive indices that a thread generates at a time.
const CHUNK: u64 = 1 << 16;

/// A finished run.
pub(crate) struct RunUnderTest {
    pub(crate) manifest: Manifest,
    tag: RunTag,
    indices: Range<u64>,
    /// Its expected events. `None` if this version generates other events from the settings.
    pub(crate) made: Option<ExpectedRun>,
}

/// The events of a run, generated again.
pub(crate) struct ExpectedRun {
    source: Source,
    /// Valid events, as offsets from the run's first index. The sets of rejected and corrupt values have the same form.
    pub(crate) valid: IndexSet,
    pub(crate) invalid: IndexSet,
    pub(crate) corrupt: IndexSet,
}

/// Owner of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Another run or a foreign producer.
    Foreign,
    /// No run: the ID has the run's tag, but its index is outside of the run.
    Invented,
    /// The run. The value is the offset from its first index.
    Ours(u64),
}

impl RunUnderTest {
    /// Generates all events of a run, provided that the manifest's settings result in its run tag. Fails if the run is
    /// not finished.
    pub(crate) fn new(manifest: Manifest) -> anyhow::Result<Self> {
        if manifest.end.is_none() {
            bail!("cannot compare run {}: its manifest is a draft; finish the run first", manifest.run.id);
        }
        let tag: RunTag = manifest.run.tag.parse().context("invalid run tag in the manifest")?;
        let indices = manifest.first_index..manifest.next_index;
        let settings: Option<Settings> = serde_json::from_value(manifest.settings.clone()).ok();
        let source = settings.and_then(|settings| Source::new(settings).ok()).filter(|source| source.run_tag() == tag);
        let made = source.map(|source| ExpectedRun::new(source, &indices));
        Ok(Self { manifest, tag, indices, made })
    }

    /// Returns the number of indices.
    pub(crate) fn length(&self) -> u64 {
        self.indices.end.saturating_sub(self.indices.start)
    }

    pub(crate) fn tag(&self) -> String {
        self.tag.to_string()
    }

    /// Returns the owner of an event, by its ID.
    pub(crate) fn ownership(&self, event: &ProductEvent<'_>) -> Ownership {
        match decode_event_id(event.event_id) {
            Some((tag, index)) if tag == self.tag => self.at(index),
            _ => Ownership::Foreign,
        }
    }

    /// Returns the owner of an index from a header or from a quarantine file.
    pub(crate) fn at(&self, index: u64) -> Ownership {
        if self.indices.contains(&index) { Ownership::Ours(index - self.indices.start) } else { Ownership::Invented }
    }

    /// Returns the expected event, if the run's events can be generated.
    pub(crate) fn event(&self, offset: u64) -> Option<ProductEvent<'_>> {
        Some(self.made.as_ref()?.source.make(self.indices.start + offset).event)
    }

    /// Returns true if the event is valid, or if the run's events cannot be generated.
    pub(crate) fn may_be_valid(&self, offset: u64) -> bool {
        self.made.as_ref().is_none_or(|made| made.valid.contains(offset))
    }

    /// Returns true if the event is rejected, or if the run's events cannot be generated.
    pub(crate) fn may_be_refused(&self, offset: u64) -> bool {
        self.made.as_ref().is_none_or(|made| made.invalid.contains(offset))
    }

    /// Returns true if the event is corrupt, or if the run's events cannot be generated.
    pub(crate) fn may_be_broken(&self, offset: u64) -> bool {
        self.made.as_ref().is_none_or(|made| made.corrupt.contains(offset))
    }

    /// Describes an event by its index and, if it can be generated, by its ID and timestamp.
    pub(crate) fn describe(&self, offset: u64) -> String {
        let index = self.indices.start + offset;
        self.event(offset).map_or_else(
            || format!("index {index}"),
            |event| format!("{} (index {index}, {})", event.event_id, event.event_timestamp),
        )
    }

    /// Returns the number of the lake segment that contains an event.
    pub(crate) fn segment(&self, offset: u64) -> Option<u64> {
        let indices = self.manifest.lake.as_ref()?.segment_indices;
        (self.indices.start + offset).checked_div(indices)
    }
}

impl ExpectedRun {
    /// Generates the events of all indices in parallel and records their outcomes.
    fn new(source: Source, indices: &Range<u64>) -> Self {
        let length = indices.end.saturating_sub(indices.start);
        let [valid, invalid, corrupt] = [(); 3].map(|()| IndexSet::new(length));
        let made = Self { source, valid, invalid, corrupt };
        let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let made = &made;
                scope.spawn(move || {
                    let mut first = indices.start + thread * CHUNK;
                    while first < indices.end {
                        for index in first..indices.end.min(first + CHUNK) {
                            made.outcome(&made.source.make(index)).insert(index - indices.start);
                        }
                        first += threads * CHUNK;
                    }
                });
            }
        });
        made
    }

    /// Returns the set for an event's outcome, determined as the generator does: at the time at which the event is due.
    fn outcome(&self, generated: &Generated<'_>) -> &IndexSet {
        let due = Some(generated.due);
        let valid = match generated.fault {
            Some(Fault::Corrupt(_) | Fault::Oversize(_)) => return &self.corrupt,
            Some(Fault::Invalid(_)) => {
                let mut value = Vec::new();
                generated.write_value(&mut value);
                parse(Some(&value), due, Window::default()).is_ok()
            }
            _ => generated.event.check(due, Window::default()).is_ok(),
        };
        if valid { &self.valid } else { &self.invalid }
    }

    /// Returns the number of events by outcome.
    pub(crate) fn outcomes(&self) -> OutcomeCounts {
        let [valid, invalid, corrupt] = [&self.valid, &self.invalid, &self.corrupt].map(IndexSet::count);
        OutcomeCounts { valid, invalid, corrupt }
    }
}
