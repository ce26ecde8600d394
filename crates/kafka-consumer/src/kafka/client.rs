//! Creates the Kafka client with the properties that the delivery guarantee depends on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::{ClientErrors, Connection, Credentials, Guard, KafkaArgs, set_default, watermarks};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use crate::kafka::context::Context;

/// Properties that the delivery guarantee depends on, and that the user must not change.
const GUARDS: &[Guard] = &[
    Guard {
        property: "enable.auto.commit",
        value: Some("false"),
        because: "offsets are stored in PostgreSQL, and committed to Kafka only afterwards",
    },
    Guard {
        property: "enable.auto.offset.store",
        value: Some("false"),
        because: "offsets are stored in PostgreSQL, and committed to Kafka only afterwards",
    },
    Guard {
        property: "isolation.level",
        value: Some("read_committed"),
        because: "records of aborted transactions would be inserted",
    },
    Guard {
        property: "auto.offset.reset",
        value: Some("error"),
        because: "it would skip deleted records silently; set the start of a new group with --start",
    },
    Guard { property: "enable.partition.eof", value: Some("true"), because: "--until-caught-up would never end" },
    Guard { property: "group.protocol", value: Some("classic"), because: "only classic rebalances are supported" },
    Guard { property: "group.id", value: None, because: "it is set with --group-id" },
    Guard { property: "group.instance.id", value: None, because: "it is set with --group-instance-id" },
    Guard { property: "enable.idempotence", value: None, because: "it applies to producers only" },
    Guard { property: "partitioner", value: None, because: "it applies to producers only" },
];

/// Returns the configuration of the consumer, with the properties of the delivery guarantee.
pub(crate) fn client_config(kafka: &KafkaArgs, group: &str) -> Result<ClientConfig, Failure> {
    let mut config = kafka.client_config(GUARDS)?;
    config.set("group.id", group).set("client.id", "kafka-consumer");
    for guard in GUARDS {
        if let Some(value) = guard.value {
            config.set(guard.property, value);
        }
    }
    // Defaults that the user may override. The short session timeout lets the group replace a killed member after six
    // seconds. With the default backoff of one second, a fast consumer would run out of fetched records.
    let defaults = [
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "2000"),
        ("fetch.queue.backoff.ms", "5"),
    ];
    for (property, value) in defaults {
        set_default(&mut config, property, value);
    }
    Ok(config)
}

/// A client without a subscription, and the configuration to create its replacement. Clones share the client.
#[derive(Clone)]
pub(crate) struct KafkaClient {
    config: ClientConfig,
    connection: Connection,
    current: Arc<RwLock<Arc<BaseConsumer<Context>>>>,
    observer: Arc<Mutex<Option<Observer>>>,
    /// Fingerprint of the current client's credentials.
    credentials: Arc<Mutex<u64>>,
}

/// A client outside the group that asks about the topic. It reads uncommitted records, so the end of a partition is its
/// high watermark. The consumer's own client ends at the last stable offset and never sees the records of an open
/// transaction.
pub(crate) type Observer = Arc<BaseConsumer<ClientErrors>>;

impl KafkaClient {
    /// Creates a client. `instance` is the static membership ID, which outlives the client in the group.
    pub(crate) fn new(config: &ClientConfig, instance: Option<&str>, connection: &Connection) -> Result<Self, Failure> {
        let mut config = config.clone();
        if let Some(instance) = instance {
            config.set("group.instance.id", instance);
            // Only librdkafka's log reports a lost connection, which decides whether a fenced static member may rejoin.
            if !matches!(config.log_level, RDKafkaLogLevel::Debug) {
                config.set_log_level(RDKafkaLogLevel::Info);
            }
        }
        let credentials = Credentials::fingerprint(&config);
        let consumer = consumer(&config, connection).map_err(|error| {
            Failure::usage(format!(
                "cannot create the Kafka client: {error}; correct the properties in -X or --kafka-config"
            ))
        })?;
        Ok(Self {
            config,
            connection: connection.clone(),
            current: Arc::new(RwLock::new(consumer)),
            observer: Arc::default(),
            credentials: Arc::new(Mutex::new(credentials)),
        })
    }

    /// Returns the state of the connection, which all clients of the process share.
    #[must_use]
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns a property of the clients.
    #[must_use]
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.config.get(name)
    }

    /// Returns true if the credentials have changed since the current client was created.
    #[must_use]
    pub(crate) fn has_new_credentials(&self) -> bool {
        Credentials::fingerprint(&self.connection.refreshed(&self.config)) != *lock(&self.credentials)
    }

    /// Returns the current client.
    #[must_use]
    pub(crate) fn current(&self) -> Arc<BaseConsumer<Context>> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the client that asks about the topic. The first call creates it.
    pub(crate) fn observer(&self) -> Result<Observer, KafkaError> {
        let mut kept = lock(&self.observer);
        let observer = match kept.take() {
            Some(observer) => observer,
            None => observer(&self.connection.refreshed(&self.config), &self.connection)?,
        };
        // The queue holds errors and requests for login tokens, and nothing else polls it.
        (0..100).take_while(|_| observer.poll(Duration::ZERO).is_some()).for_each(drop);
        Ok(Arc::clone(kept.insert(observer)))
    }

    /// Replaces the client with one that has the present credentials and no subscription. The caller [retires](retire)
    /// the former client.
    pub(crate) fn renew(&self) -> Result<Arc<BaseConsumer<Context>>, KafkaError> {
        let config = self.connection.refreshed(&self.config);
        let consumer = consumer(&config, &self.connection)?;
        *lock(&self.credentials) = Credentials::fingerprint(&config);
        // Its destructor waits for the threads of the client.
        if let Some(observer) = lock(&self.observer).take() {
            thread::spawn(move || drop(observer));
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&consumer);
        Ok(consumer)
    }
}

/// Clients that must not be dropped by their last user.
///
/// The destructor of rdkafka waits for the group and for the threads of the client without a timeout, so it must never
/// run on a thread that others wait for. At the end of the process, clients are closed within a timeout and never
/// dropped.
static KEPT: Mutex<Vec<Arc<BaseConsumer<Context>>>> = Mutex::new(Vec::new());

/// Timeout for closing a replaced client.
const RETIREMENT: Duration = Duration::from_mins(2);

/// Timeout for listing the leaders of a topic.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates a client that asks about the topic. It is not a member of the group, and it reads to the high watermark.
pub(crate) fn observer(config: &ClientConfig, connection: &Connection) -> Result<Observer, KafkaError> {
    let mut config = uncommitted(config);
    config.remove("group.id").remove("group.instance.id");
    BaseConsumer::from_config_and_context(&config, ClientErrors::reporting_to(connection)).map(Arc::new)
}

/// Returns the number of brokers that lead partitions of a topic.
pub(crate) async fn leaders(config: &ClientConfig, topic: &str, connection: &Connection) -> anyhow::Result<usize> {
    let (observer, topic) = (observer(config, connection)?, topic.to_owned());
    let answer = watermarks::ask(&observer, move |client| watermarks::leaders(client, &topic, LEADERS_TIMEOUT)).await;
    answer.context("cannot read the partitions from Kafka")
}

/// Returns the configuration of a client that also reads records of open transactions.
#[must_use]
pub(crate) fn uncommitted(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    config.set("isolation.level", "read_uncommitted");
    config
}

fn consumer(config: &ClientConfig, connection: &Connection) -> Result<Arc<BaseConsumer<Context>>, KafkaError> {
    let consumer = Arc::new(BaseConsumer::from_config_and_context(config, Context::reporting_to(connection))?);
    lock(&KEPT).push(Arc::clone(&consumer));
    Ok(consumer)
}

/// Closes and drops a replaced client on a separate thread.
pub(crate) fn retire(consumer: Arc<BaseConsumer<Context>>) {
    let retiring = move || {
        let closed = consumer.context().close(&consumer, RETIREMENT);
        if closed {
            lock(&KEPT).retain(|one| !Arc::ptr_eq(one, &consumer));
        }
        tracing::debug!(closed, "kafka client retired");
    };
    if let Err(error) = thread::Builder::new().name("retire".to_owned()).spawn(retiring) {
        tracing::warn!(%error, "replaced kafka client left open: no thread to close it");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
