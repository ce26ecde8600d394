//! Formats the status for a terminal, at most 80 columns wide.

use std::fmt;

use comfy_table::{CellAlignment, Table};
use pipeline_runtime::http::HttpAddr;
use pipeline_runtime::units::grouped;

use crate::commands::status::report::{PartitionStatus, Status};
use crate::observability::history::Quantiles;

const HEADER: [&str; 7] = ["part", "next offset", "lag", "rows", "duplicates", "dead", "commit"];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, topic, partitions, .. } = self;
        if partitions.is_empty() {
            return writeln!(f, "group {group} has not read {topic} yet");
        }
        writeln!(f, "group {group}, topic {topic}\n{}", table(partitions))?;
        let differing: i64 = partitions.iter().map(|one| one.duplicates_differing).sum();
        if differing > 0 {
            writeln!(f, "duplicates with different content: {differing}")?;
        }
        let expired: i64 = partitions.iter().map(|one| one.expired).sum();
        if expired > 0 {
            writeln!(f, "expired by retention: {expired}")?;
        }
        let suppressed: i64 = partitions.iter().map(|one| one.suppressed).sum();
        if suppressed > 0 {
            writeln!(f, "suppressed by triggers: {suppressed}")?;
        }
        self.letters(f)?;
        self.open_transactions(f)?;
        self.old_snapshots(f)?;
        if let Some(error) = &self.kafka_error {
            writeln!(f, "end and lag unknown: {error}")?;
        }
        self.latency(f)
    }
}

impl Status {
    fn open_transactions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.partitions {
            let (Some(since), Some(stable)) = (one.open_transaction_since, one.last_stable_offset) else { continue };
            let second = since.to_string();
            let second = second.split('.').next().unwrap_or_default().trim_end_matches('Z');
            writeln!(f, "partition {}: held back from offset {stable}", one.partition)?;
            writeln!(f, "    by an open transaction since {second}Z")?;
        }
        Ok(())
    }

    fn old_snapshots(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.old_snapshots {
            writeln!(f, "old snapshot for {}, held by {}\n    {}", one.age(), one.kind(), one.name())?;
        }
        Ok(())
    }

    fn letters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.dead_letters.is_empty() {
            writeln!(f, "open dead letters by reason:")?;
        }
        self.dead_letters.iter().try_for_each(|one| writeln!(f, "{:>12}  {}", one.count, one.reason_code))
    }

    fn latency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.latency, &self.http_addr) {
            (Some(latency), _) => {
                writeln!(f, "latency in the last minute, from {}:", self.http_addr)?;
                quantiles(f, "event to committed row", latency.event_latency)?;
                quantiles(f, "record to committed row", latency.ingest_latency)
            }
            (None, HttpAddr::Off) => Ok(()),
            (None, HttpAddr::At(address)) => {
                writeln!(f, "latency unknown: no consumer of this group answers at {address}")
            }
        }
    }
}

fn quantiles(f: &mut fmt::Formatter<'_>, name: &str, quantiles: Quantiles) -> fmt::Result {
    match (quantiles.p50, quantiles.p99) {
        (Some(p50), Some(p99)) => writeln!(f, "  {name:<24} p50 {}, p99 {}", seconds(p50), seconds(p99)),
        _ => writeln!(f, "  {name:<24} no records"),
    }
}

fn table(partitions: &[PartitionStatus]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(HEADER);
    for one in partitions {
        let known = |number: Option<i64>| number.map_or_else(|| "?".to_owned(), grouped);
        table.add_row([
            one.partition.to_string(),
            grouped(one.next_offset),
            if one.retired { "retired".to_owned() } else { known(one.lag) },
            grouped(one.rows),
            grouped(one.duplicates),
            grouped(one.dead_letters),
            format!("{} ago", seconds(one.last_commit_seconds_ago)),
        ]);
    }
    table.add_row(total(partitions));
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
        column.set_padding((0, 0));
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((1, 0));
    }
    table
}

fn total(partitions: &[PartitionStatus]) -> [String; 7] {
    let sum = |of: fn(&PartitionStatus) -> i64| grouped(partitions.iter().map(of).sum::<i64>());
    let lag: Option<i64> = partitions.iter().filter(|one| !one.retired).map(|one| one.lag).sum();
    let latest = partitions.iter().map(|one| one.last_commit_seconds_ago).fold(f64::INFINITY, f64::min);
    [
        "all".to_owned(),
        String::new(),
        lag.map_or_else(|| "?".to_owned(), grouped),
        sum(|one| one.rows),
        sum(|one| one.duplicates),
        sum(|one| one.dead_letters),
        format!("{} ago", seconds(latest)),
    ]
}

/// Formats seconds with one unit: `85ms`, `3.2s`, `4m`, `7h`, `12d`.
fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0}ms", s * 1e3),
        s if s < 60.0 => format!("{s:.1}s"),
        s if s < 3_600.0 => format!("{:.0}m", (s / 60.0).floor()),
        s if s < 86_400.0 => format!("{:.0}h", (s / 3_600.0).floor()),
        s => format!("{:.0}d", (s / 86_400.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use event_model::Timestamp;

    use super::*;
    use crate::postgres::old_snapshots::{HolderKind, OldSnapshot};

    #[test]
    fn large_numbers_fit_80_columns() {
        let large = PartitionStatus {
            partition: 999,
            retired: false,
            next_offset: 12_345_678_901,
            end: Some(12_345_678_901),
            lag: Some(123_456_789),
            last_stable_offset: Some(12_345_678_900),
            open_transaction_since: Some(Timestamp::from_micros(1_000_000)),
            last_commit_seconds_ago: 0.123,
            records: 12_345_678_901,
            rows: 1_234_567_890,
            duplicates: 12_345_678,
            duplicates_differing: 17,
            dead_letters: 123_456,
            expired: 0,
            suppressed: 7,
        };
        let retired = PartitionStatus { retired: true, lag: None, rows: 0, ..large };
        let status = Status {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            partitions: vec![large, large, large, retired],
            dead_letters: Vec::new(),
            old_snapshots: vec![OldSnapshot {
                kind: HolderKind::Session,
                holder: "4194304".to_owned(),
                application: Some("x".repeat(60)),
                age_seconds: Some(12_345_678),
                age_transactions: 7,
            }],
            kafka_error: None,
            latency: None,
            http_addr: HttpAddr::At("127.0.0.1:9464".to_owned()),
        };
        let shown = status.to_string();
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        let held_back =
            "partition 999: held back from offset 12345678900\n    by an open transaction since 1970-01-01T00:00:01Z";
        assert!(shown.contains(held_back), "{shown}");
        assert!(shown.contains("370,370,367") && shown.contains("duplicates with different content: 68"), "{shown}");
        assert!(shown.contains("suppressed by triggers: 28") && shown.contains(" retired "), "{shown}");
        assert!(shown.contains("old snapshot for 12345678 s, held by session\n    4194304 (xxx"), "{shown}");
    }

    #[test]
    fn times_for_people() {
        let shown = [0.0854, 3.21, 119.9, 7_300.0, 1e6].map(seconds);
        assert_eq!(shown, ["85ms", "3.2s", "1m", "2h", "11d"]);
    }
}
