//! `rebuild` from a lake that other programs have rewritten, or whose files are damaged.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use event_model::{EventColumns, read_batch};
use lake::{EventFile, EventFileWriter};
use local_stack::Postgres;
use serde_json::Value;
use tempfile::TempDir;

const EVENTS: i64 = 3000;

/// A database with the tables and no other servers, because these lakes are folders.
struct Warehouse(Postgres);

impl Warehouse {
    fn new() -> Self {
        let warehouse = Self(Postgres::ephemeral().unwrap());
        succeed(warehouse.program(&["migrate"]));
        warehouse
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
        command.args(arguments).args(["--database-url", &self.0.url()]);
        command
    }

    /// Runs a rebuild. Returns its exit code, the log line with the summary, and its whole output.
    fn rebuild(&self, lake: &Path, flags: &[&str]) -> (Option<i32>, Value, String) {
        let mut command = self.program(&["rebuild", "--log-format", "json", "--lake", &url(lake)]);
        let output = command.args(flags).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let end = lines.find(|line| line["message"] == "rebuild ended").unwrap_or_default();
        (output.status.code(), end, said)
    }

    fn number(&self, sql: &str) -> i64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.0.url(), tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.query_one(sql, &[]).await.unwrap().get(0)
        })
    }

    fn rows(&self) -> i64 {
        self.number("SELECT count(*) FROM staging.product_events_raw")
    }

    fn empty(&self) {
        self.number("WITH gone AS (DELETE FROM staging.product_events_raw RETURNING 1) SELECT count(*) FROM gone");
    }

    fn finished(&self, lake: &Path) -> bool {
        let sql = "SELECT count(*) FROM pipeline.rebuilds WHERE finished_at IS NOT NULL AND lake = ";
        self.number(&format!("{sql}'{}'", url(lake))) > 0
    }
}

fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Creates a lake of four hours, 08 to 11, with two dozen files written by `event-generator`.
fn lake_of_ours() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let generator = PathBuf::from(env!("CARGO_BIN_EXE_kafka-consumer")).with_file_name("event-generator");
    assert!(generator.exists(), "{} is missing: cargo build --workspace", generator.display());
    let mut command = Command::new(generator);
    command.args(["run", "--http-addr", "off", "--rate", "max", "--state-dir"]).arg(state.path());
    command.args(["--no-kafka", "--count", &EVENTS.to_string(), "--event-rate", "1000/h", "--run-id", "rewritten"]);
    command.args(["--from", "2026-11-22T08:30:00Z", "--lake", &url(folder.path())]);
    succeed(command);
    assert!(files(folder.path()).len() > 20);
    folder
}

fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// Returns the files below `raw/`, sorted by path.
fn files(folder: &Path) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&folder.join("raw"), &mut found);
    found.sort();
    found
}

fn copy_of(lake: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in files(lake.path()) {
        let to = copy.path().join(file.strip_prefix(lake.path()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&file, to).unwrap();
    }
    copy
}

/// A modification of a lake's folder.
type Change = fn(&Path);

/// Merges the rows of some files into one and removes the files.
fn compact(files: &[PathBuf], into: &Path) {
    let mut columns = EventColumns::with_capacity(0);
    for file in files {
        for batch in EventFile::open("test", fs::read(file).unwrap().into()).unwrap() {
            let batch = batch.unwrap();
            for event in read_batch(&batch).unwrap() {
                columns.append(&event.unwrap());
            }
        }
        fs::remove_file(file).unwrap();
    }
    fs::write(into, EventFileWriter::encode(&columns.finish()).unwrap().bytes).unwrap();
}

/// Moves each file to the path that `place` returns for its hour's folder and its number.
fn move_all(lake: &Path, place: impl Fn(&Path, usize) -> PathBuf) {
    for (number, file) in files(lake).into_iter().enumerate() {
        let to = place(file.parent().unwrap(), number);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(file, to).unwrap();
    }
}

#[test]
fn files_are_read_under_any_name() {
    let warehouse = Warehouse::new();
    let ours = lake_of_ours();
    let changes: [(&str, Change); 9] = [
        ("half of the files compacted", |lake| {
            let files = files(lake);
            let half = &files[..files.len() / 2];
            compact(half, &half[0].with_file_name("compacted.parquet"));
        }),
        ("each hour compacted", |lake| {
            for hour in ["08", "09", "10", "11"] {
                let all = files(lake);
                let of_hour = all.into_iter().filter(|file| file.parent().unwrap().ends_with(format!("hour={hour}")));
                let of_hour: Vec<PathBuf> = of_hour.collect();
                compact(&of_hour, &of_hour[0].with_file_name("part-0.parquet"));
            }
        }),
        ("the names that Spark gives", |lake| {
            move_all(lake, |hour, n| hour.join(format!("part-{n:05}-5c0f3a52-c000.snappy.parquet")));
        }),
        ("hours of one digit", |lake| {
            let short = |name: &str| name.replace("hour=0", "hour=");
            move_all(lake, |hour, n| PathBuf::from(short(hour.to_str().unwrap())).join(format!("r-{n:08}.parquet")));
        }),
        ("folders of days only", |lake| {
            move_all(lake, |hour, n| hour.with_file_name(format!("r-{n:08}.parquet")));
        }),
        ("no folders at all", |lake| {
            move_all(lake, |hour, n| hour.parent().unwrap().with_file_name(format!("{n}.PARQUET")));
        }),
        ("deeper folders", |lake| {
            move_all(lake, |hour, n| hour.join("_part=1").join(format!("{n}.parquet")));
        }),
        ("names without an extension, as Trino and Hive give", |lake| {
            move_all(lake, |hour, n| hour.join(format!("{n:06}_0")));
        }),
        ("markers and hidden files", |lake| {
            let first = files(lake).remove(0);
            let hidden = ["_SUCCESS", ".part-0.parquet.crc", "_temporary/part-0.parquet", "notes.txt", "empty"];
            for name in hidden {
                let path = first.with_file_name(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, if name == "empty" { "" } else { "no Parquet at all" }).unwrap();
            }
        }),
    ];
    for (name, change) in changes {
        warehouse.empty();
        let lake = copy_of(&ours);
        change(lake.path());
        let (code, end, said) = warehouse.rebuild(lake.path(), &[]);
        assert_eq!((code, warehouse.rows()), (Some(0), EVENTS), "{name}: {said}");
        assert_eq!(end["rows"], EVENTS, "{name}");
    }
}

#[test]
fn hours_are_told_by_the_events_and_not_by_folders() {
    let warehouse = Warehouse::new();
    let lake = lake_of_ours();
    let all = files(lake.path());
    // Hours 08 to 11 in one file, in the folder of 08.
    compact(&all[..all.len() - 1], &all[0].with_file_name("compacted.parquet"));
    let (code, end, said) = warehouse.rebuild(lake.path(), &["--from", "2026-11-22T10", "--to", "2026-11-22T11"]);
    assert_eq!((code, warehouse.rows()), (Some(0), 1000), "{said}");
    assert!(end["rows_outside"].as_i64().unwrap() > 1500, "{end}");
    let wrong = "SELECT count(*) FROM staging.product_events_raw WHERE date_part('hour', event_timestamp AT TIME ZONE 'UTC') <> 10";
    assert_eq!(warehouse.number(wrong), 0);
}

#[test]
fn damaged_files_do_not_hide_the_others() {
    let warehouse = Warehouse::new();
    let ours = lake_of_ours();
    let lake = copy_of(&ours);
    let all = files(lake.path());
    let damaged = [&all[2], &all[9], &all[15]];
    File::options().write(true).open(damaged[0]).unwrap().set_len(900).unwrap();
    fs::write(damaged[1], "").unwrap();
    let mut bytes = fs::read(damaged[2]).unwrap();
    bytes[500..600].fill(0x55);
    fs::write(damaged[2], bytes).unwrap();

    let (code, end, said) = warehouse.rebuild(lake.path(), &[]);
    assert_eq!(code, Some(1), "{said}");
    let others = warehouse.rows();
    assert_eq!((end["files"].as_u64(), end["files_damaged"].as_i64()), (Some(all.len() as u64 - 3), Some(3)), "{said}");
    assert!((2000..EVENTS).contains(&others), "{others}");
    let error = said.lines().rfind(|line| line.starts_with("error:")).unwrap();
    for file in damaged {
        let key = file.strip_prefix(lake.path()).unwrap().to_str().unwrap();
        assert!(error.contains(key) && error.contains("--skip-damaged"), "{error}");
        let named = |line: &&str| line.contains(key) && line.contains("file not read");
        assert_eq!(said.lines().filter(named).count(), 1, "{key}: {said}");
    }
    assert!(!warehouse.finished(lake.path()));

    let (code, end, said) = warehouse.rebuild(lake.path(), &["--skip-damaged"]);
    assert_eq!((code, warehouse.rows()), (Some(3), others), "{said}");
    assert_eq!(end["files_before"].as_u64(), Some(all.len() as u64 - 3), "{said}");
    assert!(warehouse.finished(lake.path()));

    for file in damaged {
        fs::copy(ours.path().join(file.strip_prefix(lake.path()).unwrap()), file).unwrap();
    }
    let (code, _, said) = warehouse.rebuild(lake.path(), &[]);
    assert_eq!((code, warehouse.rows()), (Some(0), EVENTS), "{said}");
}

#[test]
fn files_that_cannot_be_fetched_are_named() {
    let warehouse = Warehouse::new();
    let lake = lake_of_ours();
    let first = files(lake.path()).remove(0);
    let strange = first.with_file_name(OsStr::from_bytes(b"part-\xff.parquet"));
    fs::rename(&first, &strange).unwrap();
    let (code, end, said) = warehouse.rebuild(lake.path(), &["--skip-damaged"]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(end["files_unavailable"], 1, "{said}");
    assert!(warehouse.rows() > 2000 && !warehouse.finished(lake.path()));
    let error = said.lines().rfind(|line| line.starts_with("error:")).unwrap();
    assert!(error.contains("part-\u{fffd}.parquet"), "{error}");

    fs::rename(&strange, &first).unwrap();
    let (code, _, said) = warehouse.rebuild(lake.path(), &[]);
    assert_eq!((code, warehouse.rows()), (Some(0), EVENTS), "{said}");
}

#[test]
fn a_lake_without_a_parquet_file_is_an_error() {
    let warehouse = Warehouse::new();
    let lake = tempfile::tempdir().unwrap();
    fs::create_dir(lake.path().join("raw")).unwrap();
    fs::write(lake.path().join("raw/_SUCCESS"), "").unwrap();
    let (code, _, said) = warehouse.rebuild(lake.path(), &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no Parquet files under raw/"), "{said}");
}

#[test]
fn a_file_that_changed_since_an_interruption_is_read_again() {
    let warehouse = Warehouse::new();
    let lake = lake_of_ours();
    let all = files(lake.path());
    // A damaged file prevents the rebuild from finishing, as an interruption would.
    let last = all.last().unwrap();
    let whole = fs::read(last).unwrap();
    fs::write(last, "").unwrap();
    let (code, _, said) = warehouse.rebuild(lake.path(), &[]);
    assert_eq!(code, Some(1), "{said}");
    // The events of some files move into one that is already loaded.
    fs::write(last, whole).unwrap();
    warehouse.empty();
    compact(&all[..all.len() - 1], &all[0]);
    let (code, end, said) = warehouse.rebuild(lake.path(), &[]);
    assert_eq!((code, warehouse.rows()), (Some(0), EVENTS), "{said}");
    assert_eq!(end["files_before"], 0, "{said}");
}
