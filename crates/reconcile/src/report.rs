//! Builds the report: pairs of counts that must be equal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use comfy_table::{CellAlignment, Table, presets};
use event_model::Hour;
use lake::{HourCounts, OutcomeCounts, Program, SetHash, raw_key};
use serde::Serialize;

use crate::dead_letters::DeadLetters;
use crate::findings::{EXAMPLES, Findings};
use crate::hourly_sums::{HourlySums, Sum};
use crate::index_set::IndexSet;
use crate::lake_files::Files;
use crate::run_under_test::{ExpectedRun, RunUnderTest};
use crate::table::{GroupOffset, Rows};
use crate::topic::Topic;

/// Data read from the stores. A store that was not read is `None`.
pub(crate) struct Evidence<'a> {
    pub(crate) run: &'a Arc<RunUnderTest>,
    pub(crate) topic: Option<Topic>,
    pub(crate) files: Option<Files>,
    pub(crate) rows: Option<Rows>,
    pub(crate) letters: Option<Arc<DeadLetters>>,
    pub(crate) offsets: Vec<GroupOffset>,
}

/// A comparison of two numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Name of the count.
    pub what: &'static str,
    /// Expected number, from the run's settings, its manifest or another store.
    pub expected: u64,
    /// Number found.
    pub found: u64,
    /// True if more than expected is allowed too: a resumed run may have sent identical copies.
    pub or_more: bool,
    /// True if the check passed.
    pub holds: bool,
    /// Examples of missing, extra, duplicate or changed events, with their positions.
    pub examples: Vec<String>,
}

/// Result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Name of the run.
    pub run: String,
    /// Names of the stores that were read.
    pub stores: Vec<&'static str>,
    /// True if all checks passed.
    pub holds: bool,
    /// The checks.
    pub checks: Vec<Check>,
    /// Remarks on the checks, such as the number of events that retention has removed.
    pub notes: Vec<String>,
}

/// Builds the report.
pub(crate) fn build(evidence: &Evidence<'_>) -> Report {
    let mut builder = ReportBuilder { evidence, checks: Vec::new(), notes: Vec::new() };
    builder.manifest();
    builder.kafka();
    builder.lake();
    builder.table();
    let ReportBuilder { checks, notes, .. } = builder;
    let looked_at =
        [("kafka", evidence.topic.is_some()), ("lake", evidence.files.is_some()), ("table", evidence.rows.is_some())];
    Report {
        run: evidence.run.manifest.run.id.to_string(),
        stores: looked_at.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect(),
        holds: checks.iter().all(|check| check.holds),
        checks,
        notes,
    }
}

struct ReportBuilder<'a> {
    evidence: &'a Evidence<'a>,
    checks: Vec<Check>,
    notes: Vec<String>,
}

impl ReportBuilder<'_> {
    fn put(&mut self, what: &'static str, expected: u64, found: u64, examples: Vec<String>) {
        let holds = expected == found;
        self.checks.push(Check { what, expected, found, or_more: false, holds, examples });
    }

    fn none_of(&mut self, what: &'static str, findings: &Findings) {
        self.put(what, 0, findings.count(), findings.examples());
    }

    /// Checks that each index of `must` is `there` or in one of the `allowed` sets. The missing ones are the examples.
    fn all_of(&mut self, what: &'static str, must: &IndexSet, there: &IndexSet, allowed: &[&IndexSet]) {
        let others: Vec<&IndexSet> = [there].into_iter().chain(allowed.iter().copied()).collect();
        let missing = must.without(&others).count() as u64;
        let examples = must.without(&others).take(EXAMPLES).map(|offset| self.whereabouts(offset)).collect();
        let expected = must.count();
        self.put(what, expected, expected - missing, examples);
    }

    /// Describes an event and the stores that have it.
    fn whereabouts(&self, offset: u64) -> String {
        let Evidence { run, topic, files, rows, .. } = self.evidence;
        let mut text = run.describe(offset);
        let mut position = |name: &str, there: Option<bool>| {
            if let Some(there) = there {
                let _ = write!(text, "; {} {name}", if there { "in" } else { "not in" });
            }
        };
        position(
            "the topic",
            topic.as_ref().map(|topic| topic.store.indices.contains(offset) || topic.corrupt.contains(offset)),
        );
        position(
            "the lake",
            files.as_ref().map(|files| files.raw.indices.contains(offset) || files.quarantine.contains(offset)),
        );
        position("the table", rows.as_ref().map(|rows| rows.store.indices.contains(offset)));
        position(
            "the dead letters",
            topic.as_ref().map(|topic| topic.lettered.contains(offset) || topic.corrupt_lettered.contains(offset)),
        );
        if let (Some(_), Some(segment), true) = (files, run.segment(offset), run.may_be_valid(offset))
            && let Some(event) = run.event(offset)
        {
            let hour = event.event_timestamp.hour();
            let _ = write!(text, "; its file is {}", raw_key(hour, &run.manifest.run.id, segment));
        }
        text
    }

    /// Compares the counts of the manifest with those of the events generated from its settings.
    fn manifest(&mut self) {
        let run = self.evidence.run;
        let OutcomeCounts { valid, invalid, corrupt } = run.manifest.counts.outcomes;
        let Some(made) = run.made.as_ref().map(ExpectedRun::outcomes) else {
            let Program { name, version } = &run.manifest.program;
            self.notes.push(format!(
                "{name} {version} generated the run, and this version cannot generate its events: hours are compared by \
                 counts and sums of hashes, and the stores with each other"
            ));
            return;
        };
        self.put("valid events in the manifest", made.valid, valid, vec![]);
        self.put("invalid events in the manifest", made.invalid, invalid, vec![]);
        self.put("corrupt values in the manifest", made.corrupt, corrupt, vec![]);
    }

    /// Compares the hours of a store with the expected counts and sums of hashes.
    fn hours(&mut self, what: &'static str, expected: &BTreeMap<Hour, Sum>, found: &BTreeMap<Hour, Sum>) {
        let hours: BTreeSet<Hour> = expected.keys().chain(found.keys()).copied().collect();
        let of = |sums: &BTreeMap<Hour, Sum>, hour: &Hour| sums.get(hour).copied().unwrap_or_default();
        let differing = || hours.iter().filter(|hour| of(expected, hour) != of(found, hour));
        let text = |hour: &Hour| match (of(expected, hour).0, of(found, hour).0) {
            (expected, found) if expected == found => format!("{hour}: {found}, with different content"),
            (expected, found) => format!("{hour}: {found}, not {expected}"),
        };
        let examples = differing().take(EXAMPLES).map(text).collect();
        let all = hours.len() as u64;
        let held = all - differing().count() as u64;
        self.put(what, all, held, examples);
    }

    /// Returns a sum of the manifest by hour, without hours whose count is 0.
    fn said(&self, of: impl Fn(&HourCounts) -> Sum) -> BTreeMap<Hour, Sum> {
        let hours = &self.evidence.run.manifest.counts.hours;
        hours.iter().map(|(hour, counts)| (*hour, of(counts))).filter(|(_, sum)| sum.0 > 0).collect()
    }

    fn kafka(&mut self) {
        let Evidence { run, topic: Some(topic), files, .. } = self.evidence else { return };
        let taken: Vec<i32> =
            topic.spans.iter().filter(|(_, span)| span.low > 0).map(|(partition, _)| *partition).collect();
        if taken.is_empty() {
            let said = run.manifest.counts.outcomes;
            match &run.made {
                Some(made) => {
                    self.all_of("valid events in the topic", &made.valid, &topic.store.indices, &[]);
                    self.all_of("corrupt values in the topic", &made.corrupt, &topic.corrupt, &[]);
                }
                None => self.put("corrupt values in the topic", said.corrupt, topic.corrupt.count(), vec![]),
            }
            self.hours("hours of the topic", &self.said(valid), &topic.store.hours.sums());
            self.put("hash of the corrupt values in the topic", 1, u64::from(self.broken_agree(topic)), vec![]);
            let expected = run.manifest.counts.expected_counts().kafka_records.saturating_sub(said.corrupt);
            let found = topic.store.events.load(Ordering::Relaxed);
            let or_more = run.manifest.resumes > 0;
            let holds = found == expected || (or_more && found > expected);
            let what = "records of valid events, with duplicates";
            self.checks.push(Check { what, expected, found, or_more, holds, examples: vec![] });
        } else {
            let gone = run.manifest.counts.outcomes.valid.saturating_sub(topic.store.indices.count());
            self.notes.push(format!(
                "{gone} valid events are missing from the topic: retention deleted records of the partitions {taken:?}"
            ));
        }
        self.none_of("unexpected events in the topic", &topic.store.extra);
        self.none_of("unexpected corrupt values in the topic", &topic.corrupt_extra);
        self.none_of("records with different content", &topic.store.changed);
        self.none_of("records whose key is not their user_id", &topic.other_key);
        if let Some(files) = files {
            self.all_of("events of the topic in the lake", &topic.store.indices, &files.raw.indices, &[]);
        }
    }

    /// Returns true if the sum of hashes of all corrupt values matches the manifest.
    fn broken_agree(&self, topic: &Topic) -> bool {
        let mut expected = SetHash::default();
        let mut found = SetHash::default();
        self.said(|counts| (counts.outcomes.corrupt, counts.corrupt_hash))
            .values()
            .for_each(|(_, sum)| expected.add(*sum));
        topic.corrupt_sum.sums().values().for_each(|(_, sum)| found.add(*sum));
        expected == found
    }

    fn lake(&mut self) {
        let Evidence { run, files: Some(files), topic, .. } = self.evidence else { return };
        if let Some(made) = &run.made {
            self.all_of("valid events in the lake", &made.valid, &files.raw.indices, &[]);
            self.all_of("invalid events in quarantine", &made.invalid, &files.quarantine, &[]);
        }
        self.hours("hours of the raw files", &self.said(valid), &files.raw.hours.sums());
        let refused = self.said(|counts| (counts.outcomes.invalid, counts.invalid_hash));
        self.hours("hours of the quarantine", &refused, &files.quarantine_hours.sums());
        if let Some(part) = &run.manifest.lake {
            self.put("raw files", part.raw.files, files.raw_count, vec![]);
            self.put("quarantine files", part.quarantine.files, files.quarantine_count, vec![]);
        }
        self.none_of("unreadable files", &files.unreadable);
        self.none_of("unexpected events in the lake", &files.raw.extra);
        self.none_of("unexpected events in quarantine", &files.quarantine_extra);
        self.none_of("repeated events in the lake", &files.raw.repeated);
        self.none_of("repeated events in quarantine", &files.quarantine_repeated);
        self.none_of("events in a file of another hour or segment", &files.misplaced);
        self.none_of("rows of the lake with different content", &files.raw.changed);
        let all_there = |topic: &&Topic| topic.spans.values().all(|span| span.low == 0);
        if let Some(topic) = topic.as_ref().filter(all_there) {
            self.all_of("events of the lake in the topic", &files.raw.indices, &topic.store.indices, &[]);
        }
    }

    fn table(&mut self) {
        let Evidence { run, rows: Some(rows), topic, letters, offsets, .. } = self.evidence else { return };
        self.suppressed(offsets);
        let expired = self.expired(rows);
        let lettered = topic.as_ref().map(|topic| &topic.lettered);
        let allowed: Vec<&IndexSet> = expired.iter().chain(lettered).collect();
        match (&run.made, topic) {
            (Some(made), _) => self.all_of("valid events in the table", &made.valid, &rows.store.indices, &allowed),
            // The IDs of rows that retention has removed are not known without the generated events.
            (None, Some(topic)) if !self.retention_took(rows) => {
                self.all_of("events of the topic in the table", &topic.store.indices, &rows.store.indices, &allowed);
            }
            (None, _) => {}
        }
        self.table_hours(rows, topic.as_ref());
        self.none_of("unexpected events in the table", &rows.store.extra);
        self.none_of("repeated events in the table", &rows.store.repeated);
        self.none_of("rows with different content", &rows.store.changed);
        let (Some(topic), Some(letters)) = (topic, letters) else { return };
        let lettered = topic.corrupt_records - topic.corrupt_unlettered.count();
        let examples = topic.corrupt_unlettered.examples();
        self.put("corrupt values in the dead letters", topic.corrupt_records, lettered, examples);
        let neither = [&topic.unlettered];
        let both = || topic.lettered.without(&neither).filter(|offset| rows.store.indices.contains(*offset));
        let examples = both().take(EXAMPLES).map(|offset| self.whereabouts(offset)).collect();
        self.put("rows whose only records are dead letters", 0, both().count() as u64, examples);
        let without_record = letters.without_record(|partition| topic.spans.get(&partition).copied());
        let position = |(partition, offset): &(i32, i64)| format!("partition {partition}, offset {offset}");
        self.put(
            "dead letters without a record",
            0,
            without_record.len() as u64,
            without_record.iter().take(EXAMPLES).map(position).collect(),
        );
        self.none_of("dead letters that differ from their record", &topic.other_bytes);
        self.positions(topic, offsets);
        self.notes.push(format!("{} dead letters of the group, from all runs and producers", letters.count()));
    }

    /// Compares the hours that retention has kept. Events whose records all have dead letters are not expected.
    fn table_hours(&mut self, rows: &Rows, topic: Option<&Topic>) {
        let mut expected = self.said(valid);
        let lettered = topic.into_iter().flat_map(|topic| {
            topic
                .lettered_events
                .iter()
                .filter(|(offset, _)| !topic.unlettered.contains(**offset))
                .map(|(_, event)| event)
        });
        for (hour, (count, sum)) in lettered.flat_map(HourlySums::sums) {
            if let Some(left) = expected.get_mut(&hour) {
                left.0 = left.0.saturating_sub(count);
                left.1.subtract(sum);
            }
        }
        let kept = |hour: &Hour| rows.floor.is_none_or(|floor| hour.start().days() >= floor);
        let mut found = rows.store.hours.sums();
        expected.retain(|hour, sum| kept(hour) && sum.0 > 0);
        found.retain(|hour, _| kept(hour));
        self.hours("hours of the table", &expected, &found);
    }

    /// Returns true if retention has removed any hour of the run from the table.
    fn retention_took(&self, rows: &Rows) -> bool {
        let early = |hour: &Hour| rows.floor.is_some_and(|floor| hour.start().days() < floor);
        self.evidence.run.manifest.counts.hours.keys().any(early)
    }

    /// Returns the valid events without a row of days that retention has removed from the table. Returns `None` if it
    /// has removed none or the run's events cannot be generated.
    fn expired(&mut self, rows: &Rows) -> Option<IndexSet> {
        let run = self.evidence.run;
        let floor = rows.floor.filter(|_| self.retention_took(rows))?;
        let Some(made) = &run.made else {
            self.notes.push("retention has dropped days of the run from the table".to_owned());
            return None;
        };
        let expired = IndexSet::new(run.length());
        for offset in made.valid.without(&[&rows.store.indices]) {
            if run.event(offset).is_some_and(|event| event.event_timestamp.days() < floor) {
                expired.insert(offset);
            }
        }
        self.notes
            .push(format!("{} valid events are of days that retention has dropped from the table", expired.count()));
        Some(expired)
    }

    /// Adds a note on the group's suppressed rows. The run's own suppressed rows are missing in the table, so checks
    /// fail.
    fn suppressed(&mut self, offsets: &[GroupOffset]) {
        let count: i64 = offsets.iter().map(|position| position.suppressed).sum();
        if count > 0 {
            self.notes.push(format!("rows suppressed by triggers: {count}, from all runs and producers"));
        }
    }

    fn positions(&mut self, topic: &Topic, offsets: &[GroupOffset]) {
        let at_end = |position: &&GroupOffset| {
            topic.spans.get(&position.partition).is_some_and(|span| position.next_offset >= span.high)
        };
        let behind = offsets.iter().filter(|position| !at_end(position));
        let text = |position: &GroupOffset| {
            let end = topic.spans.get(&position.partition).map_or(0, |span| span.high);
            format!("partition {} resumes at {}, its end is {end}", position.partition, position.next_offset)
        };
        let examples: Vec<String> = behind.map(text).take(EXAMPLES).collect();
        let found = offsets.iter().filter(at_end).count() as u64;
        self.put("partitions read to their ends", topic.spans.len() as u64, found, examples);
    }
}

/// Returns the count and the sum of hashes of an hour's valid events.
fn valid(counts: &HourCounts) -> Sum {
    (counts.outcomes.valid, counts.valid_hash)
}

impl fmt::Display for Report {
    /// Formats the report as a table of at most 80 columns. The notes and examples may be wider.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_header(["check", "expected", "found", ""]);
        for check in &self.checks {
            let expected = format!("{}{}", check.expected, if check.or_more { "+" } else { "" });
            let result = if check.holds { "" } else { "DIFFERS" };
            table.add_row([check.what, &expected, &check.found.to_string(), result]);
        }
        for column in [1, 2] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(f, "run {}, compared in {}\n{table}", self.run, self.stores.join(", "))?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        for check in self.checks.iter().filter(|check| !check.holds) {
            writeln!(f, "\n{}: expected {}, found {}", check.what, check.expected, check.found)?;
            check.examples.iter().try_for_each(|example| writeln!(f, "  {example}"))?;
        }
        let differ = self.checks.iter().filter(|check| !check.holds).count();
        match differ {
            0 => write!(f, "all events accounted for: {} checks passed", self.checks.len()),
            _ => write!(f, "{differ} of {} checks differ", self.checks.len()),
        }
    }
}
