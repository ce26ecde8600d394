//! Open Kafka transactions: later records are neither read nor lost.

use std::time::Duration;

use local_stack::Stack;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::consumer_process::{Member, offsets};
use crate::poison::event;
use crate::support::watched::Watched;
use crate::support::{number, printed, printed_json};
use crate::test_topic::{TOPIC, ends, make_topic, send};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A transaction with one record in partition 0. Dropping it leaves it open; the broker would abort it after 15
/// minutes.
pub(crate) struct OpenTransaction(ThreadedProducer<DefaultProducerContext>);

impl OpenTransaction {
    pub(crate) fn begin(stack: &Stack) -> Self {
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", stack.bootstrap_servers())
            .set("transactional.id", "hanging")
            .set("transaction.timeout.ms", "900000")
            .create()
            .unwrap();
        producer.init_transactions(TIMEOUT).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::to(TOPIC).partition(0).key("1").payload(&event(77))).map_err(|e| e.0).unwrap();
        producer.flush(TIMEOUT).unwrap();
        Self(producer)
    }

    fn commit(self) {
        self.0.commit_transaction(TIMEOUT).unwrap();
    }

    fn abort(self) {
        self.0.abort_transaction(TIMEOUT).unwrap();
    }
}

/// Creates two partitions with 100 records each, then opens the transaction in partition 0, then adds 500 records each.
fn held_back() -> (Stack, OpenTransaction) {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 2);
    let fill = |count| (0..2).for_each(|partition| send(&stack, partition, (1..=count).map(event)));
    fill(100);
    let transaction = OpenTransaction::begin(&stack);
    fill(500);
    (stack, transaction)
}

fn records(stack: &Stack) -> i64 {
    number(stack, "SELECT sum(records)::bigint FROM pipeline.consumer_offsets")
}

#[test]
fn a_run_that_it_holds_back_is_not_caught_up() {
    let (stack, transaction) = held_back();
    drop(transaction);
    let said = Member::of(&stack, &["--until-caught-up", "--open-transaction-timeout", "3s"]).ended_with(1);
    for part in [
        "cannot catch up with product-events: a transaction open since 20",
        "holds back the records from offset 100 to 601",
        "--open-transaction-timeout",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(said.matches("held back by an open transaction").count(), 1, "{said}");
    assert_eq!(records(&stack), 700, "all that can be read is committed");
    assert_eq!(offsets(&stack), [(0, 100), (1, 600)]);
}

#[test]
fn a_run_goes_on_when_it_ends() {
    for commit in [true, false] {
        let (stack, transaction) = held_back();
        let mut member = Member::of(&stack, &["--until-caught-up"]);
        member.until_said("held back by an open transaction");
        assert_eq!(records(&stack), 700);
        if commit {
            transaction.commit();
        } else {
            transaction.abort();
        }
        member.ended_with(0);
        assert_eq!(records(&stack), if commit { 1_201 } else { 1_200 });
        // The transaction's end marker lies beyond the previous run's target offset.
        Member::of(&stack, &["--until-caught-up"]).ended_with(0);
        assert_eq!(offsets(&stack), ends(&stack));
    }
}

/// Exit code 0 is reserved for a run that has caught up.
#[test]
fn a_run_that_is_stopped_before_it_is_caught_up_fails() {
    let (stack, transaction) = held_back();
    let mut member = Member::of(&stack, &["--until-caught-up"]);
    member.until_said("held back by an open transaction");
    member.signal("-TERM");
    let (status, said) = member.ended(Duration::from_secs(10));
    assert_eq!(status.code(), Some(1), "{said}");
    let words = "stopped before catching up: 1 of 2 partitions are not committed up to their ends (partition 0 is \
                 committed up to offset 100 of 601); run the same command again";
    assert!(said.contains(words), "{said}");
    transaction.abort();
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
}

#[test]
#[expect(clippy::float_cmp, reason = "small whole numbers")]
fn it_is_seen_from_outside() {
    let (stack, transaction) = held_back();
    let mut consumer = Watched::start(&stack);
    consumer.wait_until("lag", |one| {
        one.metric("kafka_consumer_records_committed_total") == 700.0
            && one.metric("kafka_consumer_lag_records") == 501.0
    });
    let sample = |name: &str, partition: u8| consumer.metric(&format!("{name}{{partition=\"{partition}\"}}"));
    assert_eq!(sample("kafka_consumer_last_stable_offset_lag_records", 0), 501.0);
    assert_eq!(sample("kafka_consumer_last_stable_offset_lag_records", 1), 0.0);
    let (_, state) = consumer.get("/state");
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert!(state["partitions"][0]["held_back_since"].is_i64(), "{state}");
    assert!(state["partitions"][1]["held_back_since"].is_null(), "{state}");

    let servers = stack.bootstrap_servers();
    let status = ["status", "--http-addr", "off", "--bootstrap-servers", &servers];
    let told = printed_json(&stack, &[&status[..], &["--json"]].concat());
    let of = |partition: usize, key: &str| told["partitions"][partition][key].clone();
    assert_eq!((of(0, "lag"), of(0, "end"), of(0, "last_stable_offset")), (501.into(), 601.into(), 100.into()));
    assert_eq!((of(1, "lag"), of(1, "end"), of(1, "last_stable_offset")), (0.into(), 600.into(), 600.into()));
    assert!(of(0, "open_transaction_since").is_string() && of(1, "open_transaction_since").is_null(), "{told}");
    let shown = printed(&stack, &status);
    let since = of(0, "open_transaction_since").as_str().unwrap()[..19].to_owned();
    let words = format!("partition 0: held back from offset 100\n    by an open transaction since {since}Z");
    assert!(shown.contains(&words), "{words}: {shown}");
    let doctor = ["doctor", "--no-lake", "--bootstrap-servers", &servers];
    let shown = printed(&stack, &doctor);
    assert!(shown.contains("WARN kafka      open transactions: partition 0: 501 records"), "{shown}");

    transaction.commit();
    consumer.wait_until("no lag", |one| {
        one.metric("kafka_consumer_lag_records") == 0.0
            && one.metric("kafka_consumer_last_stable_offset_lag_records") == 0.0
    });
    consumer.end();
}
