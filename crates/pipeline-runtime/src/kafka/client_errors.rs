//! Errors that librdkafka reports in the background.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Connection;

/// The last error that a Kafka client reported, for the message of a timeout. Also reports outages to a [`Connection`].
#[derive(Clone, Debug, Default)]
pub struct ClientErrors {
    last: Arc<Mutex<Option<Complaint>>>,
    connection: Connection,
}

/// An error that librdkafka reported in the background.
#[derive(Clone, Debug)]
struct Complaint {
    code: Option<RDKafkaErrorCode>,
    reason: String,
}

impl Complaint {
    /// Returns true if a broker was reached and rejected the client. Later errors only report that it is disconnected.
    fn is_refusal(&self) -> bool {
        // A listener without TLS just closes the connection, which librdkafka reports as a transport failure.
        let of_tls = self.reason.contains("SSL handshake failed");
        let codes = matches!(self.code, Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL));
        of_tls || codes || self.is_login_refusal()
    }

    /// Returns true if a broker that accepted this client before no longer accepts its credentials.
    ///
    /// A broker that stops, or a proxy without a broker, also cuts connections during the handshake.
    fn is_login_refusal(&self) -> bool {
        let says = |words: &[&str]| words.iter().any(|word| self.reason.contains(word));
        let cut = says(&["Disconnected", "transport failure", "timed out", "Timed out"]);
        match self.code {
            Some(RDKafkaErrorCode::Authentication) => !cut,
            Some(RDKafkaErrorCode::SSL | RDKafkaErrorCode::BrokerTransportFailure) => {
                says(&["SSL", "ssl"]) && says(&["alert", "certificate"])
            }
            _ => false,
        }
    }
}

impl ClientErrors {
    /// Reports outages and refused logins to the connection of the process.
    #[must_use]
    pub fn reporting_to(connection: &Connection) -> Self {
        Self { last: Arc::default(), connection: connection.clone() }
    }

    /// Returns the reason of the last error, as librdkafka reported it.
    #[must_use]
    pub fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|complaint| complaint.reason.clone())
    }

    /// Returns the reason if a broker was reached and rejected this client (authentication, TLS), or `None`.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|complaint| complaint.is_refusal()).map(|complaint| complaint.reason.clone())
    }

    /// Records an error that librdkafka reported in the background.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client error");
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            // The error before it has the cause.
            self.connection.failed(&self.last().unwrap_or_else(|| reason.to_owned()));
            return;
        }
        let complaint = Complaint { code, reason: reason.to_owned() };
        if complaint.is_login_refusal() {
            self.connection.refused(reason);
        }
        self.keep(complaint);
    }

    fn keep(&self, complaint: Complaint) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the first connection, a refusal is the cause of the errors after it. Later, the last error is kept.
        if self.connection.was_connected()
            || complaint.is_refusal()
            || !last.as_ref().is_some_and(Complaint::is_refusal)
        {
            *last = Some(complaint);
        }
    }
}

impl ClientContext for ClientErrors {
    fn error(&self, error: KafkaError, reason: &str) {
        self.note(&error, reason);
    }

    /// Logs a line of librdkafka.
    ///
    /// A listener that expects TLS just closes the connection, which librdkafka logs but does not report as an error.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, message);
        if message.contains("security.protocol") {
            self.keep(Complaint { code: None, reason: message.to_owned() });
        }
    }
}

impl ConsumerContext for ClientErrors {}

#[cfg(test)]
mod tests {
    use RDKafkaErrorCode::{Authentication, BrokerTransportFailure, SSL};

    use super::*;

    #[test]
    fn a_client_certificate_refused_after_the_handshake_is_a_refusal() {
        // With TLS 1.3 the client has finished its handshake before the broker looks at the certificate.
        let reason =
            "Receive failed: error:0A000416:SSL routines::sslv3 alert certificate unknown: SSL alert number 46";
        assert!(Complaint { code: Some(BrokerTransportFailure), reason: reason.to_owned() }.is_refusal());
        let reason = "Connect to ipv4#127.0.0.1:9092 failed: Connection refused";
        assert!(!Complaint { code: Some(BrokerTransportFailure), reason: reason.to_owned() }.is_refusal());
    }

    #[test]
    fn a_cut_handshake_is_no_refused_login() {
        let refused = |code, reason: &str| Complaint { code: Some(code), reason: reason.to_owned() }.is_login_refusal();
        assert!(refused(Authentication, "SASL authentication error: Authentication failed: invalid credentials"));
        assert!(refused(SSL, "SSL handshake failed: ssl3_read_bytes:tlsv1 alert unknown ca: SSL alert number 48"));
        assert!(refused(
            SSL,
            "SSL handshake failed: certificate verify failed: broker certificate could not be verified"
        ));
        assert!(refused(BrokerTransportFailure, "SSL transport error: tlsv13 alert certificate required"));
        assert!(!refused(Authentication, "Disconnected: hung up from peer in state AUTH_LEGACY"));
        assert!(!refused(Authentication, "SASL PLAIN mechanism handshake failed: Local: Broker transport failure"));
        assert!(!refused(SSL, "SSL handshake failed: Connection reset by peer"));
        assert!(!refused(BrokerTransportFailure, "Connect to ipv4#127.0.0.1:9092 failed: Connection refused"));
    }
}
