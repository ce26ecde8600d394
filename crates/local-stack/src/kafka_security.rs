//! Settings of a broker that requires TLS, SASL authentication and ACLs.

use std::fs;
use std::path::Path;

use crate::certificates::{Authority, Identity};
use crate::error::{At, StackError};

const ADMIN: &str = "admin";
const ADMIN_PASSWORD: &str = "admin-password";
const LOGIN: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required";

/// Certificate and users of a secured broker.
#[derive(Debug, Clone)]
pub struct Security {
    certificate: String,
    key: String,
    authority: String,
    clients: String,
    users: Vec<(String, String)>,
}

impl Security {
    /// Creates the settings of a broker with this certificate, which `authority` issued, and these users and passwords.
    ///
    /// The broker requests client certificates without requiring them, and accepts those of the same authority.
    /// [`Security::with_clients_of`] names another one.
    pub fn new(server: &Identity, authority: &Authority, users: &[(&str, &str)]) -> Result<Self, StackError> {
        let users = users.iter().map(|(name, password)| ((*name).to_owned(), (*password).to_owned())).collect();
        let (certificate, key, authority) = (server.certificate()?, server.key()?, authority.certificate()?);
        Ok(Self { certificate, key, clients: authority.clone(), authority, users })
    }

    /// Accepts the client certificates of this authority.
    pub fn with_clients_of(self, authority: &Authority) -> Result<Self, StackError> {
        // A broker does not start unless it trusts its own certificate.
        Ok(Self { clients: format!("{}{}", self.authority, authority.certificate()?), ..self })
    }

    pub(crate) fn write_files(&self, folder: &Path) -> Result<(), StackError> {
        let admin = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n\
             sasl.jaas.config={LOGIN} username=\"{ADMIN}\" password=\"{ADMIN_PASSWORD}\";\n\
             ssl.truststore.type=PEM\nssl.truststore.location={}\n",
            folder.join("authority.pem").display()
        );
        let identity = format!("{}{}", self.key, self.certificate);
        for (name, text) in [
            ("server.pem", &identity),
            ("authority.pem", &self.authority),
            ("clients.pem", &self.clients),
            ("admin.properties", &admin),
        ] {
            let file = folder.join(name);
            fs::write(&file, text).at("write", &file)?;
        }
        Ok(())
    }

    pub(crate) fn broker_properties(folder: &Path) -> String {
        let jaas = format!("{LOGIN} username=\"{ADMIN}\" password=\"{ADMIN_PASSWORD}\";");
        format!(
            "sasl.enabled.mechanisms=SCRAM-SHA-512\n\
             sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512\n\
             listener.name.broker.scram-sha-512.sasl.jaas.config={jaas}\n\
             listener.name.broker.ssl.client.auth=requested\n\
             ssl.keystore.type=PEM\nssl.keystore.location={}\n\
             ssl.truststore.type=PEM\nssl.truststore.location={}\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:{ADMIN};User:ANONYMOUS\n",
            folder.join("server.pem").display(),
            folder.join("clients.pem").display(),
        )
    }

    pub(crate) fn format_arguments(&self) -> Vec<String> {
        let admin = (ADMIN.to_owned(), ADMIN_PASSWORD.to_owned());
        let users = [admin].into_iter().chain(self.users.clone());
        let add = |(name, password)| format!("SCRAM-SHA-512=[name={name},password={password}]");
        users.flat_map(|user| ["--add-scram".to_owned(), add(user)]).collect()
    }

    /// Returns the librdkafka properties of the superuser.
    pub(crate) fn admin_properties(folder: &Path) -> [(&'static str, String); 5] {
        [
            ("security.protocol", "SASL_SSL".to_owned()),
            ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
            ("sasl.username", ADMIN.to_owned()),
            ("sasl.password", ADMIN_PASSWORD.to_owned()),
            ("ssl.ca.location", folder.join("authority.pem").display().to_string()),
        ]
    }
}
