//! Programs under test, built next to this one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use local_stack::Stack;
use serde_json::Value;

/// Table that `kafka-consumer` writes to.
pub(crate) const TABLE: &str = "staging.product_events_raw";

/// Returns the command of one of our programs, built with the profile of this one.
pub(crate) fn ours(name: &str) -> Command {
    let program = std::env::current_exe().unwrap().with_file_name(name);
    assert!(program.exists(), "{} is missing; run 'cargo build --release -p {name}'", program.display());
    let mut command = Command::new(program);
    // State left by an earlier benchmark must not affect this one.
    let state = std::env::temp_dir().join(format!("event-pipeline-bench-{}", std::process::id()));
    command.env("EVENT_GENERATOR_STATE_DIR", state).env("EVENT_GENERATOR_HTTP_ADDR", "off");
    command
}

/// Runs a command to its end and returns its standard output. Fails if it does not succeed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.stdout(Stdio::piped()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the `run ended` line of a JSON log.
pub(crate) fn summary(log: &str) -> Value {
    let ended = |line: &str| serde_json::from_str(line).ok().filter(|line: &Value| line["message"] == "run ended");
    log.lines().rev().find_map(ended).unwrap_or_else(|| panic!("no summary in:\n{log}"))
}

/// Writes results to `target/bench/NAME.json`.
pub(crate) fn keep(name: &str, results: &Value) {
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder).unwrap();
    let text = serde_json::to_string_pretty(results).unwrap();
    std::fs::write(folder.join(name).with_extension("json"), text + "\n").unwrap();
}

/// Returns the `psql` command for a query or a statement.
pub(crate) fn psql(url: &str, query: &str) -> Command {
    let mut command = Command::new("psql");
    command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]);
    command.args(["--dbname", url, "--command", query]);
    command
}

/// Returns the result of a query that yields a single number.
pub(crate) fn number(url: &str, query: &str) -> u64 {
    succeed(&mut psql(url, query)).trim().parse().unwrap()
}

/// Creates the tables.
pub(crate) fn migrate(url: &str) {
    succeed(ours("kafka-consumer").args(["migrate", "--database-url", url]));
}

/// Creates the partitions for days since 1970-01-01, for programs that cannot create them.
pub(crate) fn make_partitions(url: &str, days: &BTreeSet<i64>) {
    for day in days {
        succeed(&mut psql(url, &format!("SELECT pipeline.ensure_partition(date '1970-01-01' + {day})")));
    }
}

/// Truncates the table, keeping its partitions.
pub(crate) fn empty(url: &str) {
    succeed(&mut psql(url, &format!("TRUNCATE {TABLE}")));
    succeed(&mut psql(url, "CHECKPOINT"));
}

/// Returns the number of records that a group of `kafka-consumer` has committed.
pub(crate) fn committed(stack: &Stack, group: &str) -> u64 {
    let query = "SELECT coalesce(sum(records), 0) FROM pipeline.consumer_offsets WHERE consumer_group =";
    number(&stack.database_url(), &format!("{query} '{group}'"))
}

/// Returns the path of a program or file fetched or built by `scripts/setup`.
pub(crate) fn fetched(name: &str) -> PathBuf {
    local_stack::stack_folder().join("peers").join(name)
}

/// Returns the folder of builds and results.
pub(crate) fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

/// Flushes the disk, so that pending writes of one candidate do not slow down the next.
pub(crate) fn settle() {
    succeed(&mut Command::new("sync"));
}
