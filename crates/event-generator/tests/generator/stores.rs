//! Reads the stores back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use event_model::{ProductEvent, Window, parse, read_batch};
use lake::{EventFile, Manifest, QUARANTINE_PREFIX, QuarantineFile, QuarantineRow, RAW_PREFIX, RUNS_PREFIX};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use workload::{RunTag, Settings, Source, decode_event_id};

use crate::servers::Target;

/// All records of a topic.
#[derive(Debug, Default)]
pub(crate) struct Topic {
    pub(crate) records: u64,
    pub(crate) end_offsets: BTreeMap<i32, i64>,
    /// By index, the number of records of each valid event.
    pub(crate) events: BTreeMap<u64, u32>,
    /// Indices in the headers of corrupt records.
    pub(crate) corrupt: Vec<u64>,
    /// Headers of the last valid event.
    pub(crate) headers: Vec<(String, String)>,
    /// True if the events of each user are in the order of their indices.
    pub(crate) in_order: bool,
}

/// Returns the number of records in a topic.
pub(crate) fn records_in(target: &Target) -> i64 {
    ends(target).values().sum()
}

fn consumer(target: &Target) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &target.bootstrap_servers)
        .set("group.id", "test")
        .set("enable.auto.commit", "false");
    config.create().unwrap()
}

/// Returns the end offset of each partition.
fn ends(target: &Target) -> BTreeMap<i32, i64> {
    local_stack::end_offsets(&target.bootstrap_servers, &target.topic).unwrap()
}

pub(crate) fn read_topic(target: &Target, tag: RunTag) -> Topic {
    let consumer = consumer(target);
    let ends = ends(target);
    let mut all = TopicPartitionList::new();
    for partition in ends.keys() {
        all.add_partition_offset(&target.topic, *partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let expected: i64 = ends.values().sum();
    let mut topic = Topic { in_order: true, ..Topic::default() };
    let mut last_of_user = HashMap::new();
    let deadline = Instant::now() + Duration::from_mins(1);
    while i64::try_from(topic.records).unwrap() < expected {
        assert!(Instant::now() < deadline, "{} of {expected} records", topic.records);
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            topic.note(&message.unwrap(), tag, &mut last_of_user);
        }
    }
    topic.end_offsets = ends.into_iter().filter(|(_, end)| *end > 0).collect();
    topic
}

impl Topic {
    fn note(&mut self, message: &BorrowedMessage<'_>, tag: RunTag, last_of_user: &mut HashMap<i32, u64>) {
        self.records += 1;
        let headers: Vec<(String, String)> = message
            .headers()
            .map(|headers| {
                let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
            })
            .unwrap_or_default();
        let Ok(event) = parse(message.payload(), None, Window::default()) else {
            assert_eq!(headers[0], ("run".to_owned(), tag.to_string()));
            assert_eq!(headers[1].0, "index");
            self.corrupt.push(headers[1].1.parse().unwrap());
            return;
        };
        let (run, index) = decode_event_id(event.event_id).unwrap();
        assert_eq!(run, tag);
        assert_eq!(message.key().unwrap(), event.user_id.to_string().as_bytes());
        let times = self.events.entry(index).or_default();
        *times += 1;
        // A duplicate may follow its event much later.
        if *times == 1 {
            self.in_order &= last_of_user.insert(event.user_id, index).is_none_or(|last| last <= index);
        }
        self.headers = headers;
    }
}

/// All files of a lake.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Keys and sizes.
    pub(crate) objects: BTreeMap<String, u64>,
    /// Indices of the rows of the raw files.
    pub(crate) raw: BTreeSet<u64>,
    pub(crate) raw_rows: u64,
    pub(crate) quarantine: Vec<QuarantineRow>,
    pub(crate) manifests: Vec<Manifest>,
}

pub(crate) async fn read_lake(target: &Target) -> Files {
    let lake = target.open_lake().await;
    let mut files = Files::default();
    for object in lake.list("").await.unwrap() {
        let bytes = lake.get(&object.key).await.unwrap().unwrap();
        let key = object.key.as_str();
        if key.starts_with(RAW_PREFIX) {
            for batch in EventFile::open(key, bytes).unwrap() {
                let batch = batch.unwrap();
                let events: Vec<ProductEvent<'_>> = read_batch(&batch).unwrap().map(Result::unwrap).collect();
                files.raw_rows += events.len() as u64;
                files.raw.extend(events.iter().map(|event| decode_event_id(event.event_id).unwrap().1));
            }
        } else if key.starts_with(QUARANTINE_PREFIX) {
            let rows = QuarantineFile::open(key, bytes).unwrap().map(Result::unwrap);
            files.quarantine.extend(rows.flatten());
        } else {
            assert!(key.starts_with(RUNS_PREFIX), "{key}");
            files.manifests.push(Manifest::from_json(key, &bytes).unwrap());
        }
        files.objects.insert(object.key, object.size);
    }
    files
}

/// Returns the number of objects in a lake.
pub(crate) async fn objects_in(target: &Target) -> i64 {
    i64::try_from(target.open_lake().await.list("").await.unwrap().len()).unwrap()
}

/// Verifies a finished run of valid events: each is in both stores once, and in Kafka in order per user. Returns their
/// number.
pub(crate) async fn verify_stores(target: &Target) -> u64 {
    let files = read_lake(target).await;
    let manifest = &files.manifests[0];
    let settings: Settings = serde_json::from_value(manifest.settings.clone()).unwrap();
    let topic = read_topic(target, Source::new(settings).unwrap().run_tag());
    assert_eq!((files.raw_rows, topic.records), (manifest.next_index, manifest.next_index));
    assert!(topic.events.into_keys().eq(files.raw), "the same events");
    assert!(topic.in_order);
    files.raw_rows
}
