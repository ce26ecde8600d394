//! Waits out a refused login: looks for new credentials until the grace period ends.

use std::time::{Duration, Instant};

use pipeline_runtime::kafka::{Connection, Credentials, LoginRefused};
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::ClientConfig;

/// Interval between two looks for new credentials while the present ones are refused.
const BETWEEN: Duration = Duration::from_secs(1);
/// Timeout of the metadata request that tests the login. It blocks the delivery of records.
const PROBE: Duration = Duration::from_millis(200);

/// Login of a producer, which keeps its records: librdkafka replaces the SASL credentials of a running client.
pub(super) struct Login {
    config: ClientConfig,
    topic: String,
    connection: Connection,
    grace: Duration,
    checked: Instant,
}

impl Login {
    pub(super) fn new(config: &ClientConfig, topic: &str, connection: Connection, grace: Duration) -> Self {
        Self { config: config.clone(), topic: topic.to_owned(), connection, grace, checked: Instant::now() }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Fails if the login has been refused for longer than the grace period. Does nothing unless it is refused.
    pub(super) fn check<C: ClientContext>(&mut self, client: &Client<C>) -> Result<(), LoginRefused> {
        let now = Instant::now();
        if self.connection.refusal().is_none() || now.saturating_duration_since(self.checked) < BETWEEN {
            return Ok(());
        }
        self.checked = now;
        self.connection.check_login(self.grace, now)?;
        self.replace_credentials(client);
        if client.fetch_metadata(Some(&self.topic), PROBE).is_ok() {
            self.connection.succeeded();
        }
        Ok(())
    }

    /// Certificates cannot be replaced in a running client; the run ends after the grace period and can be resumed.
    fn replace_credentials<C: ClientContext>(&mut self, client: &Client<C>) {
        let config = self.connection.refreshed(&self.config);
        let present = Credentials::user_and_password(&config);
        if let Some((user, password)) = present
            && present != Credentials::user_and_password(&self.config)
            && rdkafka_ext::set_sasl_credentials(client, user, password)
        {
            tracing::info!("kafka credentials replaced, logging in again");
            self.config = config;
        }
    }
}
