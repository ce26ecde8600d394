//! The run that is looked at: its events made once more from its settings.

use std::ops::Range;

use anyhow::{Context, bail};
use event_model::{ProductEvent, Window, parse};
use event_source::{Fault, Generated, RunTag, Settings, Source, origin};
use lake::{Manifest, OutcomeCounts};

use super::marks::Marks;

/// Indices that a thread takes at a time.
const CHUNK: u64 = 1 << 16;

/// A finished run.
pub(super) struct Subject {
    pub(super) manifest: Manifest,
    source: Source,
    tag: RunTag,
    indices: Range<u64>,
    /// Offsets into the run's indices: those of valid events, of refused values, and of values broken on purpose.
    pub(super) valid: Marks,
    pub(super) invalid: Marks,
    pub(super) corrupt: Marks,
}

/// What an id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Another run's or a foreign producer's.
    Foreign,
    /// It carries the run's tag, but no index that the run has made.
    Invented,
    /// The run's.
    Ours(u64),
}

impl Subject {
    /// Makes all its events. Fails where the manifest's settings are not those of its run tag: then another version of
    /// the programs made the run, whose events this one can't make.
    pub(super) fn new(manifest: Manifest) -> anyhow::Result<Self> {
        if manifest.end.is_none() {
            bail!("run {} is not finished: its manifest is a draft", manifest.run.id);
        }
        let settings: Settings = serde_json::from_value(manifest.settings.clone())
            .context("the manifest's settings are of another version")?;
        let source = Source::new(settings).context("the manifest's settings are of another version")?;
        let tag = source.run_tag();
        if tag.to_string() != manifest.run.tag {
            bail!(
                "the settings of run {} give the tag {tag}, not {}: {} {} made it, and its events differ from this version's",
                manifest.run.id,
                manifest.run.tag,
                manifest.program.name,
                manifest.program.version
            );
        }
        let indices = manifest.first_index..manifest.next_index;
        let length = indices.end.saturating_sub(indices.start);
        let [valid, invalid, corrupt] = [(); 3].map(|()| Marks::new(length));
        let subject = Self { manifest, source, tag, indices, valid, invalid, corrupt };
        subject.sort_out();
        Ok(subject)
    }

    /// Notes of each index what becomes of it.
    fn sort_out(&self) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut first = self.indices.start + thread * CHUNK;
                    while first < self.indices.end {
                        for index in first..self.indices.end.min(first + CHUNK) {
                            self.outcome(&self.source.make(index)).mark(index - self.indices.start);
                        }
                        first += threads * CHUNK;
                    }
                });
            }
        });
    }

    /// As the generator judges.
    fn outcome(&self, generated: &Generated<'_>) -> &Marks {
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
    pub(super) fn outcomes(&self) -> OutcomeCounts {
        let [valid, invalid, corrupt] = [&self.valid, &self.invalid, &self.corrupt].map(Marks::count);
        OutcomeCounts { valid, invalid, corrupt }
    }

    /// How many indices there are.
    pub(super) fn length(&self) -> u64 {
        self.indices.end.saturating_sub(self.indices.start)
    }

    pub(super) fn tag(&self) -> String {
        self.tag.to_string()
    }

    /// Whose event it is; an index counts from the run's first.
    pub(super) fn whose(&self, event: &ProductEvent<'_>) -> Whose {
        match origin(event.event_id) {
            Some((tag, index)) if tag == self.tag => self.at(index),
            _ => Whose::Foreign,
        }
    }

    /// The same for an index in a header or in a quarantine file.
    pub(super) fn at(&self, index: u64) -> Whose {
        if self.indices.contains(&index) { Whose::Ours(index - self.indices.start) } else { Whose::Invented }
    }

    /// The event that must be there.
    pub(super) fn event(&self, offset: u64) -> ProductEvent<'_> {
        self.source.make(self.indices.start + offset).event
    }

    /// For people.
    pub(super) fn describe(&self, offset: u64) -> String {
        let generated = self.source.make(self.indices.start + offset);
        format!("{} (index {}, {})", generated.event.event_id, generated.index, generated.event.event_timestamp)
    }

    /// The segment that an index belongs to.
    pub(super) fn segment(&self, offset: u64) -> Option<u64> {
        let indices = self.manifest.lake.as_ref()?.segment_indices;
        (self.indices.start + offset).checked_div(indices)
    }
}
