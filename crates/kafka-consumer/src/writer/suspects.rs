//! The few rows of a batch whose `event_id` was seen recently: the new ones go in, the others are counted.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Statement, Transaction};
use uuid::Uuid;

use super::lookup::{Known, Lookup};
use super::moves::Corrections;
use super::transaction::{Attempt, bytes_of, copy};
use crate::batch::Batch;
use crate::rows::Row;

/// Inserts the new ones of a batch's likely duplicates, once its other rows are in. Returns each partition's corrections.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    statement: &Statement,
    lookup: &Lookup,
    batch: &Batch,
) -> Result<BTreeMap<i32, Corrections>, Attempt> {
    let mut corrections = BTreeMap::<i32, Corrections>::new();
    let (mut partitions, mut rows) = (Vec::new(), Vec::new());
    for (partition, part) in &batch.parts {
        for index in &part.suspects {
            partitions.push(*partition);
            rows.push(part.rows.row(*index));
        }
    }
    while !rows.is_empty() {
        let known = lookup.find(transaction, &rows).await?;
        for (partition, known) in partitions.iter().zip(&known) {
            corrections.entry(*partition).or_default().add(*known);
        }
        let is_new = |nth: &usize| known[*nth] == Known::New;
        let left: Vec<usize> = (0..rows.len()).filter(is_new).collect();
        // The others of the same id are looked up again, when the first one is in.
        let (first, later) = firsts(&rows, &left);
        let fresh: Vec<Row<'_>> = first.iter().map(|nth| rows[*nth]).collect();
        if copy(transaction, statement, bytes_of(&fresh)).await? < fresh.len() as u64 {
            return Err(Attempt::Suppressed);
        }
        partitions = later.iter().map(|nth| partitions[*nth]).collect();
        rows = later.iter().map(|nth| rows[*nth]).collect();
    }
    Ok(corrections)
}

/// Splits rows, given by their places, into the first of each id and the later ones.
pub(super) fn firsts(rows: &[Row<'_>], places: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut seen = BTreeSet::<Uuid>::new();
    places.iter().partition(|place| seen.insert(rows[**place].id))
}
