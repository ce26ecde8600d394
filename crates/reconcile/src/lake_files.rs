//! Reads the run's files in the lake.

use std::sync::Arc;

use anyhow::Context;
use event_model::read_batch;
use futures_util::{StreamExt, TryStreamExt, stream};
use lake::{EventFile, Key, Lake, LakeError, QUARANTINE_PREFIX, QuarantineFile, RAW_PREFIX};
use pipeline_runtime::lake::with_hint;
use tokio::task;

use crate::findings::Findings;
use crate::hourly_sums::HourlySums;
use crate::index_set::IndexSet;
use crate::run_under_test::{Ownership, RunUnderTest};
use crate::store::StoreContents;

/// Maximum number of files in flight: one is read while the next one is downloaded.
const AT_ONCE: usize = 2;

/// Contents of the run's files.
pub(crate) struct Files {
    pub(crate) raw: StoreContents,
    pub(crate) raw_count: u64,
    pub(crate) quarantine_count: u64,
    /// Rejected values.
    pub(crate) quarantine: IndexSet,
    /// Their counts and hashes, without duplicates.
    pub(crate) quarantine_hours: HourlySums,
    /// Further rows of a rejected value in quarantine.
    pub(crate) quarantine_repeated: Findings,
    /// Rows in quarantine of values that the run did not reject.
    pub(crate) quarantine_extra: Findings,
    /// Files that are not valid Parquet files of their kind, or whose rows do not match their content hash.
    pub(crate) unreadable: Findings,
    /// Rows in a file of another hour or, for raw files, of another segment.
    pub(crate) misplaced: Findings,
}

/// Reads all files of the run.
pub(crate) async fn read(lake: &Lake, run: &Arc<RunUnderTest>) -> anyhow::Result<Files> {
    let mut keys = Vec::new();
    for prefix in [RAW_PREFIX, QUARANTINE_PREFIX] {
        let objects = lake.list(prefix).await.map_err(with_hint)?;
        keys.extend(objects.into_iter().filter_map(|object| object.key.parse::<Key>().ok()));
    }
    let id = run.manifest.run.id.clone();
    keys.retain(|key| matches!(key, Key::Raw { run: of, .. } | Key::Quarantine { run: of, .. } if *of == id));
    let raw_count = keys.iter().filter(|key| matches!(key, Key::Raw { .. })).count() as u64;
    let files = Arc::new(Files {
        raw: StoreContents::of(run),
        raw_count,
        quarantine_count: keys.len() as u64 - raw_count,
        quarantine: IndexSet::new(run.length()),
        quarantine_hours: HourlySums::default(),
        quarantine_repeated: Findings::default(),
        quarantine_extra: Findings::default(),
        unreadable: Findings::default(),
        misplaced: Findings::default(),
    });
    let read = |key: Key| {
        let (lake, run, files) = (lake.clone(), Arc::clone(run), Arc::clone(&files));
        async move {
            let name = key.to_string();
            let bytes = lake.get(&name).await.map_err(with_hint)?;
            let bytes = bytes
                .with_context(|| format!("cannot read {name}: deleted from {} after it was listed", lake.url()))?;
            task::spawn_blocking(move || files.add(&run, &key, &name, bytes)).await?;
            anyhow::Ok(())
        }
    };
    stream::iter(keys).map(read).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Arc::into_inner(files).context("a file is still being read; report this bug")
}

impl Files {
    fn add(&self, run: &RunUnderTest, key: &Key, name: &str, bytes: bytes::Bytes) {
        let noted = match key {
            Key::Raw { .. } => self.note_raw(run, key, name, bytes),
            _ => self.note_quarantine(run, key, name, bytes),
        };
        if let Err(error) = noted {
            self.unreadable.add(|| error.to_string());
        }
    }

    fn note_raw(&self, run: &RunUnderTest, key: &Key, name: &str, bytes: bytes::Bytes) -> Result<(), LakeError> {
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
                let Some((offset, _)) = self.raw.observe(run, &event, at) else { continue };
                if event.event_timestamp.hour() != *hour || run.segment(offset) != Some(*segment) {
                    self.misplaced.add(|| format!("{} at {}", run.describe(offset), at()));
                }
            }
        }
        Ok(())
    }

    fn note_quarantine(&self, run: &RunUnderTest, key: &Key, name: &str, bytes: bytes::Bytes) -> Result<(), LakeError> {
        let Key::Quarantine { hour, .. } = key else { return Ok(()) };
        for rows in QuarantineFile::open(name, bytes)? {
            for row in rows? {
                match run.at(row.event_index) {
                    Ownership::Ours(offset) if run.may_be_refused(offset) => {
                        if self.quarantine.insert(offset) {
                            self.quarantine_hours.add_rejected(row.event_index, row.due, row.raw.as_bytes());
                        } else {
                            self.quarantine_repeated.add(|| format!("index {} in {name}", row.event_index));
                        }
                        if row.due.hour() != *hour {
                            self.misplaced.add(|| format!("index {} in {name}", row.event_index));
                        }
                    }
                    _ => self.quarantine_extra.add(|| format!("index {} in {name}", row.event_index)),
                }
            }
        }
        Ok(())
    }
}
