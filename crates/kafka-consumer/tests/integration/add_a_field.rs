//! Follows the steps of `CONTRIBUTING.md` to add a field in a copy of the workspace, then checks the field in every
//! store.
//!
//! The copy and its build stay in `target/add-a-field`, so only the first run is slow.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use crate::support::records::{Record, event, now, produce};
use crate::support::{
    OWNER, READER, WRITER, catch_up, execute, execute_as, generator, number, query, runtime, succeed, url_of,
};
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use bytes::Bytes;
use local_stack::Stack;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// The two fields of the page: a text, and an integer whose default means "unknown".
const TEXT: &str = "channel";
const INTEGER: &str = "list_position";

/// Runs before the change, before the change with records still unread when the fields are added, and after the change.
const RUNS: [&str; 3] = ["before", "in-flight", "after"];

#[test]
#[ignore = "builds a copy of the workspace: make test-slow"]
fn the_steps_of_the_page_add_a_field_everywhere() {
    let copy = &*COPY;
    copy.cargo(&["build", "--locked", "-p", "event-generator", "-p", "kafka-consumer", "-p", "verifier"]);

    let stack = Stack::ephemeral().unwrap();
    publish(generator(&stack), RUNS[0]);
    catch_up(&stack, &[]);
    publish(generator(&stack), RUNS[1]);
    let former = View::of(&stack);

    succeed(copy.consumer(&stack, OWNER, &["migrate"]));
    former.assert_extended(&stack);
    publish(copy.generator(&stack), RUNS[2]);
    produce_foreign(&stack);
    let servers = stack.bootstrap_servers();
    let run = ["run", "--until-caught-up", "--bootstrap-servers", &servers, "--log-format", "json"];
    succeed(copy.consumer(&stack, WRITER, &run));

    arrived_in_kafka(&stack);
    arrived_in_parquet(&stack);
    arrived_in_postgresql(&stack);
    copy.agrees(&stack, &[]);
    for damage in [format!("{TEXT} = 'other'"), format!("{INTEGER} = 9")] {
        copy.sees(&stack, &damage);
    }

    execute(&stack, &format!("DELETE FROM staging.product_events_raw WHERE {TEXT} = 'web'"));
    succeed(copy.consumer(&stack, WRITER, &["rebuild", "--lake", &stack.lake_url()]));
    arrived_in_postgresql(&stack);
    copy.agrees(&stack, &["--rebuilt"]);
}

/// Runs those tests of the crates with the fields that need no programs; their lists follow from the list of fields.
#[test]
#[ignore = "builds a copy of the workspace: make test-slow"]
fn the_crates_with_the_fields_pass_their_tests() {
    COPY.cargo(&["test", "--locked", "-p", "event-model", "-p", "workload"]);
    COPY.cargo(&["test", "--locked", "-p", "lake", "--lib", "--test", "files", "--test", "manifest"]);
    COPY.cargo(&["test", "--locked", "-p", "verifier", "--lib"]);
    COPY.cargo(&["test", "--locked", "-p", "kafka-consumer", "--lib", "--test", "fields"]);
}

/// The workspace copy after the steps of the page.
static COPY: LazyLock<Copy> = LazyLock::new(|| Copy::with_the_fields_of(&page()));

/// Returns the chapter `Add a field` of `CONTRIBUTING.md`.
fn page() -> String {
    let page = fs::read_to_string(workspace().join("CONTRIBUTING.md")).unwrap();
    let chapter = page.split("\n## ").find(|chapter| chapter.starts_with("Add a field\n"));
    chapter.expect("a chapter `Add a field` in CONTRIBUTING.md").to_owned()
}

/// Returns the page's code blocks in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().map(str::trim_start);
    while let Some(line) = lines.next() {
        if let Some(of) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if of == language {
                blocks.push(block.join("\n"));
            }
        }
    }
    assert!(!blocks.is_empty(), "no block in {language}");
    blocks
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A copy of the workspace with the fields added.
struct Copy {
    folder: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn with_the_fields_of(page: &str) -> Self {
        let at = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("add-a-field");
        let copy = Self { folder: at.join("workspace"), target: at.join("target") };
        let mut files = BTreeMap::new();
        collect(workspace(), Path::new(""), &mut files);
        add_lines(&mut files, &blocks(page, "rust"));
        add_scripts(&mut files, &blocks(page, "sql"));
        copy.write(&files);
        for step in blocks(page, "sh") {
            copy.run(Command::new("sh").args(["-ec", &step]));
        }
        copy
    }

    /// Writes the files that differ and removes those that are gone.
    fn write(&self, files: &BTreeMap<PathBuf, Vec<u8>>) {
        let mut former = BTreeMap::new();
        if self.folder.exists() {
            collect(&self.folder, Path::new(""), &mut former);
        }
        for path in former.keys().filter(|path| !files.contains_key(*path)) {
            fs::remove_file(self.folder.join(path)).unwrap();
        }
        for (path, content) in files.iter().filter(|(path, content)| former.get(*path) != Some(content)) {
            let path = self.folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            let from = workspace().join(path.strip_prefix(&self.folder).unwrap());
            if let Ok(metadata) = fs::metadata(from) {
                fs::set_permissions(&path, metadata.permissions()).unwrap();
            }
        }
    }

    fn run(&self, command: &mut Command) {
        println!("{command:?}");
        // The jobserver of the calling `make` is not inherited, so `cargo` must not look for it.
        for variable in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CARGO_MAKEFLAGS"] {
            command.env_remove(variable);
        }
        let status = command.current_dir(&self.folder).env("CARGO_TARGET_DIR", &self.target).status().unwrap();
        assert!(status.success(), "{command:?} in {}: {status}", self.folder.display());
    }

    fn cargo(&self, arguments: &[&str]) {
        self.run(Command::new("cargo").args(arguments));
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.target.join("debug").join(name));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn consumer(&self, stack: &Stack, user: &str, arguments: &[&str]) -> Command {
        let mut command = self.program("kafka-consumer");
        command.args(arguments).args(["--database-url", &url_of(stack, user)]).envs(stack.s3().variables());
        command.env("KAFKA_CONSUMER_HTTP_ADDR", "off");
        command
    }

    /// Returns the generator's command line with the copy's program.
    fn generator(&self, stack: &Stack) -> Command {
        let theirs = generator(stack);
        let mut command = self.program("event-generator");
        command.args(theirs.get_args());
        for (name, value) in theirs.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
    }

    fn verifier(&self, stack: &Stack, run: &str, more: &[&str]) -> Output {
        let (s3, lake) = (stack.s3(), stack.lake_url());
        let mut command = self.program("verifier");
        command.args(["--run", run, "--bootstrap-servers", &stack.bootstrap_servers(), "--lake", &lake]);
        command.args(["--database-url", &stack.database_url(), "--s3-endpoint", &s3.endpoint]).args(more);
        command.output().unwrap()
    }

    fn reconcile(&self, stack: &Stack, run: &str) -> Output {
        let (servers, lake) = (stack.bootstrap_servers(), stack.lake_url());
        let arguments = ["reconcile", "--bootstrap-servers", &servers, "--lake", &lake, "--run", run];
        self.consumer(stack, READER, &arguments).output().unwrap()
    }

    fn agrees(&self, stack: &Stack, more: &[&str]) {
        for run in RUNS {
            ended(&self.verifier(stack, run, more), 0);
            ended(&self.reconcile(stack, run), 0);
        }
    }

    /// Changes a row, checks that the verifier and `reconcile` notice, and restores it.
    fn sees(&self, stack: &Stack, damage: &str) {
        let row = format!("(SELECT event_id FROM staging.product_events_raw WHERE {TEXT} = 'web' ORDER BY 1 LIMIT 1)");
        let row: uuid::Uuid = query(stack, &row)[0].get(0);
        let change = |sql: &str| {
            execute(stack, &format!("UPDATE staging.product_events_raw SET {sql} WHERE event_id = '{row}'"));
        };
        change(damage);
        let reports: Vec<String> = RUNS.map(|run| said(&self.verifier(stack, run, &[]))).to_vec();
        assert!(
            reports.iter().any(|report| report.contains("events that differ in the table: ")),
            "{damage}: {reports:?}"
        );
        let codes = RUNS.map(|run| self.reconcile(stack, run).status.code());
        assert!(codes.contains(&Some(3)), "{damage}: {codes:?}");
        change(&format!("{TEXT} = DEFAULT, {INTEGER} = DEFAULT"));
        self.agrees(stack, &[]);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

fn ended(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
}

/// Reads the files of a workspace except hidden ones and the build folder.
fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let (name, path) = (entry.file_name(), folder.join(entry.file_name()));
        if name.to_string_lossy().starts_with('.') || (name == OsStr::new("target") && folder == Path::new("")) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            collect(root, &path, files);
        } else {
            files.insert(path, fs::read(entry.path()).unwrap());
        }
    }
}

/// Adds lines to the list of fields.
fn add_lines(files: &mut BTreeMap<PathBuf, Vec<u8>>, lines: &[String]) {
    let list = files.get_mut(Path::new("crates/event-model/src/event.rs")).unwrap();
    let text = String::from_utf8(list.clone()).unwrap();
    let (head, tail) = text.split_once("    defaulted {\n").expect("a part `defaulted` in the list");
    let (fields, rest) = tail.split_at(tail.find("    }\n").unwrap());
    let lines = lines.iter().map(|line| format!("        {line}\n")).collect::<Vec<_>>().concat();
    *list = format!("{head}    defaulted {{\n{fields}{lines}{rest}").into_bytes();
}

/// Adds scripts under the next numbers.
fn add_scripts(files: &mut BTreeMap<PathBuf, Vec<u8>>, scripts: &[String]) {
    for script in scripts {
        let number = 1 + files.keys().filter(|path| path.parent() == Some(Path::new("db_table_scripts"))).count();
        let (_, column) = script.split_once("ADD COLUMN ").expect("a column");
        let name = column.split(' ').next().unwrap();
        files.insert(
            format!("db_table_scripts/V{number:03}__add_{name}.sql").into(),
            format!("{script}\n").into_bytes(),
        );
    }
}

/// Publishes 2,000 events over forty minutes around midnight, with faults.
fn publish(mut generator: Command, run: &str) {
    generator.args(["--count", "2000", "--event-rate", "50/min", "--from", "2026-11-24T23:40:00Z", "--run-id", run]);
    generator.args(["--fault", "invalid=1%,corrupt=1%,duplicate=1%"]);
    succeed(generator);
}

/// Produces events with the fields: one with non-default values, and one invalid event per field.
fn produce_foreign(stack: &Stack) {
    let with =
        |number, members: &str| Record::of(0, event(number, now(), "tools").replace('}', &format!(",{members}}}")));
    produce(
        stack,
        &[
            with(1, &format!(r#""{TEXT}":"app","{INTEGER}":7"#)),
            with(2, &format!(r#""{TEXT}":"""#)),
            with(3, &format!(r#""{INTEGER}":-1"#)),
        ],
    );
}

/// Columns and privileges of the view.
struct View {
    columns: Vec<String>,
    grants: String,
}

impl View {
    fn of(stack: &Stack) -> Self {
        let columns = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'staging.product_events'::regclass
                       AND attnum > 0 ORDER BY attnum";
        let grants =
            "SELECT (relowner::regrole, relacl)::text FROM pg_class WHERE oid = 'staging.product_events'::regclass";
        let columns = query(stack, columns).iter().map(|row| row.get(0)).collect();
        Self { columns, grants: query(stack, grants)[0].get(0) }
    }

    fn assert_extended(mut self, stack: &Stack) {
        let now = Self::of(stack);
        self.columns.extend([TEXT.to_owned(), INTEGER.to_owned()]);
        assert_eq!((now.columns, now.grants), (self.columns, self.grants));
        execute_as(stack, READER, &format!("SELECT {TEXT}, {INTEGER} FROM staging.product_events")).unwrap();
    }
}

/// Checks that records of the changed programs have both fields and earlier records have neither.
fn arrived_in_kafka(stack: &Stack) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", stack.bootstrap_servers()).set("group.id", "add-a-field");
    config.set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    let ends = local_stack::end_offsets(&stack.bootstrap_servers(), "product-events").unwrap();
    let mut all = TopicPartitionList::new();
    for partition in ends.keys() {
        all.add_partition_offset("product-events", *partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let (mut with, mut without, mut partitions) = (0, 0, ends.len());
    while partitions > 0 {
        match consumer.poll(std::time::Duration::from_secs(30)).expect("Kafka answers") {
            Ok(record) => {
                let value = String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned();
                let both = value.contains(&format!(r#","{TEXT}":"web","{INTEGER}":0}}"#));
                let none = value.ends_with('}') && !value.contains(TEXT) && !value.contains(INTEGER);
                with += u32::from(both);
                without += u32::from(none);
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => partitions -= 1,
            Err(error) => panic!("{error}"),
        }
    }
    // About 95% of a run's events are valid.
    assert!((1_900..2_100).contains(&with) && (3_800..4_200).contains(&without), "{with} with, {without} without");
}

/// Checks that files of the changed programs have both columns and earlier files have neither.
fn arrived_in_parquet(stack: &Stack) {
    let lake = crate::support::open_lake(stack);
    let files: Vec<(String, Bytes)> = runtime().block_on(async {
        let mut files = Vec::new();
        for object in lake.list("raw").await.unwrap() {
            files.push((object.key.clone(), lake.get(&object.key).await.unwrap().unwrap()));
        }
        files
    });
    let mut rows = 0;
    for (key, bytes) in files {
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let (text, integer) = (batch.column_by_name(TEXT), batch.column_by_name(INTEGER));
            if !key.contains(RUNS[2]) {
                assert!(text.is_none() && integer.is_none(), "{key}");
                continue;
            }
            rows += batch.num_rows();
            assert!(text.unwrap().as_string::<i32>().iter().all(|value| value == Some("web")), "{key}");
            assert!(integer.unwrap().as_primitive::<Int32Type>().iter().all(|value| value == Some(0)), "{key}");
        }
    }
    assert!(rows > 1_900, "{rows}");
}

/// Checks that all rows but one have the defaults, including rows and records from before the change.
fn arrived_in_postgresql(stack: &Stack) {
    for relation in ["staging.product_events_raw", "staging.product_events"] {
        let of = |condition: &str| number(stack, &format!("SELECT count(*) FROM {relation} WHERE {condition}"));
        let defaults = of(&format!("{TEXT} = 'web' AND {INTEGER} = 0"));
        assert!((5_700..6_000).contains(&defaults), "{relation}: {defaults}");
        assert_eq!(of(&format!("{TEXT} = 'app' AND {INTEGER} = 7")), 1, "{relation}");
        assert_eq!(of("true"), defaults + 1, "{relation}");
    }
    let refused = |field: &str, code: &str| {
        let sql = "SELECT count(*) FROM pipeline.dead_letters";
        number(stack, &format!("{sql} WHERE reason_code = '{code}' AND reason LIKE '{field}: %'"))
    };
    assert_eq!((refused(TEXT, "text_empty"), refused(INTEGER, "out_of_range")), (1, 1));
}
