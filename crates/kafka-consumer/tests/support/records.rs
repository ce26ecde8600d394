//! Hand-made records, sent to the topic as any producer would.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_model::Timestamp;
use local_stack::Stack;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// A record for one partition.
#[derive(Clone, Default)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    pub(crate) fn of(partition: i32, payload: impl Into<Vec<u8>>) -> Self {
        Self { partition, key: b"1".to_vec(), payload: Some(payload.into()), headers: Vec::new() }
    }
}

/// Returns a valid event as JSON.
pub(crate) fn event(number: u32, time: Timestamp, category: &str) -> String {
    format!(
        r#"{{"event_id":"9f3c0b1e-3c5a-4d9b-8e0f-{number:012x}","event_timestamp":"{time}","event_type":"rfq_sent","user_id":1,"account_id":2,"product_id":3,"category":"{category}","experiment_id":"exp_1"}}"#
    )
}

pub(crate) fn now() -> Timestamp {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    Timestamp::from_micros(i64::try_from(micros).unwrap())
}

/// Returns the time this many days ago.
pub(crate) fn days_ago(days: i64) -> Timestamp {
    Timestamp::from_micros(now().micros() - days * 86_400_000_000)
}

/// Sends records in order and waits until the broker has acknowledged them.
pub(crate) fn produce(stack: &Stack, records: &[Record]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", stack.bootstrap_servers()).create().unwrap();
    for record in records {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let mut sent = BaseRecord::to("product-events").partition(record.partition).key(&record.key).headers(headers);
        if let Some(payload) = &record.payload {
            sent = sent.payload(payload);
        }
        producer.send(sent).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}
