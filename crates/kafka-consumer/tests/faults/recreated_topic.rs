//! The topic is deleted and recreated under the same name. The topic ID reveals this, regardless of partitions and
//! offsets.

use std::time::Duration;

use local_stack::{Kafka, Stack};
use pipeline_runtime::kafka::ClientErrors;
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use verifier::Terms;

use crate::consumer_process::{Member, offsets, rows};
use crate::group::{assigned, share};
use crate::poison::event;
use crate::support::{execute, number, verify_with};
use crate::test_topic::{TOPIC, caught_up, delete_topic, ends, make_topic, publish, send};

const RECREATED: &str = "topic product-events was deleted and recreated";
const ACCEPT: &str = "--allow-recreated-topic";

fn recreate(stack: &Stack, partitions: i32) {
    delete_topic(stack);
    make_topic(stack, partitions);
}

/// Starts a consumer and waits until it has read the whole topic.
fn reader(stack: &Stack, arguments: &[&str]) -> Member {
    let mut member = Member::of(stack, arguments);
    caught_up(stack, &mut member, Duration::from_secs(30));
    member
}

/// Asserts that the member stops within 20 s and names the cause and the flag.
fn stops(member: Member) {
    let (status, said) = member.ended(Duration::from_secs(20));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(RECREATED) && said.contains(ACCEPT), "{said}");
}

/// Asserts that the next start also fails and changes no offset.
fn is_refused(stack: &Stack) {
    let before = offsets(stack);
    stops(Member::of(stack, &["--until-caught-up"]));
    assert_eq!(offsets(stack), before);
}

/// Asserts that every event of the new topic becomes a row.
fn is_read_from_its_beginning(stack: &Stack, run: &str) {
    Member::of(stack, &["--until-caught-up", ACCEPT]).ended_with(0);
    let ends = ends(stack);
    assert_eq!(offsets(stack)[..ends.len()], ends);
    let report = verify_with(stack, run, &Terms::for_group("kafka-consumer").of_the_run_only());
    assert!(report.holds(), "{report}");
    Member::of(stack, &["--until-caught-up"]).ended_with(0);
}

/// The new topic grows past the old offsets before the consumer fetches again, so no offset is out of range.
fn while_it_runs(partitions: i32) {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "former", 3_000);
    let member = reader(&stack, &[]);
    recreate(&stack, partitions);
    publish(&stack, "latter", 40_000);
    stops(member);
    is_refused(&stack);
    is_read_from_its_beginning(&stack, "latter");
    let renewed = "SELECT count(*) FROM pipeline.consumer_offsets WHERE topic_incarnation = 2";
    assert_eq!(number(&stack, renewed), i64::from(partitions.max(6)), "also of partitions that are gone");
    let present = "SELECT count(*) FROM pipeline.consumer_offsets WHERE topic_id IS NOT NULL";
    assert_eq!(number(&stack, present), i64::from(partitions));
    let ids = "SELECT count(DISTINCT topic_id) FROM pipeline.consumer_offsets";
    assert_eq!(number(&stack, ids), 1);
    let left = "SELECT coalesce(sum(next_offset), 0)::bigint FROM pipeline.consumer_offsets WHERE partition >= ";
    assert_eq!(number(&stack, &format!("{left}{partitions}")), 0);
}

#[test]
fn with_as_many_partitions_while_it_runs() {
    while_it_runs(6);
}

#[test]
#[ignore = "fault"]
fn with_more_partitions_while_it_runs() {
    while_it_runs(9);
}

#[test]
#[ignore = "fault"]
fn with_fewer_partitions_while_it_runs() {
    while_it_runs(2);
}

#[test]
#[ignore = "fault"]
fn with_exactly_as_many_records_while_it_is_idle() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 2);
    let fill = || (0..2).for_each(|partition| send(&stack, partition, (1..=50).map(event)));
    fill();
    let member = reader(&stack, &[]);
    recreate(&stack, 2);
    fill();
    assert_eq!(offsets(&stack), ends(&stack), "no offset tells");
    stops(member);
    is_refused(&stack);
    Member::of(&stack, &["--until-caught-up", ACCEPT]).ended_with(0);
    assert_eq!((rows(&stack), offsets(&stack)), (200, ends(&stack)));
}

#[test]
#[ignore = "fault"]
fn after_a_gap_and_an_absence() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "former", 3_000);
    let mut member = reader(&stack, &["-X", "topic.metadata.refresh.interval.ms=500"]);
    delete_topic(&stack);
    member.until("the topic is unavailable", |member| {
        member.said().contains("topic unavailable") || assigned(member) == 0
    });
    member.stop();
    make_topic(&stack, 6);
    publish(&stack, "latter", 40_000);
    is_refused(&stack);
    is_read_from_its_beginning(&stack, "latter");
}

/// A topic without any read records: no fingerprint exists, and every offset is 0.
#[test]
#[ignore = "fault"]
fn before_anything_was_read() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 6);
    let mut member = Member::of(&stack, &[]);
    member.until("assigned", |member| assigned(member) == 6);
    recreate(&stack, 6);
    stops(member);
    publish(&stack, "latter", 3_000);
    is_refused(&stack);
    is_read_from_its_beginning(&stack, "latter");
}

#[test]
#[ignore = "fault"]
fn each_of_two_consumers_notices() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "former", 3_000);
    let (mut one, mut other) = (Member::of(&stack, &[]), Member::of(&stack, &[]));
    share(&mut one, &mut other);
    caught_up(&stack, &mut one, Duration::from_secs(30));
    recreate(&stack, 8);
    publish(&stack, "latter", 40_000);
    stops(one);
    stops(other);
    is_refused(&stack);
    is_read_from_its_beginning(&stack, "latter");
}

/// A supervisor restarts the consumer with the same flag.
#[test]
#[ignore = "fault"]
fn a_consumer_that_accepts_it_reads_the_new_topic_after_a_restart() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "former", 3_000);
    let member = reader(&stack, &[ACCEPT]);
    recreate(&stack, 6);
    publish(&stack, "latter", 40_000);
    stops(member);
    is_read_from_its_beginning(&stack, "latter");
}

/// A run with `--until-caught-up` must not succeed with the records of two topics.
#[test]
fn while_it_catches_up() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "former", 3_000);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    publish(&stack, "more", 3_000);
    let lock = crate::postgres::Lock::take(&stack, "LOCK TABLE staging.product_events_raw IN SHARE MODE");
    let mut member = Member::of(&stack, &["--until-caught-up"]);
    member.until("assigned", |member| assigned(member) == 6);
    recreate(&stack, 6);
    publish(&stack, "latter", 40_000);
    lock.release();
    stops(member);
    is_refused(&stack);
    is_read_from_its_beginning(&stack, "latter");
}

/// Rows of an earlier version that did not store the topic ID.
#[test]
#[ignore = "fault"]
fn an_older_versions_offsets_get_the_id_once_the_fingerprint_agrees() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "former", 3_000);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    let forget = "UPDATE pipeline.consumer_offsets SET topic_id = NULL";
    let missing = "SELECT count(*) FROM pipeline.consumer_offsets WHERE topic_id IS NULL";
    execute(&stack, forget);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    assert_eq!(number(&stack, missing), 0);
    execute(&stack, forget);
    recreate(&stack, 6);
    publish(&stack, "latter", 40_000);
    is_refused(&stack);
    assert_eq!(number(&stack, missing), 6, "the new topic's ID is not the former one's");
    is_read_from_its_beginning(&stack, "latter");
    assert_eq!(number(&stack, missing), 0);
}

fn client(servers: &str) -> BaseConsumer<ClientErrors> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    BaseConsumer::from_config_and_context(&config, ClientErrors::default()).unwrap()
}

#[test]
#[ignore = "fault"]
fn another_cluster_has_a_topic_of_the_same_name() {
    let mut stack = Stack::ephemeral().unwrap();
    publish(&stack, "former", 3_000);
    reader(&stack, &[]).stop();
    stack.kafka = Kafka::ephemeral().unwrap();
    publish(&stack, "other", 2_000);
    let id = client(&stack.bootstrap_servers()).client().fetch_cluster_id(Duration::from_secs(10)).unwrap();
    let (status, said) = Member::of(&stack, &["--until-caught-up"]).ended(Duration::from_secs(20));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cluster {id} is another one than before")), "{said}");
    is_refused(&stack);
    is_read_from_its_beginning(&stack, "other");
}

#[test]
fn the_id_of_a_topic() {
    let stack = Stack::ephemeral().unwrap();
    let consumer = client(&stack.bootstrap_servers());
    let id = || rdkafka_ext::topic_id(consumer.client(), TOPIC, Duration::from_secs(10));
    assert_eq!(id().unwrap_err().rdkafka_error_code(), Some(RDKafkaErrorCode::UnknownTopicOrPartition));
    make_topic(&stack, 1);
    let first = id().unwrap().expect("a broker of today has topic IDs");
    assert_eq!(id().unwrap(), Some(first));
    recreate(&stack, 1);
    assert_ne!(id().unwrap().unwrap(), first);
    let nobody = rdkafka_ext::topic_id(client("127.0.0.1:9").client(), TOPIC, Duration::from_secs(1));
    assert!(nobody.is_err());
}
