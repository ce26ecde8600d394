//! Writes to the topic and queries it on behalf of a test.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use local_stack::Stack;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::consumer_process::{Member, offsets};
use crate::support::{generator, runtime, succeed, verify};

pub(crate) const TOPIC: &str = "product-events";

/// Publishes a run with faults and waits for its end.
pub(crate) fn publish(stack: &Stack, run: &str, count: u32) {
    let mut command = generator(stack);
    command.args(["--run-id", run, "--count", &count.to_string()]).args(FAULTS);
    succeed(command);
}

const FAULTS: [&str; 2] = ["--fault", "invalid=0.5%,corrupt=0.1%,duplicate=1%"];

/// A run at a fixed event rate in the background.
pub(crate) struct Flow {
    child: Child,
    run: String,
}

impl Flow {
    /// Starts a run with a rate in events per second and a duration in seconds.
    pub(crate) fn start(stack: &Stack, run: &str, rate: u32, seconds: u32) -> Self {
        let mut command: Command = generator(stack);
        // Drops the `--rate max` that `generator` adds.
        let arguments: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        let arguments: Vec<_> = arguments.into_iter().filter(|one| one != "--rate" && one != "max").collect();
        let mut live = Command::new(command.get_program());
        live.args(arguments).args(["--rate", &format!("{rate}/s"), "--duration", &format!("{seconds}s")]);
        live.args(["--run-id", run]).args(FAULTS);
        for (name, value) in command.get_envs() {
            live.env(name, value.unwrap());
        }
        command = live;
        let null = std::process::Stdio::null;
        Self { child: command.stdout(null()).stderr(null()).spawn().unwrap(), run: run.to_owned() }
    }

    /// Waits for the end of the run and until its events are committed, then stops the members and verifies.
    pub(crate) fn settle(mut self, stack: &Stack, mut members: Vec<Member>, within: Duration) {
        assert!(self.child.wait().unwrap().success());
        caught_up(stack, &mut members[0], within);
        for member in members {
            member.stop();
        }
        holds(stack, &self.run);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // The run has already ended unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the end offsets of the topic's partitions.
pub(crate) fn ends(stack: &Stack) -> Vec<(i32, i64)> {
    local_stack::end_offsets(&stack.bootstrap_servers(), TOPIC).unwrap().into_iter().collect()
}

/// Waits until the whole topic is committed. `within` limits the time without any progress.
pub(crate) fn caught_up(stack: &Stack, member: &mut Member, within: Duration) {
    let ends = ends(stack);
    let mut now = offsets(stack);
    while now != ends {
        let before = now.clone();
        member.within(within, &format!("further than {before:?} on the way to {ends:?}"), |_| {
            now = offsets(stack);
            now != before
        });
    }
}

/// Loads the remaining records and verifies.
pub(crate) fn finish(stack: &Stack, run: &str) {
    Member::of(stack, &["--until-caught-up"]).ended_with(0);
    holds(stack, run);
}

/// Asserts that the offsets are at the ends and the verifier's equations hold.
pub(crate) fn holds(stack: &Stack, run: &str) {
    assert_eq!(offsets(stack), ends(stack), "the offsets are at the ends of the partitions");
    let report = verify(stack, run);
    assert!(report.holds(), "{report}");
}

fn admin(stack: &Stack) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", stack.bootstrap_servers()).create().unwrap()
}

/// Creates the topic and waits until it exists.
pub(crate) fn make_topic(stack: &Stack, partitions: i32) {
    let new = NewTopic::new(TOPIC, partitions, TopicReplication::Fixed(1));
    runtime().block_on(async {
        admin(stack).create_topics([&new], &AdminOptions::new()).await.unwrap()[0].clone().unwrap()
    });
    wait_for_partitions(stack, usize::try_from(partitions).unwrap());
}

pub(crate) fn add_partitions(stack: &Stack, partitions: usize) {
    let new = NewPartitions::new(TOPIC, partitions);
    runtime().block_on(async {
        admin(stack).create_partitions([&new], &AdminOptions::new()).await.unwrap()[0].clone().unwrap()
    });
    wait_for_partitions(stack, partitions);
}

/// Deletes the topic and waits until it is gone.
pub(crate) fn delete_topic(stack: &Stack) {
    runtime().block_on(async {
        admin(stack).delete_topics(&[TOPIC], &AdminOptions::new()).await.unwrap()[0].clone().unwrap()
    });
    wait_for_partitions(stack, 0);
}

/// Deletes all records before these offsets, as retention does.
pub(crate) fn delete_before(stack: &Stack, offsets: &[(i32, i64)]) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(TOPIC, *partition, Offset::Offset(*offset)).unwrap();
    }
    runtime().block_on(async { admin(stack).delete_records(&list, &AdminOptions::new()).await.unwrap() });
}

fn wait_for_partitions(stack: &Stack, partitions: usize) {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", stack.bootstrap_servers()).create().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let metadata = client.fetch_metadata(Some(TOPIC), Duration::from_secs(10)).unwrap();
        if metadata.topics()[0].partitions().iter().filter(|one| one.leader() >= 0).count() == partitions {
            return;
        }
        assert!(Instant::now() < deadline, "the topic does not have {partitions} partitions");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends values to a partition in order.
pub(crate) fn send(stack: &Stack, partition: i32, values: impl IntoIterator<Item = String>) {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", stack.bootstrap_servers()).create().unwrap();
    for value in values {
        producer.send(BaseRecord::to(TOPIC).partition(partition).key("1").payload(&value)).map_err(|e| e.0).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

/// Sends records to partition 0 in a Kafka transaction, then commits or aborts it.
pub(crate) fn transaction(stack: &Stack, records: u32, commit: bool) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", stack.bootstrap_servers())
        .set("transactional.id", "a test")
        .create()
        .unwrap();
    let timeout = Duration::from_secs(20);
    producer.init_transactions(timeout).unwrap();
    producer.begin_transaction().unwrap();
    for _ in 0..records {
        let value = if commit { "committed" } else { "aborted" };
        producer.send(BaseRecord::to(TOPIC).partition(0).key("1").payload(value)).map_err(|e| e.0).unwrap();
    }
    producer.flush(timeout).unwrap();
    if commit { producer.commit_transaction(timeout) } else { producer.abort_transaction(timeout) }.unwrap();
}
