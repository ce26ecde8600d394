//! Evaluates the equations of the invariants I1 to I6.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::Report;
use crate::database::OffsetRow;
use crate::equation as name;
use crate::event::show_hour;
use crate::evidence::Evidence;
use crate::ledger::Tally;
use crate::report::{Check, EXAMPLES, Expected, Finding};
use crate::sweep::{Held, Sweep};

/// Evaluates all equations that apply to the evidence.
pub(crate) fn evaluate(seen: &Evidence) -> Report {
    let sweep = Sweep::over(seen);
    let mut scales = Scales { seen, sweep: &sweep, checks: Vec::new() };
    scales.every_event_is_where_it_belongs();
    scales.kafka_and_lake_hold_the_same();
    if seen.with_table {
        scales.every_record_is_accounted_for();
    }
    scales.everything_is_there_once();
    scales.contents_are_the_same();
    if seen.with_table {
        scales.offsets_are_at_the_end();
    }
    let run = seen.run;
    let topic = run.kafka.as_ref().map_or("no topic".to_owned(), |kafka| format!("topic {}", kafka.topic));
    let group = seen.terms.group.as_ref().map_or(String::new(), |group| format!(", group {group}"));
    Report::new(format!("run {}, {topic}{group}", run.id), scales.checks)
}

struct Scales<'a> {
    seen: &'a Evidence<'a>,
    sweep: &'a Sweep,
    checks: Vec<Check>,
}

impl Scales<'_> {
    fn put(
        &mut self,
        invariant: &'static str,
        name: &'static str,
        expected: Expected,
        found: u64,
        examples: &[String],
    ) {
        let examples = examples.iter().take(EXAMPLES).cloned().collect();
        self.checks.push(Check { invariant, name, expected, found, examples });
    }

    fn none_of(&mut self, invariant: &'static str, name: &'static str, finding: &Finding) {
        self.put(invariant, name, Expected::Exactly(0), finding.count, &finding.examples);
    }

    /// Adds the number of events in a store. The examples are its missing events or, if it lacks none, the indices that
    /// are not of exactly one kind.
    fn held(&mut self, name: &'static str, expected: Expected, held: &Held) {
        let examples = if held.missing.count > 0 { &held.missing } else { &self.sweep.not_one_kind };
        self.put("I1", name, expected, held.events, &examples.examples);
    }

    fn every_event_is_where_it_belongs(&mut self) {
        let (run, ledger, sweep) = (self.seen.run, &self.seen.ledger, self.sweep);
        let (sums, wrong) = run.wrong_sums();
        self.put("I1", name::MANIFEST, Expected::Exactly(sums), sums - wrong.len() as u64, &wrong);
        if run.kafka.is_some() && run.lake.is_some() {
            let indices = run.generated();
            let sound = indices - sweep.not_one_kind.count;
            self.put("I1", name::ONE_KIND, Expected::Exactly(indices), sound, &sweep.not_one_kind.examples);
        }
        self.none_of("I1", name::STRAYS, &ledger.strays);
        self.kafka_holds_its_part();
        self.lake_holds_its_part();
        if self.seen.with_table {
            self.table_holds_its_part();
        }
    }

    fn kafka_holds_its_part(&mut self) {
        let (run, ledger, sweep) = (self.seen.run, &self.seen.ledger, self.sweep);
        let Some(kafka) = &run.kafka else {
            return;
        };
        let copies = self.seen.terms.copies;
        let or_more = |n| if copies { Expected::AtLeast(n) } else { Expected::Exactly(n) };
        self.held(name::KAFKA_EVENTS, Expected::Exactly(run.valid), &sweep.kafka);
        self.put("I1", name::KAFKA_RECORDS, or_more(run.valid + run.duplicate), ledger.valid_records, &[]);
        self.held(name::KAFKA_CORRUPT, Expected::Exactly(run.corrupt), &sweep.corrupt);
        let records = ledger.valid_records + ledger.corrupt_records;
        self.put("I1", name::KAFKA_ACKNOWLEDGED, or_more(kafka.records), records, &[]);
    }

    fn lake_holds_its_part(&mut self) {
        let (run, ledger, sweep) = (self.seen.run, &self.seen.ledger, self.sweep);
        let Some(lake) = &run.lake else {
            return;
        };
        let files = self.seen.files;
        self.held(name::LAKE_EVENTS, Expected::Exactly(run.valid), &sweep.lake);
        self.put("I1", name::LAKE_FILES, Expected::Exactly(lake.raw.0), files.raw, &[]);
        self.held(name::QUARANTINE_EVENTS, Expected::Exactly(run.invalid), &sweep.quarantine);
        self.put("I1", name::QUARANTINE_FILES, Expected::Exactly(lake.quarantine.0), files.quarantine, &[]);
        self.none_of("I1", name::UNREADABLE_FILES, &ledger.unreadable);
        self.none_of("I1", name::MISPLACED, &ledger.misplaced);
        let valid = run.hours.iter().map(|(hour, counts)| (*hour, counts.0)).collect();
        self.none_of("I1", name::LAKE_COUNTS, &other_counts(&valid, Some(&run.event_types), &ledger.lake_tally));
        let invalid = run.hours.iter().map(|(hour, counts)| (*hour, counts.1)).collect();
        self.none_of("I1", name::QUARANTINE_COUNTS, &other_counts(&invalid, None, &ledger.quarantine_tally));
    }

    fn table_holds_its_part(&mut self) {
        let (run, ledger, sweep) = (self.seen.run, &self.seen.ledger, self.sweep);
        let rowless = self.rowless();
        let expected = match rowless {
            0 => Expected::Exactly(run.valid),
            _ => Expected::AtLeast(run.valid.saturating_sub(rowless)),
        };
        self.held(name::TABLE_EVENTS, expected, &sweep.table);
        if rowless == 0 {
            let valid = run.hours.iter().map(|(hour, counts)| (*hour, counts.0)).collect();
            self.none_of("I1", name::TABLE_COUNTS, &other_counts(&valid, Some(&run.event_types), &ledger.table_tally));
        }
        self.held(name::DEAD_LETTERS, Expected::Exactly(run.corrupt), &sweep.letters);
    }

    fn kafka_and_lake_hold_the_same(&mut self) {
        if self.seen.run.kafka.is_some() && self.seen.run.lake.is_some() {
            self.none_of("I2", name::ONLY_KAFKA, &self.sweep.only_kafka);
            self.none_of("I2", name::ONLY_LAKE, &self.sweep.only_lake);
        }
    }

    fn every_record_is_accounted_for(&mut self) {
        let (ledger, sweep) = (&self.seen.ledger, self.sweep);
        let expected = match self.rowless() {
            0 => Expected::Exactly(0),
            rowless => Expected::AtMost(rowless + self.suppressed_repeats()),
        };
        let unaccounted = [ledger.unaccounted.examples.as_slice(), &sweep.unaccounted.examples].concat();
        let count = ledger.unaccounted.count + sweep.unaccounted.count;
        self.put("I3", name::UNACCOUNTED, expected, count, &unaccounted);
        let mut unmet = Finding::default();
        for (place, letter) in ledger.letters.unmet() {
            // Retention may have removed the record of an old dead letter.
            if self.seen.spans.get(&place.partition()).is_none_or(|span| place.offset() >= span.low) {
                unmet.note(|| format!("{place}: {}", letter.reason));
            }
        }
        self.none_of("I3", name::LETTERS_WITHOUT_RECORD, &unmet);
        self.none_of("I3", name::LETTERED_ROWS, &sweep.lettered_rows);
        self.none_of("I3", name::ROWS_WITHOUT_RECORD, &sweep.rows_without_record);
        let complete = self.seen.spans.values().all(|span| span.low == 0);
        if self.seen.terms.whole_topic && complete {
            self.counts_are_true();
        }
    }

    fn counts_are_true(&mut self) {
        let (ledger, sweep) = (&self.seen.ledger, self.sweep);
        let scanned = &ledger.scanned;
        let partitions: BTreeSet<i32> = scanned.keys().chain(self.seen.offsets.keys()).copied().collect();
        let mut otherwise = Finding::default();
        for partition in partitions {
            let there = scanned.get(&partition).copied().unwrap_or_default();
            let counted = self.seen.offsets.get(&partition).map_or(0, |row| row.records.unsigned_abs());
            if there != counted {
                otherwise.note(|| format!("partition {partition} has {there} records, but {counted} were counted"));
            }
        }
        let records = self.counted(|row| row.records);
        self.put("I3", name::COUNTED_RECORDS, Expected::Exactly(scanned.values().sum()), records, &otherwise.examples);
        let sum =
            self.counted(|row| row.rows_inserted + row.duplicates + row.dead_letters + row.expired + row.suppressed);
        self.put("I3", name::COUNTED_SUM, Expected::Exactly(records), sum, &[]);
        let (rows, duplicates) = (self.counted(|row| row.rows_inserted), self.counted(|row| row.duplicates));
        if self.seen.terms.suppressed.is_some() {
            let suppressed = self.counted(|row| row.suppressed);
            self.put("I3", name::COUNTED_SUPPRESSED, Expected::Exactly(sweep.suppressed), suppressed, &[]);
        }
        // The repeat of a suppressed record is counted as suppressed or as a duplicate, depending on the batch that has
        // it. Only an upper bound of the duplicates is known. The counted sum and the counted rows are exact, so the
        // sum of suppressed rows and duplicates is exact too.
        let or_suppressed = |repeats| match self.suppressed_at_will() {
            0 => Expected::Exactly(repeats),
            _ => Expected::AtMost(repeats + sweep.rowless_repeats),
        };
        if self.seen.terms.rebuilt {
            let both = or_suppressed(sweep.rows + sweep.repeats);
            self.put("I3", name::COUNTED_ROWS_AND_DUPLICATES, both, rows + duplicates, &[]);
        } else {
            let repeats = or_suppressed(sweep.repeats);
            self.put("I3", name::COUNTED_ROWS, Expected::Exactly(sweep.rows), rows, &[]);
            self.put("I3", name::COUNTED_DUPLICATES, repeats, duplicates, &[]);
        }
        let letters = self.counted(|row| row.dead_letters);
        self.put("I3", name::COUNTED_LETTERS, Expected::Exactly(ledger.letters.count()), letters, &[]);
    }

    fn everything_is_there_once(&mut self) {
        if self.seen.run.lake.is_some() {
            self.none_of("I4", name::LAKE_ONCE, &self.sweep.twice_in_lake);
        }
        if self.seen.with_table {
            self.none_of("I4", name::TABLE_ONCE, &self.sweep.twice_in_table);
            let mut repeated = Finding::default();
            for (place, copies) in self.seen.ledger.letters.repeated() {
                repeated.note(|| format!("{place}: {copies} dead letters"));
            }
            self.none_of("I4", name::LETTER_ONCE, &repeated);
        }
    }

    fn contents_are_the_same(&mut self) {
        let (run, ledger, sweep) = (self.seen.run, &self.seen.ledger, self.sweep);
        if run.kafka.is_some() {
            self.none_of("I5", name::KAFKA_CONTENT, &sweep.kafka_differs);
            self.none_of("I5", name::KEYS, &ledger.foreign_keys);
        }
        if run.kafka.is_some() && run.lake.is_some() {
            self.none_of("I5", name::LAKE_CONTENT, &sweep.lake_differs);
        }
        if self.seen.with_table {
            self.none_of("I5", name::TABLE_CONTENT, &sweep.table_differs);
            self.none_of("I5", name::LETTER_CONTENT, &ledger.letters_that_differ);
        }
        self.contents_are_the_manifests();
    }

    fn contents_are_the_manifests(&mut self) {
        let (run, ledger) = (self.seen.run, &self.seen.ledger);
        let valid: BTreeMap<i64, u128> = run.hashes.iter().map(|(hour, sums)| (*hour, sums.0)).collect();
        if run.kafka.is_some() {
            self.none_of("I5", name::KAFKA_HASHES, &other_hashes(&valid, &ledger.kafka_tally));
            let claimed = run.hashes.values().fold(0_u128, |sum, sums| sum.wrapping_add(sums.2));
            let mut other = Finding::default();
            if claimed != ledger.corrupt_hash {
                other.note(|| format!("{claimed:032x} in the manifest, {:032x} found", ledger.corrupt_hash));
            }
            self.none_of("I5", name::CORRUPT_HASH, &other);
        }
        if run.lake.is_some() {
            let invalid = run.hashes.iter().map(|(hour, sums)| (*hour, sums.1)).collect();
            self.none_of("I5", name::LAKE_HASHES, &other_hashes(&valid, &ledger.lake_tally));
            self.none_of("I5", name::QUARANTINE_HASHES, &other_hashes(&invalid, &ledger.quarantine_tally));
        }
        if self.seen.with_table && self.rowless() == 0 {
            self.none_of("I5", name::TABLE_HASHES, &other_hashes(&valid, &ledger.table_tally));
        }
    }

    fn offsets_are_at_the_end(&mut self) {
        let mut elsewhere = Finding::default();
        for (partition, span) in &self.seen.spans {
            match self.seen.offsets.get(partition) {
                Some(row) if row.next_offset == span.end => {}
                Some(row) => elsewhere
                    .note(|| format!("partition {partition}: next_offset {}, end {}", row.next_offset, span.end)),
                None => elsewhere.note(|| format!("partition {partition}: no next_offset, end {}", span.end)),
            }
        }
        let partitions = self.seen.spans.len() as u64;
        let found = partitions - elsewhere.count;
        self.put("I6", name::AT_THE_END, Expected::Exactly(partitions), found, &elsewhere.examples);
    }

    /// Returns the number of expired records and of suppressed ones that the terms do not list. They have no row, and
    /// nothing shows which records they are.
    fn rowless(&self) -> u64 {
        self.counted(|row| row.expired) + self.suppressed_at_will()
    }

    /// Returns the number of suppressed records, or 0 if the terms list the suppressed events.
    fn suppressed_at_will(&self) -> u64 {
        if self.seen.terms.suppressed.is_some() { 0 } else { self.counted(|row| row.suppressed) }
    }

    /// Returns the number of repeated records of events without a row. Each may be counted as a duplicate if the first
    /// record of its event was suppressed.
    fn suppressed_repeats(&self) -> u64 {
        if self.suppressed_at_will() > 0 { self.sweep.rowless_repeats } else { 0 }
    }

    /// Returns the sum of a count of the group over all partitions.
    fn counted(&self, count: impl Fn(&OffsetRow) -> i64) -> u64 {
        self.seen.offsets.values().map(|row| count(row).unsigned_abs()).sum()
    }
}

/// Returns the hours and the event types whose count differs from the manifest's.
fn other_counts(hours: &BTreeMap<i64, u64>, types: Option<&BTreeMap<String, u64>>, tally: &Tally) -> Finding {
    let mut finding = Finding::default();
    differing(hours, &tally.hours, |hour| show_hour(*hour), &mut finding);
    if let Some(types) = types {
        differing(types, &tally.types, Clone::clone, &mut finding);
    }
    finding
}

/// Returns the hours whose sum of hashes differs from the manifest's.
fn other_hashes(claimed: &BTreeMap<i64, u128>, tally: &Tally) -> Finding {
    let mut finding = Finding::default();
    differing(claimed, &tally.hashes, |hour| show_hour(*hour), &mut finding);
    finding
}

fn differing<K: Ord + std::hash::Hash, N: Copy + Default + PartialEq + std::fmt::Display>(
    claimed: &BTreeMap<K, N>,
    counted: &HashMap<K, N>,
    show: impl Fn(&K) -> String,
    finding: &mut Finding,
) {
    let keys: BTreeSet<&K> = claimed.keys().chain(counted.keys()).collect();
    for key in keys {
        let (claim, count) = (claimed.get(key).copied(), counted.get(key).copied());
        let (claim, count) = (claim.unwrap_or_default(), count.unwrap_or_default());
        if claim != count {
            finding.note(|| format!("{}: {claim} in the manifest, {count} counted", show(key)));
        }
    }
}
