//! A pass over all traces that counts the events of each store and finds contradictions between the stores.

use crate::evidence::Evidence;
use crate::report::Finding;
use crate::trace::{Mark, Trace};

/// Events of the run in one store.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) events: u64,
    /// Events that the store lacks although other stores have them.
    pub(crate) missing: Finding,
}

/// Results of the pass.
#[derive(Default)]
pub(crate) struct Sweep {
    pub(crate) kafka: Held,
    pub(crate) corrupt: Held,
    pub(crate) lake: Held,
    pub(crate) quarantine: Held,
    pub(crate) table: Held,
    pub(crate) letters: Held,
    /// Indices that the stores do not show as exactly one of valid, invalid and corrupt.
    pub(crate) not_one_kind: Finding,
    pub(crate) only_kafka: Finding,
    pub(crate) only_lake: Finding,
    pub(crate) unaccounted: Finding,
    pub(crate) lettered_rows: Finding,
    pub(crate) rows_without_record: Finding,
    pub(crate) twice_in_table: Finding,
    pub(crate) twice_in_lake: Finding,
    pub(crate) kafka_differs: Finding,
    pub(crate) lake_differs: Finding,
    pub(crate) table_differs: Finding,
    /// Number of IDs with a row and at least one record without a dead letter.
    pub(crate) rows: u64,
    /// Number of further records of these IDs without a dead letter.
    pub(crate) repeats: u64,
    /// Number of further records without a dead letter of IDs without a row.
    pub(crate) rowless_repeats: u64,
    /// Number of records without a dead letter of the events whose rows the terms list as suppressed.
    pub(crate) suppressed: u64,
}

impl Sweep {
    pub(crate) fn over(seen: &Evidence) -> Self {
        let mut sweep = Self::default();
        for (position, trace) in seen.ledger.own.iter().enumerate() {
            sweep.own(seen, trace, || seen.ledger.describe(position));
        }
        for (id, trace) in seen.ledger.others.iter().flatten() {
            if trace.table == 0 && seen.terms.suppressed.as_ref().is_some_and(|ids| ids.contains(id)) {
                sweep.suppressed += u64::from(trace.clean());
                continue;
            }
            sweep.other(trace, || format!("id {}: {}", uuid::Uuid::from_u128(*id), seen.ledger.seen(trace)));
        }
        sweep
    }

    fn own(&mut self, seen: &Evidence, trace: &Trace, describe: impl Fn() -> String) {
        let (kafka, lake) = (seen.run.kafka.is_some(), seen.run.lake.is_some());
        let valid = trace.is_valid();
        let corrupt = trace.corrupt > 0 || trace.letters > 0;
        self.kafka.enter(trace.kafka, kafka && valid, &describe);
        self.corrupt.enter(trace.corrupt, kafka && corrupt, &describe);
        self.lake.enter(trace.lake, lake && valid, &describe);
        self.quarantine.enter(trace.quarantine, false, &describe);
        self.table.enter(trace.table, seen.with_table && valid, &describe);
        self.letters.enter(trace.letters, seen.with_table && corrupt, &describe);
        let kinds = trace.kinds();
        if kinds > 1 || (kinds == 0 && kafka && lake) {
            self.not_one_kind.note(&describe);
        }
        if trace.kafka > 0 && trace.lake == 0 {
            self.only_kafka.note(&describe);
        }
        if trace.lake > 0 && trace.kafka == 0 {
            self.only_lake.note(&describe);
        }
        if trace.table > 0 && trace.kafka == 0 {
            self.rows_without_record.note(&describe);
        }
        if trace.lake > 1 || trace.quarantine > 1 {
            self.twice_in_lake.note(&describe);
        }
        if trace.has(Mark::KafkaDiffers) {
            self.kafka_differs.note(&describe);
        }
        if trace.has(Mark::LakeDiffers) {
            self.lake_differs.note(&describe);
        }
        if trace.has(Mark::TableDiffers) {
            self.table_differs.note(&describe);
        }
        self.whoever(trace, describe);
    }

    /// Adds an event of another run or of a foreign producer. These may reuse an ID with another content and may have
    /// rows on several days, so fewer checks apply.
    fn other(&mut self, trace: &Trace, describe: impl Fn() -> String) {
        if trace.has(Mark::TableDiffers) && !trace.has(Mark::KafkaDiffers) {
            self.table_differs.note(&describe);
        }
        self.whoever(trace, describe);
    }

    fn whoever(&mut self, trace: &Trace, describe: impl Fn() -> String) {
        let clean = trace.clean();
        if trace.table > 0 {
            self.rows += u64::from(clean > 0);
            self.repeats += u64::from(clean.saturating_sub(1));
        } else {
            self.rowless_repeats += u64::from(clean.saturating_sub(1));
            for _ in 0..clean {
                self.unaccounted.note(&describe);
            }
        }
        if trace.table > 0 && trace.kafka > 0 && clean == 0 && trace.has(Mark::OpenLetter) {
            self.lettered_rows.note(&describe);
        }
        if trace.has(Mark::TwiceADay) {
            self.twice_in_table.note(&describe);
        }
    }
}

impl Held {
    fn enter(&mut self, times: u8, belongs: bool, describe: impl FnOnce() -> String) {
        if times > 0 {
            self.events += 1;
        } else if belongs {
            self.missing.note(describe);
        }
    }
}
