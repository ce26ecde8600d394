//! Writes a [`State`] to real servers.

use std::iter;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use aws_sdk_s3::Client as S3Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use local_stack::Stack;
use parquet::arrow::ArrowWriter;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};
use verifier::{LakeAt, Report, Run, S3Access, Stores, Terms, verify};

use crate::state::{Event, PARTITIONS, QuarantineFile, Record, State};

pub(crate) struct Servers {
    stack: Stack,
    runtime: Runtime,
    database: Client,
    s3: S3Client,
}

impl Servers {
    pub(crate) fn start() -> Self {
        let stack = Stack::ephemeral().unwrap();
        let runtime = Runtime::new().unwrap();
        let database = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&stack.database_url(), NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        let access = stack.s3();
        let config = Builder::new()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new(access.region))
            .credentials_provider(Credentials::new(access.access_key, access.secret_key, None, None, "test"))
            .endpoint_url(access.endpoint)
            .force_path_style(true)
            .build();
        let servers = Self { stack, runtime, database, s3: S3Client::from_conf(config) };
        servers.make_tables();
        servers
    }

    /// Creates the pipeline's tables without the constraints that would reject damage: the verifier must not rely on
    /// them.
    fn make_tables(&self) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../db_table_scripts");
        let scripts = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut scripts: Vec<PathBuf> =
            scripts.filter(|path| path.extension().is_some_and(|kind| kind == "sql")).collect();
        scripts.sort();
        // Some scripts grant SELECT on the list of applied scripts, which `kafka-consumer migrate` creates.
        let history = "create table public.event_pipeline_schema_history ()".to_owned();
        for sql in iter::once(history).chain(scripts.iter().map(|script| std::fs::read_to_string(script).unwrap())) {
            self.runtime.block_on(self.database.batch_execute(&sql)).unwrap();
        }
        let sql = "select pipeline.ensure_partition('2026-11-22'), pipeline.ensure_partition('2026-11-23');
            drop index staging.product_events_raw_20261122_event_id;
            alter table pipeline.dead_letters drop constraint dead_letters_pkey;
            alter table pipeline.consumer_offsets drop constraint consumer_offsets_counts_add_up";
        self.runtime.block_on(self.database.batch_execute(sql)).unwrap();
    }

    /// Writes a run to PostgreSQL and reads the counts of its group.
    pub(crate) fn counts(&self, state: &State) -> verifier::Counts {
        self.fill_database(state);
        let lake = LakeAt::Folder(PathBuf::new());
        let stores = Stores { bootstrap_servers: String::new(), database_url: self.stack.database_url(), lake };
        verifier::count(&stores, &state.group(), &state.topic()).unwrap()
    }

    /// Writes a run to all stores and verifies it. The lake is a folder or, without one, a prefix of the bucket.
    pub(crate) fn verify(
        &self,
        state: &State,
        folder: Option<PathBuf>,
        terms: &Terms,
    ) -> Result<Report, verifier::Error> {
        let access = self.stack.s3();
        let lake = match folder {
            Some(folder) => LakeAt::Folder(folder),
            None => LakeAt::S3 {
                bucket: access.bucket,
                prefix: format!("lakes/{}", state.run_id()),
                access: Some(S3Access {
                    endpoint: access.endpoint,
                    access_key: access.access_key,
                    secret_key: access.secret_key,
                    region: access.region,
                }),
            },
        };
        self.fill_topic(state);
        self.fill_database(state);
        self.fill_lake(state, &lake);
        let stores =
            Stores { bootstrap_servers: self.stack.bootstrap_servers(), database_url: self.stack.database_url(), lake };
        let run = Run::parse(&state.manifest.to_string(), "test")?;
        verify(&stores, &run, terms)
    }

    fn fill_topic(&self, state: &State) {
        let config = ClientConfig::from_iter([("bootstrap.servers".to_owned(), self.stack.bootstrap_servers())]);
        let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
        let topic = state.topic();
        let new = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(1));
        let made = self.runtime.block_on(admin.create_topics(&[new], &AdminOptions::new())).unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        let producer: BaseProducer = config.create().unwrap();
        for record in &state.records {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: value.as_ref() })
            });
            let record = BaseRecord::to(&topic).partition(record.partition).key(&record.key).payload(&record.value);
            producer.send(record.headers(headers)).unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
    }

    fn fill_database(&self, state: &State) {
        let at = "timestamptz 'epoch' + $2::bigint * interval '1 microsecond'";
        let insert =
            format!("insert into staging.product_events_raw values ($1, {at}, 'rfq_sent', $3, 2, 3, $4, 'exp_1')");
        self.runtime.block_on(async {
            for event in &state.rows {
                let row: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                    [&event.id, &event.micros, &event.user, &event.category];
                self.database.execute(&insert, &row).await.unwrap();
            }
            for letter in &state.letters {
                self.insert_letter(state, letter).await;
            }
            for offsets in &state.offsets {
                let sql = "insert into pipeline.consumer_offsets (consumer_group, topic, partition, next_offset, records, \
                           rows_inserted, duplicates, dead_letters, expired, suppressed) \
                           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
                let o = offsets;
                let (group, topic) = (state.group(), state.topic());
                let counts = [o.next, o.records, o.rows, o.duplicates, o.letters, o.expired, o.suppressed];
                let keys: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&group, &topic, &o.partition];
                let counts = counts.iter().map(|count| count as &(dyn tokio_postgres::types::ToSql + Sync));
                let row: Vec<_> = keys.into_iter().chain(counts).collect();
                self.database.execute(sql, &row).await.unwrap();
            }
        });
    }

    async fn insert_letter(&self, state: &State, letter: &Record) {
        let sql = "insert into pipeline.dead_letters (consumer_group, topic, topic_incarnation, partition, \"offset\", key, payload, \
                   header_names, header_values, stage, reason_code, reason, discarded_at) \
                   values ($1, $2, 1, $3, $4, $5, $6, $7, $8, 'validate', 'not_json', 'it is not JSON', $9)";
        let (names, values): (Vec<&String>, Vec<&Option<Vec<u8>>>) = letter.headers.iter().map(|(n, v)| (n, v)).unzip();
        let payload = (!state.discarded).then_some(&letter.value);
        let discarded_at = state.discarded.then(std::time::SystemTime::now);
        let (group, topic) = (state.group(), state.topic());
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
            [&group, &topic, &letter.partition, &letter.offset, &letter.key, &payload, &names, &values, &discarded_at];
        self.database.execute(sql, &row).await.unwrap();
    }

    fn fill_lake(&self, state: &State, lake: &LakeAt) {
        let raw = state.raw.iter().map(|file| (&file.key, parquet(&raw_batch(&file.rows))));
        let refused = state.quarantine.iter().map(|file| (&file.key, parquet(&refused_batch(file))));
        for (key, mut bytes) in raw.chain(refused) {
            if state.torn.as_ref() == Some(key) {
                bytes.truncate(bytes.len() / 2);
            }
            self.put(lake, key, bytes);
        }
        self.put(lake, &format!("runs/{}.json", state.run_id()), state.manifest.to_string().into_bytes());
    }

    fn put(&self, lake: &LakeAt, key: &str, bytes: Vec<u8>) {
        match lake {
            LakeAt::Folder(folder) => {
                let path = folder.join(key);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            LakeAt::S3 { bucket, prefix, .. } => {
                let put = self.s3.put_object().bucket(bucket).key(format!("{prefix}/{key}")).body(bytes.into());
                self.runtime.block_on(put.send()).unwrap();
            }
        }
    }
}

fn raw_batch(rows: &[Event]) -> RecordBatch {
    let ids = rows.iter().map(|event| Some(event.id.to_string()));
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|event| event.micros));
    let int = |n: i32| -> ArrayRef { Arc::new(Int32Array::from(vec![n; rows.len()])) };
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; rows.len()])) };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("event_id", Arc::new(ids.collect::<StringArray>())),
        ("event_timestamp", Arc::new(times.with_timezone("UTC"))),
        ("event_type", text("rfq_sent")),
        ("user_id", Arc::new(Int32Array::from_iter_values(rows.iter().map(|event| event.user)))),
        ("account_id", int(2)),
        ("product_id", int(3)),
        ("category", Arc::new(StringArray::from_iter_values(rows.iter().map(|event| &event.category)))),
        ("experiment_id", text("exp_1")),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn refused_batch(file: &QuarantineFile) -> RecordBatch {
    let mut reasons = ListBuilder::new(StringBuilder::new());
    for _ in &file.rows {
        reasons.values().append_value("out_of_range");
        reasons.append(true);
    }
    let dues = TimestampMicrosecondArray::from_iter_values(file.rows.iter().map(|(_, due)| *due));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("event_index", Arc::new(UInt64Array::from_iter_values(file.rows.iter().map(|(index, _)| *index)))),
        ("due", Arc::new(dues.with_timezone("UTC"))),
        ("raw", Arc::new(StringArray::from(vec!["{}"; file.rows.len()]))),
        ("reason_codes", Arc::new(reasons.finish())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}
