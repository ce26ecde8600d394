//! The run's files in the lake.

use std::sync::Arc;

use anyhow::Context;
use event_model::read_batch;
use futures_util::{StreamExt, TryStreamExt, stream};
use lake::{EventFile, Key, Lake, LakeError, QUARANTINE_PREFIX, QuarantineFile, RAW_PREFIX};
use pipeline_runtime::lake::in_words;
use tokio::task;

use crate::reconcile::findings::Findings;
use crate::reconcile::hours::Hours;
use crate::reconcile::marks::Marks;
use crate::reconcile::store::Store;
use crate::reconcile::subject::{Subject, Whose};

/// Files that are fetched or read at the same time: one is read while the next one comes.
const AT_ONCE: usize = 2;

/// What they have.
pub(crate) struct Files {
    pub(crate) raw: Store,
    pub(crate) raw_count: u64,
    pub(crate) quarantine_count: u64,
    /// Refused values.
    pub(crate) quarantine: Marks,
    /// What they say.
    pub(crate) quarantine_hours: Hours,
    /// In quarantine more than once.
    pub(crate) quarantine_again: Findings,
    /// In quarantine, though the run has no such refused value.
    pub(crate) quarantine_extra: Findings,
    /// Files that are no such files, or whose rows are not those of their content hash.
    pub(crate) unreadable: Findings,
    /// Rows in a file of another hour or segment.
    pub(crate) misplaced: Findings,
}

/// Reads them all.
pub(crate) async fn read(lake: &Lake, subject: &Arc<Subject>) -> anyhow::Result<Files> {
    let mut keys = Vec::new();
    for prefix in [RAW_PREFIX, QUARANTINE_PREFIX] {
        let objects = lake.list(prefix).await.map_err(in_words)?;
        keys.extend(objects.into_iter().filter_map(|object| object.key.parse::<Key>().ok()));
    }
    let run = subject.manifest.run.id.clone();
    keys.retain(|key| matches!(key, Key::Raw { run: of, .. } | Key::Quarantine { run: of, .. } if *of == run));
    let raw_count = keys.iter().filter(|key| matches!(key, Key::Raw { .. })).count() as u64;
    let files = Arc::new(Files {
        raw: Store::of(subject),
        raw_count,
        quarantine_count: keys.len() as u64 - raw_count,
        quarantine: Marks::new(subject.length()),
        quarantine_hours: Hours::default(),
        quarantine_again: Findings::default(),
        quarantine_extra: Findings::default(),
        unreadable: Findings::default(),
        misplaced: Findings::default(),
    });
    let read = |key: Key| {
        let (lake, subject, files) = (lake.clone(), Arc::clone(subject), Arc::clone(&files));
        async move {
            let name = key.to_string();
            let bytes = lake.get(&name).await.map_err(in_words)?;
            let bytes = bytes.with_context(|| format!("{name} is gone from {}", lake.url()))?;
            task::spawn_blocking(move || files.note(&subject, &key, &name, bytes)).await?;
            anyhow::Ok(())
        }
    };
    stream::iter(keys).map(read).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Arc::into_inner(files).context("a file is still being read, which is a bug")
}

impl Files {
    fn note(&self, subject: &Subject, key: &Key, name: &str, bytes: bytes::Bytes) {
        let noted = match key {
            Key::Raw { .. } => self.note_raw(subject, key, name, bytes),
            _ => self.note_quarantine(subject, key, name, bytes),
        };
        if let Err(error) = noted {
            self.unreadable.note(|| error.to_string());
        }
    }

    fn note_raw(&self, subject: &Subject, key: &Key, name: &str, bytes: bytes::Bytes) -> Result<(), LakeError> {
        let Key::Raw { hour, segment, .. } = key else { return Ok(()) };
        let bad = |error: event_model::ArrowFormError| LakeError::BadFile {
            key: name.to_owned(),
            problem: error.to_string(),
        };
        let mut row = 0_u64;
        for columns in EventFile::open(name, bytes)? {
            let columns = columns?;
            for event in read_batch(&columns).map_err(bad)? {
                let event = event.map_err(bad)?;
                row += 1;
                let at = || format!("row {row} of {name}");
                let Some((offset, _)) = self.raw.see(subject, &event, at) else { continue };
                if event.event_timestamp.hour() != *hour || subject.segment(offset) != Some(*segment) {
                    self.misplaced.note(|| format!("{} at {}", subject.describe(offset), at()));
                }
            }
        }
        Ok(())
    }

    fn note_quarantine(&self, subject: &Subject, key: &Key, name: &str, bytes: bytes::Bytes) -> Result<(), LakeError> {
        let Key::Quarantine { hour, .. } = key else { return Ok(()) };
        for rows in QuarantineFile::open(name, bytes)? {
            for row in rows? {
                match subject.at(row.event_index) {
                    Whose::Ours(offset) if subject.may_be_refused(offset) => {
                        if self.quarantine.mark(offset) {
                            self.quarantine_hours.add_refused(row.event_index, row.due, row.raw.as_bytes());
                        } else {
                            self.quarantine_again.note(|| format!("index {} in {name}", row.event_index));
                        }
                        if row.due.hour() != *hour {
                            self.misplaced.note(|| format!("index {} in {name}", row.event_index));
                        }
                    }
                    _ => self.quarantine_extra.note(|| format!("index {} in {name}", row.event_index)),
                }
            }
        }
        Ok(())
    }
}
