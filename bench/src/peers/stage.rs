//! Servers, topics with events, the tables of the sinks and their expected contents.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use event_model::{FIELDS, Field, FieldKind};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::keys::Keys;
use crate::dump;
use crate::environment::Environment;
use crate::programs::{make_partitions, settle, succeed};
use crate::watched::Watched;

/// Interval between two looks at the table. Each takes a fraction of a millisecond.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the DDL of the peers' tables, with the columns of an event.
fn tables() -> String {
    let column = |field: &Field| format!("{} {} NOT NULL", field.name, field.kind.sql_type());
    let columns = FIELDS.iter().map(column).collect::<Vec<_>>().join(", ");
    format!(
        "CREATE SCHEMA peers;
         CREATE TABLE peers.keyless ({columns});
         CREATE TABLE peers.keyed (LIKE peers.keyless, PRIMARY KEY (event_id));"
    )
}

/// Size of a table, including all partitions of a partitioned one.
const BYTES: &str = "SELECT coalesce((SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree($1::text::regclass)
    WHERE isleaf), pg_relation_size($1::text::regclass))::bigint";

/// Common environment of all candidates.
pub(crate) struct Stage {
    pub(crate) environment: Environment,
    runtime: Runtime,
    client: Client,
    sources: Cell<u32>,
    /// Reused, so that polling a table costs the sinks little.
    prepared: RefCell<HashMap<String, Statement>>,
}

/// A topic and the rows expected from it.
pub(crate) struct Topic {
    name: String,
    /// Name of a table without a key that contains those rows.
    truth: String,
    rows: i64,
    bytes: i64,
    hash: String,
    /// `event_id` of the last event of each partition.
    last: Vec<String>,
}

/// A topic and the group that reads it from its beginning.
pub(crate) struct Source {
    pub(crate) topic: String,
    pub(crate) group: String,
}

impl Source {
    /// Returns the name of the dead-letter topic for Kafka Connect.
    pub(crate) fn dead_letters(&self) -> String {
        format!("{}-dead-letters", self.group)
    }
}

/// Difference between a table and the expected rows.
pub(crate) struct Difference {
    /// Number of expected rows that the table lacks.
    pub(crate) missing: i64,
    /// Number of rows beyond the first with the same `event_id`.
    pub(crate) doubled: i64,
    /// `user_id` of each row whose `event_id` is not expected.
    pub(crate) foreign: Vec<i32>,
}

impl Stage {
    pub(crate) fn set() -> Self {
        let environment = Environment::start();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, connection) =
            runtime.block_on(tokio_postgres::connect(&environment.stack.database_url(), NoTls)).unwrap();
        runtime.spawn(connection);
        runtime.block_on(client.batch_execute(&tables())).unwrap();
        // Planning a query on a table with many partitions takes longer than executing it.
        runtime.block_on(client.batch_execute("SET plan_cache_mode = force_generic_plan")).unwrap();
        Self { environment, runtime, client, sources: Cell::new(0), prepared: RefCell::default() }
    }

    /// Publishes the events of a separate run.
    pub(crate) fn generate(&self, topic: &str, run: &str, events: u64) {
        let mut command = self.environment.generator(topic, events);
        succeed(command.args(["--no-lake", "--no-headers", "--seed", "7", "-q", "--run-id", run]));
    }

    /// Publishes a record unchanged.
    pub(crate) fn publish(&self, topic: &str, value: &str) {
        let producer: BaseProducer = self.environment.client().create().unwrap();
        producer.send(BaseRecord::<str, str>::to(topic).payload(value).key("1")).unwrap();
        producer.flush(BROKER_TIMEOUT).unwrap();
    }

    /// Stores the events of a topic in a separate table of expected rows. The topic contains `events` valid events.
    pub(crate) fn read_truth(&self, topic: &str, events: u64) -> Topic {
        let truth = format!("peers.\"truth of {topic}\"");
        let (csv, binary) = (self.csv(), self.file("events.bin"));
        let dumped = dump::write(&self.environment.stack.bootstrap_servers(), topic, events, &csv, &binary);
        self.execute(&format!("CREATE TABLE {truth} (LIKE peers.keyless) WITH (autovacuum_enabled = off)"));
        // `kafka-consumer` creates its partitions itself, `psql` does not.
        make_partitions(&self.environment.stack.database_url(), &dumped.days);
        succeed(&mut self.copy_into(&truth));
        let (rows, hash) = self.sums(&truth);
        // `COPY` extends a table in advance, so the relation size exceeds the space in use.
        let used = "((max(ctid)::text::point)[0]::bigint + 1) * current_setting('block_size')::bigint";
        let bytes = self.ask(&format!("SELECT {used} FROM {truth}"), &[]).get(0);
        let last = dumped.last.into_values().collect();
        Topic { name: topic.to_owned(), truth, rows, bytes, hash, last }
    }

    /// Returns the topic with a new group.
    pub(crate) fn source(&self, topic: &Topic) -> Source {
        self.sources.set(self.sources.get() + 1);
        Source { topic: topic.name.clone(), group: format!("peers-{}", self.sources.get()) }
    }

    /// Loads the rows of the topic into each table without measuring it. The next candidate truncates the tables.
    ///
    /// A new PostgreSQL cluster creates its WAL segments during its first load. Later loads recycle them.
    pub(crate) fn warm_up(&self) {
        for keys in [Keys::Own, Keys::Keyed, Keys::Keyless] {
            succeed(&mut self.copy(keys));
        }
    }

    /// Empties the tables and flushes the disk.
    pub(crate) fn clear(&self) {
        for keys in [Keys::Own, Keys::Keyed, Keys::Keyless] {
            self.execute(&format!("TRUNCATE {}", keys.table()));
        }
        self.execute("CHECKPOINT");
        settle();
    }

    /// Returns the last 20 lines of the sink's log.
    pub(crate) fn said(&self, source: &Source) -> String {
        let text = std::fs::read_to_string(self.log(source)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub(crate) fn log(&self, source: &Source) -> PathBuf {
        self.file(&format!("{}.log", source.group))
    }

    pub(crate) fn bytes(&self, table: &str) -> i64 {
        self.ask(BYTES, &[&table]).get(0)
    }

    /// Waits until the table is larger than `bytes`. Returns false at the timeout, or if the sink has exited.
    pub(crate) fn await_more(&self, sink: &Watched, table: &str, bytes: i64, timeout: Duration) -> bool {
        let began = Instant::now();
        while self.bytes(table) <= bytes {
            if began.elapsed() > timeout || sink.has_ended() {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }

    /// Returns true if the table seems to contain all rows of the topic. Much cheaper than counting.
    pub(crate) fn seems_complete(&self, keys: Keys, topic: &Topic) -> bool {
        let table = keys.table();
        if keys == Keys::Keyless {
            return self.bytes(table) >= topic.bytes - topic.bytes / 200;
        }
        let query = format!("SELECT count(*) FROM {table} WHERE event_id = ANY($1::text[]::uuid[])");
        let last: i64 = self.ask(&query, &[&topic.last]).get(0);
        last == i64::try_from(topic.last.len()).unwrap()
    }

    /// Returns true if the table has at least as many rows as the topic. Counts them.
    pub(crate) fn has_all_rows(&self, keys: Keys, topic: &Topic) -> bool {
        let rows: i64 = self.ask(&format!("SELECT count(*) FROM {}", keys.table()), &[]).get(0);
        rows >= topic.rows
    }

    /// Waits until the table is complete or has not grown for `timeout`. A table without a key may contain duplicates,
    /// so its completeness cannot be detected by counting.
    pub(crate) fn await_rest(&self, keys: Keys, topic: &Topic, timeout: Duration) {
        let is_complete =
            || keys != Keys::Keyless && self.seems_complete(keys, topic) && self.has_all_rows(keys, topic);
        let (mut bytes, mut since) = (self.bytes(keys.table()), Instant::now());
        while since.elapsed() < timeout && !is_complete() {
            thread::sleep(LOOK * 5);
            let now = self.bytes(keys.table());
            if now != bytes {
                (bytes, since) = (now, Instant::now());
            }
        }
    }

    pub(crate) fn difference(&self, table: &str, topic: &Topic) -> Difference {
        let truth = &topic.truth;
        let lacks = |one: &str, other: &str, what: &str| {
            format!(
                "SELECT {what} FROM {one} AS one WHERE NOT EXISTS (SELECT FROM {other} AS other WHERE other.event_id = one.event_id)"
            )
        };
        let doubled = format!("SELECT count(*) - count(DISTINCT event_id) FROM {table}");
        Difference {
            missing: self.ask(&lacks(truth, table, "count(*)"), &[]).get(0),
            doubled: self.ask(&doubled, &[]).get(0),
            foreign: self.ask(&lacks(table, truth, "coalesce(array_agg(user_id), '{}')"), &[]).get(0),
        }
    }

    /// Fails if a row of the topic is missing, duplicated or changed.
    pub(crate) fn compare(&self, table: &str, topic: &Topic) {
        assert_eq!(self.sums(table), (topic.rows, topic.hash.clone()), "{table} differs from the topic");
    }

    /// Returns the number of rows and the sum of their hashes.
    fn sums(&self, table: &str) -> (i64, String) {
        let value = |field: &Field| match field.kind {
            FieldKind::Timestamp => format!("extract(epoch FROM {})", field.name),
            _ => field.name.to_owned(),
        };
        let values = FIELDS.iter().map(value).collect::<Vec<_>>().join(", ");
        let query = format!(
            "SELECT count(*), coalesce(sum(hashtextextended(concat_ws('|', {values}), 0)::numeric), 0)::text FROM {table}"
        );
        let row = self.ask(&query, &[]);
        (row.get(0), row.get(1))
    }

    /// Returns the number of dead letters of a group, in PostgreSQL and in the dead-letter topic for Kafka Connect.
    pub(crate) fn dead_letters(&self, source: &Source) -> i64 {
        let query = "SELECT count(*) FROM pipeline.dead_letters WHERE consumer_group = $1";
        let ours: i64 = self.ask(query, &[&source.group]).get(0);
        let ends = local_stack::end_offsets(&self.environment.stack.bootstrap_servers(), &source.dead_letters());
        ours + ends.map_or(0, |ends| ends.into_values().sum())
    }

    pub(crate) fn copy(&self, keys: Keys) -> Command {
        self.copy_into(keys.table())
    }

    fn copy_into(&self, table: &str) -> Command {
        dump::copy_in(&self.environment.stack.database_url(), table, &self.csv(), "csv")
    }

    pub(crate) fn jdbc_url(&self) -> String {
        format!(
            "jdbc:postgresql://127.0.0.1:{}/{}",
            self.environment.stack.postgres.port(),
            local_stack::defaults::DATABASE
        )
    }

    fn csv(&self) -> PathBuf {
        self.file("events.csv")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.environment.file(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.file(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn execute(&self, statement: &str) {
        self.runtime.block_on(self.client.batch_execute(statement)).unwrap();
    }

    fn ask(&self, query: &str, values: &[&(dyn ToSql + Sync)]) -> Row {
        let mut prepared = self.prepared.borrow_mut();
        let statement = prepared
            .entry(query.to_owned())
            .or_insert_with(|| self.runtime.block_on(self.client.prepare(query)).unwrap());
        self.runtime.block_on(self.client.query_one(statement, values)).unwrap()
    }
}

impl Topic {
    pub(crate) fn rows(&self) -> u64 {
        self.rows.unsigned_abs()
    }

    /// Returns the size of the rows in a table without a key.
    pub(crate) fn bytes(&self) -> i64 {
        self.bytes
    }
}
