//! Accounts for every event of a run; `reconcile` finds and names each kind of damage.

use std::process::Command;

use crate::support::records::{Record, produce};
use crate::support::{READER, catch_up, execute, fail, generator, open_lake, program, query, runtime, succeed, verify};
use bytes::Bytes;
use lake::{Lake, S3Access};
use local_stack::Stack;
use serde_json::Value;
use uuid::Uuid;
use workload::{MAX_INDEX, RunTag, decode_event_id, event_id};

const RUN: &str = "accounted";

/// A run whose events are in all stores.
struct Landed {
    stack: Stack,
    lake: Lake,
}

impl Landed {
    fn new() -> Self {
        let stack = Stack::ephemeral().unwrap();
        publish(&stack, RUN);
        // Another run and a foreign producer share the topic, table and lake.
        publish(&stack, "other");
        let foreign = crate::support::records::event(1, crate::support::records::now(), "tools");
        produce(&stack, &[Record::of(0, foreign), Record::of(1, "no event".to_owned())]);
        catch_up(&stack, &[]);
        Self::over(stack)
    }

    fn over(stack: Stack) -> Self {
        let lake = open_lake(&stack);
        Self { stack, lake }
    }

    /// Returns a `reconcile` command of a read-only user.
    fn command(&self, more: &[&str]) -> Command {
        let (stack, s3) = (&self.stack, self.stack.s3());
        let servers = stack.bootstrap_servers();
        let arguments = ["reconcile", "--bootstrap-servers", &servers, "--lake", &stack.lake_url()];
        let mut command = program(stack, READER, &arguments);
        command.envs(s3.variables());
        command.args(more);
        command
    }

    fn reconcile(&self, more: &[&str]) -> (Option<i32>, Value) {
        let output = self.command(&[&["--run", RUN, "--json"], more].concat()).output().unwrap();
        let report = serde_json::from_slice(&output.stdout);
        (output.status.code(), report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
    }

    fn is_clean(&self) {
        let (code, report) = self.reconcile(&[]);
        assert_eq!(code, Some(0), "{report:#}");
    }

    /// Asserts that exactly these checks differ, except those of whole hours, each with an example that contains the
    /// text.
    fn differs(&self, expected: &[(&str, &str)]) {
        let (code, report) = self.reconcile(&[]);
        assert_eq!(code, Some(3), "{report:#}");
        let found = differing(&report).into_iter().filter(|(what, _)| !what.starts_with("hours of"));
        let found: Vec<(&str, &Value)> = found.collect();
        let names: Vec<&str> = found.iter().map(|(what, _)| *what).collect();
        assert_eq!(names, expected.iter().map(|(what, _)| *what).collect::<Vec<_>>(), "{report:#}");
        for ((what, examples), (_, text)) in found.iter().zip(expected) {
            let all = examples.to_string();
            assert!(all.contains(text), "{what}: no {text} in {all}");
        }
    }

    fn tag(&self) -> RunTag {
        let manifest = runtime().block_on(self.lake.manifest(&RUN.parse().unwrap())).unwrap().unwrap();
        manifest.run.tag.parse().unwrap()
    }

    /// Returns the ID of an event of the run that is a row.
    fn some_row(&self) -> Uuid {
        let sql = "SELECT event_id FROM staging.product_events_raw ORDER BY 1 LIMIT 1000";
        let ids = query(&self.stack, sql).into_iter().map(|row| row.get::<_, Uuid>(0));
        ids.into_iter().find(|id| decode_event_id(*id).unwrap().0 == self.tag()).unwrap()
    }

    /// Returns an event ID with the run's tag that the run has not generated.
    fn invented(&self) -> Uuid {
        event_id(crate::support::records::now(), self.tag(), MAX_INDEX)
    }
}

fn differing(report: &Value) -> Vec<(&str, &Value)> {
    let checks = report["checks"].as_array().unwrap().iter().filter(|check| check["holds"] == false);
    checks.map(|check| (check["what"].as_str().unwrap(), &check["examples"])).collect()
}

fn publish(stack: &Stack, run: &str) {
    let mut command = generator(stack);
    let faults = "invalid=1%,corrupt=1%,duplicate=1%";
    // Forty minutes around midnight.
    command.args(["--count", "20000", "--event-rate", "500/min", "--from", "2026-11-24T23:40:00Z", "--run-id", run]);
    command.args(["--fault", faults]);
    succeed(command);
}

/// All kinds of faults at once: the verifier, which shares no code with `reconcile`, passes, and so does `reconcile`.
#[test]
fn every_kind_of_fault_ends_where_it_should() {
    let stack = Stack::ephemeral().unwrap();
    let faults = "invalid=1%,corrupt=1%,duplicate=2%,oversize=0.3%,late=2%,out-of-order=2%,hot-key=2%,burst=2%";
    let mut command = generator(&stack);
    command.args(["--count", "30000", "--event-rate", "500/min", "--run-id", RUN, "--fault", faults]);
    succeed(command);
    catch_up(&stack, &[]);
    let report = verify(&stack, RUN);
    assert!(report.holds(), "{report}");
    let landed = Landed::over(stack);
    landed.is_clean();
    let manifest = runtime().block_on(landed.lake.manifest(&RUN.parse().unwrap())).unwrap().unwrap();
    let lake::FaultCounts { invalid, corrupt, duplicate, oversize, late, out_of_order, hot_key, burst } =
        manifest.counts.faults;
    let all = [invalid, corrupt, duplicate, oversize, late, out_of_order, hot_key, burst];
    assert!(all.iter().all(|count| *count > 0), "{all:?}");
}

#[test]
fn rows_and_dead_letters_that_are_damaged() {
    let landed = Landed::new();
    let stack = &landed.stack;
    landed.is_clean();
    let id = landed.some_row();
    let table = "staging.product_events_raw";
    execute(stack, &format!("CREATE TABLE public.kept AS SELECT * FROM {table} WHERE event_id = '{id}'"));
    execute(stack, &format!("DELETE FROM {table} WHERE event_id = '{id}'"));
    landed.differs(&[("valid events in the table", &format!("{id} (index "))]);
    let (_, report) = landed.reconcile(&[]);
    let seen = "in the topic; in the lake; not in the table; not in the dead letters; its file is raw/";
    assert!(report.to_string().contains(seen), "{report:#}");
    let suppress = "UPDATE pipeline.consumer_offsets
        SET rows_inserted = rows_inserted - 1, suppressed = suppressed + 1 WHERE partition = 2";
    execute(stack, suppress);
    let (code, report) = landed.reconcile(&[]);
    let named = report["notes"].to_string().contains("rows suppressed by triggers: 1, from all runs and producers");
    assert!(code == Some(3) && named, "{report:#}");
    let (code, _) = landed.reconcile(&["--only", "kafka,lake"]);
    assert_eq!(code, Some(0), "the others have it");

    // Gives the row another ID with the run's tag, which the run has not generated.
    let (invented, id) = (landed.invented().to_string(), id.to_string());
    execute(stack, &format!("INSERT INTO {table} SELECT * FROM public.kept"));
    execute(stack, &format!("UPDATE {table} SET event_id = '{invented}' WHERE event_id = '{id}'"));
    landed.differs(&[("valid events in the table", &id), ("unexpected events in the table", &invented)]);
    execute(stack, &format!("UPDATE {table} SET event_id = '{id}', category = 'x' WHERE event_id = '{invented}'"));
    landed.differs(&[("rows with different content", &id)]);
    execute(
        stack,
        &format!("DELETE FROM {table} WHERE event_id = '{id}'; INSERT INTO {table} SELECT * FROM public.kept"),
    );

    // Duplicates the row on the next day.
    execute(stack, "UPDATE public.kept SET event_timestamp = '2026-11-25T00:10:00Z'");
    execute(stack, &format!("INSERT INTO {table} SELECT * FROM public.kept"));
    landed.differs(&[("repeated events in the table", &id), ("rows with different content", &id)]);
    execute(
        stack,
        &format!("DELETE FROM {table} WHERE event_id = '{id}' AND event_timestamp = '2026-11-25T00:10:00Z'"),
    );
    landed.is_clean();

    // A row far from the run's hours is found only with `--whole-table`.
    execute(stack, "UPDATE public.kept SET event_timestamp = '2026-10-01T00:00:00Z'");
    execute(
        stack,
        &format!("SELECT pipeline.ensure_partition('2026-10-01'); INSERT INTO {table} SELECT * FROM public.kept"),
    );
    landed.is_clean();
    let (code, report) = landed.reconcile(&["--whole-table"]);
    assert!(code == Some(3) && report.to_string().contains(&format!("{id} (index ")), "{report:#}");
    execute(stack, &format!("DELETE FROM {table} WHERE event_timestamp < '2026-10-02'"));

    // Damages a dead letter.
    let sql = "SELECT partition, \"offset\" FROM pipeline.dead_letters WHERE header_names[1] = 'run'
        AND header_values[1] = convert_to($$TAG$$, 'UTF8') ORDER BY 1, 2 LIMIT 1";
    let place = &query(stack, &sql.replace("TAG", &landed.tag().to_string()))[0];
    let (partition, offset) = (place.get::<_, i32>(0), place.get::<_, i64>(1));
    let letter = format!("partition = {partition} AND \"offset\" = {offset}");
    let at = format!("partition {partition}, offset {offset}");
    execute(stack, &format!("CREATE TABLE public.letter AS SELECT * FROM pipeline.dead_letters WHERE {letter}"));
    execute(stack, &format!("UPDATE pipeline.dead_letters SET payload = 'other' WHERE {letter}"));
    landed.differs(&[("dead letters that differ from their record", &at)]);
    execute(stack, &format!("DELETE FROM pipeline.dead_letters WHERE {letter}"));
    landed.differs(&[("corrupt values in the dead letters", &at)]);
    execute(stack, "UPDATE public.letter SET \"offset\" = 0 WHERE \"offset\" > 0");
    execute(stack, "INSERT INTO pipeline.dead_letters SELECT * FROM public.letter");
    let (code, report) = landed.reconcile(&[]);
    assert_eq!(code, Some(3), "the first record is another one: {report:#}");
}

#[test]
fn offsets_records_and_files_that_are_damaged() {
    let landed = Landed::new();
    let stack = &landed.stack;
    execute(stack, "UPDATE pipeline.consumer_offsets SET next_offset = next_offset - 1 WHERE partition = 2");
    landed.differs(&[("partitions read to their ends", "partition 2 resumes at ")]);
    execute(stack, "UPDATE pipeline.consumer_offsets SET next_offset = next_offset + 1 WHERE partition = 2");
    landed.is_clean();

    // A missing file, one with other content, and one that is not a Parquet file.
    let (lake, key) = (&landed.lake, raw_file(&landed));
    let bytes = runtime().block_on(lake.get(&key)).unwrap().unwrap();
    runtime().block_on(lake.remove(&key)).unwrap();
    let gone = "not in the lake";
    landed.differs(&[
        ("events of the topic in the lake", gone),
        ("valid events in the lake", &key),
        ("raw files", "[]"),
    ]);
    runtime().block_on(lake.put_replacing(&key, Bytes::from_static(b"PAR1 no more"))).unwrap();
    landed.differs(&[
        ("events of the topic in the lake", gone),
        ("valid events in the lake", &key),
        ("unreadable files", &key),
    ]);
    runtime().block_on(lake.put_replacing(&key, bytes.clone())).unwrap();
    let copy =
        key.replace(".parquet", "").rsplit_once('-').map(|(name, _)| format!("{name}-99999999.parquet")).unwrap();
    runtime().block_on(lake.put_replacing(&copy, bytes)).unwrap();
    landed.differs(&[
        ("raw files", "[]"),
        ("repeated events in the lake", &copy),
        ("events in a file of another hour or segment", &copy),
    ]);
    runtime().block_on(lake.remove(&copy)).unwrap();
    landed.is_clean();

    // Records: one with other content under an existing ID, and one with an ID that the run has not generated.
    let (id, invented) = (landed.some_row().to_string(), landed.invented().to_string());
    let value = |id: &str| {
        let foreign = crate::support::records::event(1, "2026-11-24T23:50:00Z".parse().unwrap(), "tools");
        foreign.replace("9f3c0b1e-3c5a-4d9b-8e0f-000000000001", id)
    };
    produce(stack, &[Record::of(3, value(&id)), Record::of(3, value(&invented))]);
    catch_up(stack, &[]);
    landed.differs(&[
        ("records of valid events, with duplicates", "[]"),
        ("unexpected events in the topic", &invented),
        ("records with different content", &id),
        ("unexpected events in the table", &invented),
    ]);
}

/// The events of the run cannot be generated again, as after a change of version.
#[test]
fn what_another_version_made_is_verified_by_its_sums() {
    let landed = Landed::new();
    let stack = &landed.stack;
    let mut manifest = runtime().block_on(landed.lake.manifest(&RUN.parse().unwrap())).unwrap().unwrap();
    manifest.settings["seed"] = 0.into();
    manifest.program.version = "0.0.0".to_owned();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    std::fs::write(path, manifest.to_json().unwrap()).unwrap();
    let look = || {
        let output = landed.command(&["--manifest", path, "--json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = differing(&report).into_iter().map(|(what, examples)| (what.to_owned(), examples.to_string()));
        (output.status.code(), found.collect::<Vec<_>>(), report)
    };
    let differs = |expected: &[(&str, &str)]| {
        let (code, found, report) = look();
        assert_eq!(code, Some(3), "{report:#}");
        let names: Vec<&str> = found.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(names, expected.iter().map(|(what, _)| *what).collect::<Vec<_>>(), "{report:#}");
        for ((what, examples), (_, text)) in found.iter().zip(expected) {
            assert!(examples.contains(text), "{what}: no {text} in {examples}");
        }
    };
    let (code, _, report) = look();
    assert_eq!(code, Some(0), "{report:#}");
    assert!(report["notes"][0].as_str().unwrap().starts_with("event-generator 0.0.0 generated the run"), "{report:#}");

    // A row that is missing, changed, and duplicated.
    let id = landed.some_row();
    let index = format!("index {};", decode_event_id(id).unwrap().1);
    let table = "staging.product_events_raw";
    execute(stack, &format!("CREATE TABLE public.kept AS SELECT * FROM {table} WHERE event_id = '{id}'"));
    execute(stack, &format!("DELETE FROM {table} WHERE event_id = '{id}'"));
    differs(&[("events of the topic in the table", &index), ("hours of the table", ", not ")]);
    execute(stack, &format!("INSERT INTO {table} SELECT * FROM public.kept"));
    execute(stack, &format!("UPDATE {table} SET category = 'x' WHERE event_id = '{id}'"));
    differs(&[("hours of the table", "with different content")]);
    execute(stack, &format!("DELETE FROM {table} WHERE event_id = '{id}'"));
    execute(stack, &format!("INSERT INTO {table} SELECT * FROM public.kept"));
    execute(stack, "UPDATE public.kept SET event_timestamp = '2026-11-25T00:10:00Z'");
    execute(stack, &format!("INSERT INTO {table} SELECT * FROM public.kept"));
    let (code, found, report) = look();
    assert!(code == Some(3) && found.iter().any(|(what, _)| what == "repeated events in the table"), "{report:#}");
    execute(
        stack,
        &format!("DELETE FROM {table} WHERE event_id = '{id}' AND event_timestamp = '2026-11-25T00:10:00Z'"),
    );

    // A missing file, and a dead letter.
    let key = raw_file(&landed);
    let bytes = runtime().block_on(landed.lake.get(&key)).unwrap().unwrap();
    runtime().block_on(landed.lake.remove(&key)).unwrap();
    differs(&[
        ("events of the topic in the lake", "not in the lake"),
        ("hours of the raw files", "2026-11-2"),
        ("raw files", "[]"),
    ]);
    runtime().block_on(landed.lake.put_replacing(&key, bytes)).unwrap();
    let letters = "FROM pipeline.dead_letters WHERE header_names[1] = 'run'
        AND header_values[1] = convert_to($$TAG$$, 'UTF8')";
    let letters = letters.replace("TAG", &landed.tag().to_string());
    execute(
        stack,
        &format!(
            "DELETE FROM pipeline.dead_letters WHERE (partition, \"offset\") =
            (SELECT partition, \"offset\" {letters} LIMIT 1)"
        ),
    );
    differs(&[("corrupt values in the dead letters", "index ")]);
}

fn raw_file(landed: &Landed) -> String {
    let objects = runtime().block_on(landed.lake.list("raw/")).unwrap();
    objects.into_iter().map(|object| object.key).find(|key| key.contains(RUN)).unwrap()
}

#[test]
fn what_retention_took_is_said_and_no_loss() {
    let stack = Stack::ephemeral().unwrap();
    let mut command = generator(&stack);
    command.args(["--count", "3000", "--run-id", RUN, "--from", "2026-11-20T23:55:00Z"]);
    succeed(command);
    catch_up(&stack, &[]);
    execute(
        &stack,
        "INSERT INTO pipeline.retention_floors (floor) VALUES ('2026-11-21'); DROP TABLE staging.product_events_raw_20261120",
    );
    let lake = runtime().block_on(Lake::open(
        &format!("file:///{}", std::env::temp_dir().display()).parse().unwrap(),
        S3Access::Standard,
    ));
    let landed = Landed { stack, lake: lake.unwrap() };
    let output = succeed(landed.command(&["--run", RUN]));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("3000 valid events are of days that retention has dropped"), "{shown}");
    assert!(shown.contains("all events accounted for"), "{shown}");
}

#[test]
fn a_run_that_is_not_there() {
    let stack = Stack::ephemeral().unwrap();
    let lake = format!("file://{}", std::env::temp_dir().display());
    crate::support::migrate(&stack);
    let said = fail(&stack, READER, &["reconcile", "--run", "absent", "--lake", &lake], 1);
    assert!(said.contains("no manifest of run absent"), "{said}");
    assert!(fail(&stack, READER, &["reconcile"], 2).contains("--run"));
    assert!(fail(&stack, READER, &["reconcile", "--run", "a/b"], 2).contains("--run"));
}
