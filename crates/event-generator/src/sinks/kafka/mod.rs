//! Sends events to Kafka with an idempotent producer, in order, and tracks the delivery of each record.

mod config;
mod deliveries;
mod login;
mod window;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pipeline_runtime::kafka::{Connection, LoginRefused};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use thiserror::Error;

use config::batch_bytes;
pub(crate) use config::{GUARDS, MIN_MESSAGE_BYTES, producer_config};
pub(crate) use deliveries::{Deliveries, DeliveryError, RecordTag};

use deliveries::DeliveryContext;
use login::Login;
use window::Window;

use crate::failpoint::{AFTER_SEND, pass};

/// Version of the event's schema, as in the header `schema`.
const SCHEMA: &str = "1";

/// Producer of one run for one topic. One thread uses it, so records keep their order.
pub(crate) struct KafkaSink {
    producer: BaseProducer<DeliveryContext>,
    topic: String,
    run_tag: String,
    headers: Option<OwnedHeaders>,
    deliveries: Arc<Deliveries>,
    /// Number of records in the client's queue or delivered by it.
    enqueued: Cell<u64>,
    /// Bytes of their keys and values.
    enqueued_bytes: Cell<u64>,
    window: RefCell<Window>,
    login: RefCell<Login>,
}

/// Result of enqueuing a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnqueueStatus {
    /// The client sends the record and reports its delivery.
    Enqueued,
    /// The window or the client's queue is full; [`KafkaSink::poll`] makes room.
    Full,
}

/// An error that stops the run.
#[derive(Debug, Error)]
pub(crate) enum KafkaSinkError {
    #[error("cannot start the Kafka client: {0}; check -X and --kafka-config")]
    Start(KafkaError),
    /// The client or the broker rejected a record for good.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    #[error(transparent)]
    Login(#[from] LoginRefused),
}

/// Connection of a producer, and the time for which it may be refused.
pub(crate) struct LoginPolicy {
    pub(crate) connection: Connection,
    pub(crate) grace: Duration,
}

impl KafkaSink {
    /// Starts a client. It connects and reconnects in the background.
    pub(crate) fn start(
        config: &ClientConfig,
        topic: &str,
        partitions: i32,
        run_tag: String,
        headers: bool,
        deliveries: Deliveries,
        login: LoginPolicy,
    ) -> Result<Self, KafkaSinkError> {
        let deliveries = Arc::new(deliveries);
        let context = DeliveryContext::new(Arc::clone(&deliveries), &login.connection);
        let producer = BaseProducer::from_config_and_context(config, context).map_err(KafkaSinkError::Start)?;
        let headers = headers.then(|| {
            OwnedHeaders::new_with_capacity(2)
                .insert(Header { key: "run", value: Some(&run_tag) })
                .insert(Header { key: "schema", value: Some(SCHEMA) })
        });
        let window = Window::new(u64::try_from(partitions).unwrap_or(1), batch_bytes(config));
        Ok(Self {
            producer,
            topic: topic.to_owned(),
            run_tag,
            headers,
            deliveries,
            enqueued: Cell::new(0),
            enqueued_bytes: Cell::new(0),
            window: RefCell::new(window),
            login: RefCell::new(Login::new(config, topic, login.connection, login.grace)),
        })
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn deliveries(&self) -> Arc<Deliveries> {
        Arc::clone(&self.deliveries)
    }

    pub(crate) fn connection(&self) -> Connection {
        self.login.borrow().connection().clone()
    }

    /// Enqueues a record of an event. With `index_header` its headers name the run and the index, which cannot be read
    /// from a corrupt value.
    pub(crate) fn enqueue(
        &self,
        tag: RecordTag,
        key: &[u8],
        value: &[u8],
        index_header: bool,
    ) -> Result<EnqueueStatus, KafkaSinkError> {
        if !self.window.borrow_mut().admits(self.open_bytes()) {
            return Ok(EnqueueStatus::Full);
        }
        let mut record = BaseRecord::with_opaque_to(&self.topic, tag.to_opaque());
        record.headers = if index_header { Some(self.index_headers(tag.index)) } else { self.headers.clone() };
        match self.producer.send(record.key(key).payload(value)) {
            Ok(()) => {
                pass(AFTER_SEND);
                self.enqueued.set(self.enqueued.get() + 1);
                self.enqueued_bytes.set(self.enqueued_bytes.get() + (key.len() + value.len()) as u64);
                Ok(EnqueueStatus::Enqueued)
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(EnqueueStatus::Full),
            Err((error, _)) => Err(DeliveryError::new(tag.index, &error).into()),
        }
    }

    fn open_bytes(&self) -> u64 {
        self.enqueued_bytes.get() - self.deliveries.process_bytes()
    }

    fn index_headers(&self, index: u64) -> OwnedHeaders {
        OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: "run", value: Some(&self.run_tag) })
            .insert(Header { key: "index", value: Some(&index.to_string()) })
    }

    /// Waits for `time`, then processes all delivery reports. Fails if any record was rejected.
    pub(crate) fn poll(&self, time: Duration) -> Result<(), KafkaSinkError> {
        // Not the client's own timeout: it waits in whole milliseconds and spins in the rest of the last one.
        if !time.is_zero() {
            thread::sleep(time);
        }
        let first = self.deliveries.records();
        loop {
            let before = self.deliveries.records();
            self.producer.poll(Duration::ZERO);
            if self.deliveries.records() == before {
                break;
            }
        }
        let mut login = self.login.borrow_mut();
        if self.deliveries.records() > first {
            login.connection().succeeded();
        }
        login.check(self.producer.client())?;
        let acknowledged = self.deliveries.process_bytes();
        self.window.borrow_mut().record(Instant::now(), acknowledged, self.open_bytes());
        self.deliveries.error().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Waits until all records are acknowledged or `is_over` returns true. Returns the number of unacknowledged ones.
    pub(crate) fn flush(&self, is_over: impl Fn() -> bool) -> Result<u64, KafkaSinkError> {
        loop {
            // Stops lingering. The reports are processed below.
            let _ = self.producer.flush(Duration::ZERO);
            self.poll(Duration::from_millis(2))?;
            let open = self.enqueued.get() - self.deliveries.process_records();
            if open == 0 || is_over() {
                return Ok(open);
            }
        }
    }
}
