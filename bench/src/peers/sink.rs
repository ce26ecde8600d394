//! Sinks and their command lines.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use event_model::{FIELD_NAMES, FIELDS, Field, FieldKind};

use super::keys::Keys;
use super::stage::{Source, Stage};
use crate::programs::fetched;
use crate::watched::Watched;

/// A program that brings the topic's events into PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[expect(clippy::doc_markdown, reason = "the comment is the help")]
pub(crate) enum Sink {
    KafkaConsumer,
    /// psql \copy of the same rows from a CSV file, without Kafka, as a reference
    PsqlCopy,
    /// Bento with a batch as one JSON parameter
    Bento,
    /// Kafka Connect with Debezium's JDBC sink
    Debezium,
    /// Kafka Connect with Aiven's JDBC sink, whose jars are in the folder AIVEN_JDBC
    Aiven,
    /// Python: confluent-kafka, COPY and a merge
    PythonCopy,
    /// Python: kafka-python and execute_values
    PythonValues,
}

/// A sink and its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    pub(crate) sink: Sink,
    pub(crate) keys: Keys,
}

impl Candidate {
    /// Returns true if the table stores duplicate records as one row.
    pub(crate) fn is_safe(self) -> bool {
        self.keys != Keys::Keyless
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = match self.keys {
            Keys::Own if self.sink == Sink::KafkaConsumer => "",
            Keys::Own => ", kafka-consumer's table",
            Keys::Keyed => ", keyed",
            Keys::Keyless => ", without a key",
        };
        f.pad(&format!("{}{keys}", self.sink))
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KafkaConsumer => "kafka-consumer",
            Self::PsqlCopy => "psql \\copy",
            Self::Bento => "Bento",
            Self::Debezium => "Debezium JDBC",
            Self::Aiven => "Aiven JDBC",
            Self::PythonCopy => "Python COPY",
            Self::PythonValues => "Python execute_values",
        })
    }
}

impl Sink {
    pub(crate) const ALL: [Self; 7] = [
        Self::KafkaConsumer,
        Self::PsqlCopy,
        Self::Bento,
        Self::Debezium,
        Self::Aiven,
        Self::PythonCopy,
        Self::PythonValues,
    ];

    pub(crate) fn candidates(self) -> impl Iterator<Item = Candidate> {
        let keys: &[Keys] = match self {
            Self::KafkaConsumer => &[Keys::Own],
            Self::PsqlCopy => &[Keys::Own, Keys::Keyed, Keys::Keyless],
            _ => &[Keys::Keyed, Keys::Keyless],
        };
        keys.iter().map(move |keys| Candidate { sink: self, keys: *keys })
    }

    /// Returns the missing prerequisite, if any.
    pub(crate) fn missing(self) -> Option<String> {
        if self == Self::Aiven && aiven().is_none() {
            return Some("AIVEN_JDBC is not a folder with its jars".to_owned());
        }
        let needed: &[&str] = match self {
            Self::KafkaConsumer | Self::PsqlCopy => &[],
            Self::Bento => &["bento/bento"],
            Self::Debezium => &["connect/runtime", "connect/plugins/debezium"],
            Self::Aiven => &["connect/runtime"],
            Self::PythonCopy | Self::PythonValues => &["python/bin/python3"],
        };
        let missing = needed.iter().map(|name| fetched(name)).find(|path| !path.exists())?;
        Some(format!("{} is missing; run 'scripts/setup peers'", missing.display()))
    }
}

impl Candidate {
    /// Starts the sink. Its output is appended to the log of the source.
    pub(crate) fn start(self, stage: &Stage, source: &Source) -> Watched {
        let log = File::options().append(true).create(true).open(stage.log(source)).unwrap();
        let mut command = self.command(stage, source);
        Watched::start(command.stdout(log.try_clone().unwrap()).stderr(log))
    }

    /// Returns the command of the sink, which reads `source` until it is stopped.
    fn command(self, stage: &Stage, source: &Source) -> Command {
        match self.sink {
            Sink::KafkaConsumer => stage.environment.consumer(&source.group, &source.topic),
            Sink::PsqlCopy => stage.copy(self.keys),
            Sink::Bento => self.bento(stage, source),
            Sink::Debezium => self.debezium(stage, source),
            Sink::Aiven => self.aiven(stage, source),
            Sink::PythonCopy => self.python("copy_and_merge.py", stage, source),
            Sink::PythonValues => self.python("execute_values.py", stage, source),
        }
    }

    fn bento(self, stage: &Stage, source: &Source) -> Command {
        let mut command = Command::new(fetched("bento/bento"));
        command.arg("run").arg(ours_in("bento/insert.yaml"));
        self.variables(&mut command, stage, source);
        command
    }

    fn python(self, script: &str, stage: &Stage, source: &Source) -> Command {
        let mut command = Command::new(fetched("python/bin/python3"));
        command.arg(ours_in("python").join(script));
        self.variables(&mut command, stage, source);
        command
    }

    fn variables(self, command: &mut Command, stage: &Stage, source: &Source) {
        command
            .env("BOOTSTRAP_SERVERS", stage.environment.stack.bootstrap_servers())
            .env("DSN", stage.environment.stack.database_url());
        command.env("TOPIC", &source.topic).env("GROUP", &source.group);
        command.env("TABLE", self.keys.table()).env("KEYED", if self.is_safe() { "1" } else { "0" });
        let definition = |field: &Field| format!("{} {}", field.name, field.kind.sql_type());
        let definitions = FIELDS.iter().map(definition).collect::<Vec<_>>().join(", ");
        command.env("COLUMNS", FIELD_NAMES.join(", ")).env("COLUMN_DEFINITIONS", definitions);
    }

    fn debezium(self, stage: &Stage, source: &Source) -> Command {
        let mode = if self.is_safe() {
            "insert.mode=upsert\nprimary.key.mode=record_value\nprimary.key.fields=event_id"
        } else {
            "insert.mode=insert\nprimary.key.mode=none"
        };
        let connector = format!(
            "connection.url={}?reWriteBatchedInserts=true\ncollection.name.format={}\n{mode}\n",
            stage.jdbc_url(),
            self.keys.table(),
        );
        connect(stage, source, "connect/debezium.properties", &connector, &fetched("connect/plugins/debezium"))
    }

    fn aiven(self, stage: &Stage, source: &Source) -> Command {
        let mode = if self.is_safe() {
            "insert.mode=upsert\npk.mode=record_value\npk.fields=event_id"
        } else {
            "insert.mode=multi\npk.mode=none"
        };
        // `stringtype=unspecified` makes PostgreSQL convert strings to uuid and timestamptz.
        let connector = format!(
            "connection.url={}?reWriteBatchedInserts=true&stringtype=unspecified\ntable.name.format={}\n{mode}\n",
            stage.jdbc_url(),
            self.keys.table(),
        );
        connect(stage, source, "connect/aiven.properties", &connector, &aiven().expect("AIVEN_JDBC"))
    }
}

/// Returns a standalone Kafka Connect worker with one connector. The plugin path is the parent of the connector's
/// folder.
fn connect(stage: &Stage, source: &Source, settings: &str, connector: &str, plugin: &Path) -> Command {
    let name = &source.group;
    let worker = format!(
        "value.converter.schema.content={}\nbootstrap.servers={}\nplugin.path={}\nlisteners=http://127.0.0.1:{}\noffset.storage.file.filename={}\n",
        record_schema(),
        stage.environment.stack.bootstrap_servers(),
        plugin.parent().expect("a folder of plugins").display(),
        local_stack::free_port().unwrap(),
        stage.file(&format!("{name}.offsets")).display(),
    );
    let connector = format!(
        "name={name}\ntopics={}\nerrors.deadletterqueue.topic.name={}\n{connector}",
        source.topic,
        source.dead_letters(),
    );
    let worker =
        stage.write(&format!("{name}-worker.properties"), &(settings_of("connect/worker.properties") + &worker));
    let connector = stage.write(&format!("{name}.properties"), &(settings_of(settings) + &connector));
    let mut command = Command::new(local_stack::kafka::java());
    command.arg("-Xmx2g").arg("-cp").arg(fetched("connect/runtime/*"));
    command.arg(format!("-Dlog4j2.configurationFile={}", ours_in("connect/log4j2.properties").display()));
    command.arg("org.apache.kafka.connect.cli.ConnectStandalone").arg(worker).arg(connector);
    command
}

/// Returns the schema of a record's value in Kafka Connect's terms. Our records are plain JSON, but a JDBC sink needs
/// types. Debezium's sink converts strings to uuid and timestamptz by the names of their schemas.
fn record_schema() -> serde_json::Value {
    let field = |field: &Field| {
        let (kind, name) = match field.kind {
            FieldKind::Integer => ("int32", None),
            FieldKind::EventType | FieldKind::Text => ("string", None),
            FieldKind::Uuid => ("string", Some("io.debezium.data.Uuid")),
            FieldKind::Timestamp => ("string", Some("io.debezium.time.ZonedTimestamp")),
        };
        let mut schema = serde_json::json!({"field": field.name, "type": kind, "optional": false});
        if let Some(name) = name {
            schema["name"] = name.into();
        }
        schema
    };
    let fields: Vec<_> = FIELDS.iter().map(field).collect();
    serde_json::json!({"type": "struct", "optional": false, "fields": fields})
}

fn settings_of(name: &str) -> String {
    std::fs::read_to_string(ours_in(name)).unwrap() + "\n"
}

fn aiven() -> Option<PathBuf> {
    std::env::var_os("AIVEN_JDBC").map(PathBuf::from).filter(|folder| folder.is_dir())
}

/// Returns the path of a file in `bench/peers`.
fn ours_in(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}
