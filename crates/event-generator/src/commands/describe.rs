//! `describe`: prints probabilities and expected counts.

use std::io::{self, Write, stdout};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use event_model::EventType;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::output::unless_closed;
use pipeline_runtime::units::{Count, grouped};
use serde::Serialize;
use workload::{Description, EventRate, Group, Source};

use super::event_args::{EventArgs, random_seed};
use crate::clock::Clock;

#[derive(Args, Clone, Debug)]
pub(crate) struct DescribeArgs {
    /// Number of events for the expected counts, at least 1
    #[arg(
        long,
        default_value = "1M",
        value_name = "N",
        value_parser = Count::within(Count::new(1)..),
        allow_hyphen_values = true
    )]
    count: Count,
    /// Print a JSON document instead of tables
    #[arg(long)]
    json: bool,
    /// Event rate, such as 10M/day, 2500/s or 3/h
    #[arg(long, default_value = "10M/day", value_name = "RATE", allow_hyphen_values = true)]
    rate: EventRate,
    #[command(flatten)]
    events: EventArgs,
}

pub(crate) fn execute(args: &DescribeArgs) -> Result<(), Failure> {
    let source = args.events.source(args.rate, Clock::start().now(), random_seed())?;
    print(&source, args.count.get(), args.json, stdout().lock())
}

/// Output of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    seed: u64,
    world_seed: u64,
    /// Number of events.
    count: u64,
    #[serde(flatten)]
    description: &'a Description,
}

fn print(source: &Source, count: u64, json: bool, mut out: impl Write) -> Result<(), Failure> {
    let description = source.describe();
    let written = if json {
        let settings = source.settings();
        let (seed, world_seed) = (settings.seed, settings.world.seed);
        let document = Document { seed, world_seed, count, description: &description };
        serde_json::to_writer_pretty(&mut out, &document).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        writeln!(out, "{}", text(&description, source.settings().seed, count))
    };
    unless_closed(written.and_then(|()| out.flush()).map_err(Into::into))
}

fn text(description: &Description, seed: u64, count: u64) -> String {
    let effects = "Expected counts of valid events without faults; actual counts vary";
    format!(
        "seed {seed}, {} events\n\nTransitions between events of a session\n{}\n\n{effects}\n\n\
         By experiment\n{}\n\nBy user decile, most active first\n{}",
        grouped(count),
        steps(description),
        groups("experiment", std::iter::once(&description.all).chain(&description.experiments), count),
        groups("decile", description.user_deciles.iter(), count),
    )
}

fn steps(description: &Description) -> Table {
    let names = EventType::ALL.map(EventType::as_str);
    let mut table = table(std::iter::once("after").chain(names).chain(["end"]));
    for from in names {
        let row = &description.steps[from];
        let mut cells = vec![from.to_owned()];
        cells.extend(names.map(|to| row.get(to).map_or(String::new(), |part| per_cent(*part))));
        cells.push(per_cent(1.0 - row.values().sum::<f64>()));
        table.add_row(cells);
    }
    align(table)
}

/// Formats the expected counts by event type, and below them the rates. Together they would exceed 80 columns.
fn groups<'a>(title: &str, groups: impl Iterator<Item = &'a Group>, count: u64) -> String {
    let names = EventType::ALL.map(EventType::as_str);
    let mut counts = table([title, "events"].into_iter().chain(names));
    let mut rates = table([title, "users", "requests per view", "clicks per search"].into_iter());
    for group in groups {
        let mut cells = vec![group.name.clone(), expected(group.share, count)];
        cells.extend(group.types.map(|part| expected(part, count)));
        counts.add_row(cells);
        let rate = [per_cent(group.rfq_per_view), per_cent(group.clicks_per_search)];
        rates.add_row([group.name.clone(), grouped(group.users)].into_iter().chain(rate));
    }
    format!("{}\n{}", align(counts), align(rates))
}

/// Returns a table with two-line headings: `search_performed` is broken at the underscore.
fn table<'a>(header: impl Iterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(header.map(|name| name.replace('_', "\n")));
    table
}

fn align(mut table: Table) -> Table {
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((u16::from(place == 0), 0));
        if place > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
fn expected(part: f64, count: u64) -> String {
    grouped((part * count as f64).round() as u64)
}

fn per_cent(part: f64) -> String {
    format!("{:.2}%", part * 100.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::test_source::source;

    #[test]
    fn the_document_and_the_table_agree() {
        let mut out = Vec::new();
        print(&source(&[]), 1_000_000, true, &mut out).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&document["seed"], &document["count"]), (&7.into(), &1_000_000.into()));
        assert_eq!(document["world_seed"], workload::DEFAULT_WORLD_SEED);
        assert_eq!(document["steps"]["product_viewed"]["rfq_sent"], 0.12);
        assert_eq!(document["experiments"].as_array().unwrap().len(), 10);
        assert_eq!(document["user_deciles"].as_array().unwrap().len(), 10);
        assert!(document["all"]["types"]["rfq_sent"].as_f64().unwrap() > 0.02);
        let mut out = Vec::new();
        print(&source(&[]), 1_000_000, false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("exp_10") && text.contains("1,000,000") && text.contains("12.00%"), "{text}");
        let mut out = Vec::new();
        print(&source(&[]), 10_000_000, false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
