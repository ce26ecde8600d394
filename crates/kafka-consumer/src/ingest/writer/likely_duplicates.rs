//! Likely duplicates of a batch: inserts the new rows among them and counts the others.

use std::collections::BTreeMap;

use tokio_postgres::{Statement, Transaction};

use crate::ingest::batch::closed::Batch;
use crate::ingest::batch::rows::Row;
use crate::ingest::offsets::corrections::{CountCorrections, RowState};
use crate::ingest::writer::attempt::AttemptError;
use crate::ingest::writer::copy::{bytes_of, copy};
use crate::ingest::writer::duplicate_lookup::{Lookup, split_repeats};

/// Inserts the new rows among a batch's likely duplicates. Called after the other rows were inserted, so that
/// duplicates within the batch are found. Returns each partition's corrections.
pub(crate) async fn insert(
    transaction: &Transaction<'_>,
    statement: &Statement,
    lookup: &Lookup,
    batch: &Batch,
) -> Result<BTreeMap<i32, CountCorrections>, AttemptError> {
    let mut corrections = BTreeMap::<i32, CountCorrections>::new();
    let (mut partitions, mut rows) = (Vec::new(), Vec::new());
    for (partition, part) in &batch.parts {
        for index in &part.likely_duplicates {
            partitions.push(*partition);
            rows.push(part.rows.row(*index));
        }
    }
    while !rows.is_empty() {
        let known = lookup.find(transaction, &rows).await?;
        for (partition, known) in partitions.iter().zip(&known) {
            corrections.entry(*partition).or_default().add(*known);
        }
        let is_new = |nth: &usize| known[*nth] == RowState::New;
        let left: Vec<usize> = (0..rows.len()).filter(is_new).collect();
        // Repeats of an id are looked up again once its first row is inserted.
        let (first, later) = split_repeats(&rows, &left);
        let fresh: Vec<Row<'_>> = first.iter().map(|nth| rows[*nth]).collect();
        if copy(transaction, statement, bytes_of(&fresh)).await? < fresh.len() as u64 {
            return Err(AttemptError::Suppressed);
        }
        partitions = later.iter().map(|nth| partitions[*nth]).collect();
        rows = later.iter().map(|nth| rows[*nth]).collect();
    }
    Ok(corrections)
}
