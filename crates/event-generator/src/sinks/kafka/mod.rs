//! Events to Kafka: idempotent, in order, every record accounted for.

mod config;
mod deliveries;
mod window;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use thiserror::Error;

use config::batch_bytes;
pub use config::{GUARDS, MIN_MESSAGE_BYTES, producer_config};
pub use deliveries::{Acknowledged, Deliveries, Refusal};

use deliveries::DeliveryContext;
use window::Window;

use crate::failpoint::{AFTER_SEND, pass};

/// The version of the event's form, as the header `schema` has it.
const SCHEMA: &str = "1";

/// A producer for one topic and one run. Used by one thread, so that records keep their order.
pub struct KafkaSink {
    producer: BaseProducer<DeliveryContext>,
    topic: String,
    run_tag: String,
    headers: Option<OwnedHeaders>,
    deliveries: Arc<Deliveries>,
    /// Records that the client took, each of which must be reported, and the bytes of their keys and values.
    taken: Cell<u64>,
    taken_bytes: Cell<u64>,
    window: RefCell<Window>,
}

/// What became of a record that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It will be sent, and reported.
    Taken,
    /// As much as can be of use is on its way: nothing was done. [`KafkaSink::serve`] makes room.
    Full,
}

/// Why the run cannot go on.
#[derive(Debug, Error)]
pub enum KafkaSinkError {
    /// The client does not start.
    #[error("the Kafka client could not be started: {0}")]
    Start(KafkaError),
    /// A record is refused for good, here or by the broker.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl KafkaSink {
    /// Starts a client. It connects by itself, now and whenever it must.
    pub fn start(
        config: &ClientConfig,
        topic: &str,
        partitions: i32,
        run_tag: String,
        headers: bool,
        deliveries: Deliveries,
    ) -> Result<Self, KafkaSinkError> {
        let deliveries = Arc::new(deliveries);
        let context = DeliveryContext::new(Arc::clone(&deliveries));
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
            taken: Cell::new(0),
            taken_bytes: Cell::new(0),
            window: RefCell::new(window),
        })
    }

    /// What was acknowledged so far, for whoever watches.
    #[must_use]
    pub fn deliveries(&self) -> Arc<Deliveries> {
        Arc::clone(&self.deliveries)
    }

    /// Offers the record of event `index`, of whose segment it will be counted. A marked one carries its run and its index in headers.
    pub fn offer(&self, index: u64, key: &[u8], value: &[u8], marked: bool) -> Result<Offered, KafkaSinkError> {
        if !self.window.borrow_mut().admits(self.open_bytes()) {
            return Ok(Offered::Full);
        }
        let mut record = BaseRecord::with_opaque_to(&self.topic, usize::try_from(index).unwrap_or(usize::MAX));
        record.headers = if marked { Some(self.mark(index)) } else { self.headers.clone() };
        match self.producer.send(record.key(key).payload(value)) {
            Ok(()) => {
                pass(AFTER_SEND);
                self.taken.set(self.taken.get() + 1);
                self.taken_bytes.set(self.taken_bytes.get() + (key.len() + value.len()) as u64);
                Ok(Offered::Taken)
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(Offered::Full),
            Err((error, _)) => Err(Refusal::new(index, &error).into()),
        }
    }

    fn open_bytes(&self) -> u64 {
        self.taken_bytes.get() - self.deliveries.bytes_of_this_process()
    }

    fn mark(&self, index: u64) -> OwnedHeaders {
        OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: "run", value: Some(&self.run_tag) })
            .insert(Header { key: "index", value: Some(&index.to_string()) })
    }

    /// Takes in delivery reports for so long, and says if one is a refusal. Zero takes what is there.
    pub fn serve(&self, time: Duration) -> Result<(), KafkaSinkError> {
        // The client would wait in whole milliseconds, and ask without a pause in what is left of the last one.
        if !time.is_zero() {
            thread::sleep(time);
        }
        loop {
            let before = self.deliveries.records();
            self.producer.poll(Duration::ZERO);
            if self.deliveries.records() == before {
                break;
            }
        }
        let acknowledged = self.deliveries.bytes_of_this_process();
        self.window.borrow_mut().note(Instant::now(), acknowledged, self.open_bytes());
        self.deliveries.refusal().map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Waits until all records are acknowledged or `over` says that it must end. The number of those that are not.
    pub fn flush(&self, over: impl Fn() -> bool) -> Result<u64, KafkaSinkError> {
        loop {
            // Ends the waiting for fuller batches; the reports are taken in below.
            let _ = self.producer.flush(Duration::ZERO);
            self.serve(Duration::from_millis(2))?;
            let open = self.taken.get() - self.deliveries.of_this_process();
            if open == 0 || over() {
                return Ok(open);
            }
        }
    }
}
