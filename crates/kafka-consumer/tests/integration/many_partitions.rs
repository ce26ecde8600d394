//! A topic with hundreds of partitions, which share one queue.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::records::{Record, event, now, produce};
use crate::support::{WRITER, catch_up, consumer, fail, number, printed, program, runtime, signal, wait_until};
use local_stack::Stack;
use pipeline_runtime::kafka::{Watermarks, watermarks};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::{ClientContext, Statistics};

const PARTITIONS: i32 = 200;
const TOPIC: &str = "product-events";
const ROWS: &str = "SELECT count(*) FROM staging.product_events_raw";

fn stack() -> Stack {
    let stack = Stack::ephemeral().unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", stack.bootstrap_servers()).create().unwrap();
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
    let made = runtime().block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    stack
}

/// Sends one record to each partition.
fn send(stack: &Stack, first: u32) {
    let numbers = (first..).zip(0..PARTITIONS);
    let records: Vec<Record> =
        numbers.map(|(number, partition)| Record::of(partition, event(number, now(), "tools"))).collect();
    produce(stack, &records);
}

/// Counts the requests for offsets that a client sends.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<i64>>);

impl ClientContext for Requests {
    fn stats(&self, statistics: Statistics) {
        let sent = statistics.brokers.values().filter_map(|broker| broker.req.get("ListOffsets"));
        *self.0.lock().unwrap() = sent.sum();
    }
}

impl ConsumerContext for Requests {}

#[test]
fn the_number_of_requests_does_not_depend_on_the_partitions() {
    let stack = stack();
    send(&stack, 0);
    let requests = Requests::default();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", stack.bootstrap_servers()).set("group.id", "a");
    config.set("statistics.interval.ms", "20");
    let client = BaseConsumer::from_config_and_context(&config, requests.clone()).unwrap();
    let limit = Duration::from_secs(10);
    let partitions = watermarks::partitions(&client, TOPIC, limit).unwrap();
    let found = watermarks::watermarks(&client, TOPIC, &partitions, limit).unwrap();
    assert_eq!(found.len(), 200);
    assert!(found.values().all(|one| *one == Watermarks { low: 0, high: 1 }), "{found:?}");
    assert_eq!(watermarks::ends(&client, TOPIC, &partitions, limit).unwrap().len(), 200);
    assert_eq!(watermarks::offsets_at(&client, TOPIC, &partitions, 1, limit).unwrap().len(), 200);
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        drop(client.poll(Duration::from_millis(20)));
    }
    assert_eq!(*requests.0.lock().unwrap(), 4, "one for each question, and two for the watermarks");
    assert!(watermarks::watermarks(&client, TOPIC, &[0, 200], limit).is_err(), "there is no partition 200");
}

/// Returns the processor time of a process.
fn processor_time(child: &Child) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..=12].iter().map(|one| one.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Returns the processor time that a consumer takes within five seconds.
fn processor_time_of_five_seconds(child: &Child) -> Duration {
    let before = processor_time(child);
    sleep(Duration::from_secs(5));
    processor_time(child).saturating_sub(before)
}

fn quiet(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_consumer_of_many_partitions() {
    let stack = stack();
    let mut child = quiet(consumer(&stack));
    let owned = "SELECT count(topic_id) FROM pipeline.consumer_offsets";
    wait_until(&mut child, || number(&stack, owned) == 200);
    send(&stack, 0);
    wait_until(&mut child, || number(&stack, ROWS) == 200);
    sleep(Duration::from_secs(2));
    let took = processor_time_of_five_seconds(&child);
    println!("idle for five seconds: {took:?}");
    assert!(took <= Duration::from_millis(250), "{took:?}");
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());

    let servers = stack.bootstrap_servers();
    let set = ["offsets", "set", "--bootstrap-servers", &servers, "--reason", "a test", "--to-earliest"];
    assert_eq!(
        printed(&stack, &set).lines().filter(|line| line.ends_with("1 to 0, rereads up to 1 record")).count(),
        200
    );
    send(&stack, 200);
    catch_up(&stack, &[]);
    assert_eq!(number(&stack, ROWS), 400);
    assert_eq!(number(&stack, "SELECT sum(duplicates)::bigint FROM pipeline.consumer_offsets"), 200);
    // All records were read to the end of each partition, and nothing is left.
    catch_up(&stack, &["--memory-limit", "140MiB"]);
    assert_eq!(number(&stack, "SELECT sum(records)::bigint FROM pipeline.consumer_offsets"), 600);
    let refusal = fail(
        &stack,
        WRITER,
        &["run", "--bootstrap-servers", &servers, "--memory-limit", "128MiB", "--http-addr", "off"],
        2,
    );
    let doctor = ["doctor", "--bootstrap-servers", &servers, "--memory-limit", "128MiB", "--no-lake", "--json"];
    let doctor = program(&stack, WRITER, &doctor).output().unwrap();
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("128MiB is too small for 200 partitions"), "{doctor:?}");
    assert!(refusal.contains("--memory-limit 128MiB is too small for 200 partitions; use at least"), "{refusal}");
}
