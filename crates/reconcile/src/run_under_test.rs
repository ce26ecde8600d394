//! The run that is looked at: its events made once more from its settings, where that can be.

use std::ops::Range;

use anyhow::{Context, bail};
use event_model::{ProductEvent, Window, parse};
use lake::{Manifest, OutcomeCounts};
use workload::{Fault, Generated, RunTag, Settings, Source, decode_event_id};

use crate::index_set::IndexSet;

/// Indices that a thread takes at a time.
const CHUNK: u64 = 1 << 16;

/// A finished run.
pub(crate) struct RunUnderTest {
    pub(crate) manifest: Manifest,
    tag: RunTag,
    indices: Range<u64>,
    /// Its events; none where another version of the programs made it, whose events this one can't make.
    pub(crate) made: Option<ExpectedRun>,
}

/// The run once more.
pub(crate) struct ExpectedRun {
    source: Source,
    /// Offsets into the run's indices: those of valid events, of refused values, and of values broken on purpose.
    pub(crate) valid: IndexSet,
    pub(crate) invalid: IndexSet,
    pub(crate) corrupt: IndexSet,
}

/// What an id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Another run's or a foreign producer's.
    Foreign,
    /// It carries the run's tag, but no index that the run has made.
    Invented,
    /// The run's.
    Ours(u64),
}

impl RunUnderTest {
    /// Makes all its events, where this version can: where the manifest's settings give its run tag.
    pub(crate) fn new(manifest: Manifest) -> anyhow::Result<Self> {
        if manifest.end.is_none() {
            bail!("run {} is not finished: its manifest is a builder", manifest.run.id);
        }
        let tag: RunTag = manifest.run.tag.parse().context("the manifest's run tag")?;
        let indices = manifest.first_index..manifest.next_index;
        let settings: Option<Settings> = serde_json::from_value(manifest.settings.clone()).ok();
        let source = settings.and_then(|settings| Source::new(settings).ok()).filter(|source| source.run_tag() == tag);
        let made = source.map(|source| ExpectedRun::new(source, &indices));
        Ok(Self { manifest, tag, indices, made })
    }

    /// How many indices there are.
    pub(crate) fn length(&self) -> u64 {
        self.indices.end.saturating_sub(self.indices.start)
    }

    pub(crate) fn tag(&self) -> String {
        self.tag.to_string()
    }

    /// Returns the owner of an event. An index counts from the run's first.
    pub(crate) fn ownership(&self, event: &ProductEvent<'_>) -> Ownership {
        match decode_event_id(event.event_id) {
            Some((tag, index)) if tag == self.tag => self.at(index),
            _ => Ownership::Foreign,
        }
    }

    /// The same for an index in a header or in a quarantine file.
    pub(crate) fn at(&self, index: u64) -> Ownership {
        if self.indices.contains(&index) { Ownership::Ours(index - self.indices.start) } else { Ownership::Invented }
    }

    /// The event that must be there, where it can be made.
    pub(crate) fn event(&self, offset: u64) -> Option<ProductEvent<'_>> {
        Some(self.made.as_ref()?.source.make(self.indices.start + offset).event)
    }

    /// Whether the index may be that of a valid event; not known of a run that can't be made.
    pub(crate) fn may_be_valid(&self, offset: u64) -> bool {
        self.made.as_ref().is_none_or(|made| made.valid.contains(offset))
    }

    /// The same of a refused value.
    pub(crate) fn may_be_refused(&self, offset: u64) -> bool {
        self.made.as_ref().is_none_or(|made| made.invalid.contains(offset))
    }

    /// The same of a value broken on purpose.
    pub(crate) fn may_be_broken(&self, offset: u64) -> bool {
        self.made.as_ref().is_none_or(|made| made.corrupt.contains(offset))
    }

    /// For people.
    pub(crate) fn describe(&self, offset: u64) -> String {
        let index = self.indices.start + offset;
        self.event(offset).map_or_else(
            || format!("index {index}"),
            |event| format!("{} (index {index}, {})", event.event_id, event.event_timestamp),
        )
    }

    /// The segment that an index belongs to.
    pub(crate) fn segment(&self, offset: u64) -> Option<u64> {
        let indices = self.manifest.lake.as_ref()?.segment_indices;
        (self.indices.start + offset).checked_div(indices)
    }
}

impl ExpectedRun {
    /// Notes of each index what becomes of it.
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

    /// As the generator validates.
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

    /// Numbers of indices by outcome.
    pub(crate) fn outcomes(&self) -> OutcomeCounts {
        let [valid, invalid, corrupt] = [&self.valid, &self.invalid, &self.corrupt].map(IndexSet::count);
        OutcomeCounts { valid, invalid, corrupt }
    }
}
