//! Requests to the servers with the client libraries that the programs use.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::Path;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::config::{Builder, Credentials};
use local_stack::S3Access;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// Waits for a condition and panics after a minute.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns true if a process exists and is no zombie.
pub(crate) fn exists(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    Path::new(&format!("/proc/{pid}")).exists() && !stat.contains(") Z ")
}

/// Returns the topics of a broker except internal ones.
pub(crate) fn topics(servers: &str) -> Vec<String> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let metadata = client.fetch_metadata(None, Duration::from_secs(10)).unwrap();
    metadata.topics().iter().map(|topic| topic.name().to_owned()).filter(|name| !name.starts_with("__")).collect()
}

/// Creates a topic with one replica.
pub(crate) fn create_topic(servers: &str, name: &str, partitions: i32) {
    let client: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    runtime().block_on(client.create_topics([&topic], &AdminOptions::new())).unwrap();
}

/// Returns keys and values of the first records of a partition.
pub(crate) fn records(servers: &str, topic: &str, partition: i32, count: usize) -> Vec<(String, String)> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", servers).set("group.id", "local-stack-test").create().unwrap();
    let mut start = TopicPartitionList::new();
    start.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    consumer.assign(&start).unwrap();
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
    std::iter::from_fn(|| consumer.poll(Duration::from_secs(10)))
        .map(|record| record.map(|record| (text(record.key()), text(record.payload()))).unwrap())
        .take(count)
        .collect()
}

/// Runs SQL and returns the first column of the last row.
pub(crate) fn query_one(url: &str, sql: &str) -> String {
    runtime().block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let messages = client.simple_query(sql).await.unwrap();
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        rows.last().unwrap_or_default()
    })
}

/// Returns the names of all buckets.
pub(crate) fn listed_buckets(access: &S3Access) -> Vec<String> {
    let listed = runtime().block_on(s3(access).list_buckets().send()).unwrap();
    listed.buckets().iter().filter_map(|bucket| bucket.name().map(str::to_owned)).collect()
}

pub(crate) fn put(access: &S3Access, bucket: &str, key: &str, body: &[u8]) -> Result<(), String> {
    let request = s3(access).put_object().bucket(bucket).key(key).body(body.to_vec().into());
    runtime().block_on(request.send()).map(drop).map_err(|error| error.to_string())
}

/// Reads an object from the default bucket.
pub(crate) fn get(access: &S3Access, key: &str) -> Vec<u8> {
    runtime().block_on(async {
        let object = s3(access).get_object().bucket(&access.bucket).key(key).send().await.unwrap();
        object.body.collect().await.unwrap().to_vec()
    })
}

fn s3(access: &S3Access) -> aws_sdk_s3::Client {
    let credentials = Credentials::new(&access.access_key, &access.secret_key, None, None, "test");
    let config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new(access.region.clone()))
        .credentials_provider(credentials)
        .endpoint_url(&access.endpoint)
        .force_path_style(true)
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
