//! A broker with TLS, SASL and exactly the ACLs that `docs/security.md` lists.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::runtime;
use crate::support::watched::Watched;
use local_stack::certificates::Authority;
use local_stack::kafka_security::Security;
use local_stack::{Kafka, Postgres};
use pipeline_runtime::kafka::ensure_topic;
use rdkafka::config::ClientConfig;

const TOPIC: [&str; 2] = ["--topic", "product-events"];
const GROUP: [&str; 2] = ["--group", "kafka-consumer"];

/// Passwords are the user names, or a part of them, reversed for readability only.
const USERS: [(&str, &str); 5] = [
    ("writer", "retirw-secret"),
    ("reader", "redaer-secret"),
    ("no_group", "puorg-secret"),
    ("no_topic", "cipot-secret"),
    ("stranger", "regnarts-secret"),
];

struct Servers {
    kafka: Kafka,
    security: Security,
    postgres: Postgres,
    folder: tempfile::TempDir,
}

impl Servers {
    /// Starts the servers with the topic created and the privileges that the user names indicate.
    fn start() -> Self {
        Self::with_clients_of(None)
    }

    /// The broker accepts client certificates of another authority than its own.
    fn with_clients_of(clients: Option<&Authority>) -> Self {
        let authority = Authority::new("kafka").unwrap();
        let server = authority.issue(&["localhost", "127.0.0.1"]).unwrap();
        let security = Security::new(&server, &authority, &USERS).unwrap();
        let security = match clients {
            Some(clients) => security.with_clients_of(clients).unwrap(),
            None => security,
        };
        let kafka = Kafka::secured(&security).unwrap();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", kafka.bootstrap_servers())
            .extend(kafka.admin_properties().into_iter().map(|(name, value)| (name.to_owned(), value)));
        runtime().block_on(ensure_topic(&config, "product-events")).unwrap();
        std::thread::scope(|scope| {
            for (users, operation, resource) in [
                (&["reader", "no_group"][..], "READ", TOPIC),
                (&["reader", "no_topic"], "READ", GROUP),
                (&["no_topic"], "DESCRIBE", TOPIC),
                (&["writer"], "WRITE", TOPIC),
            ] {
                let kafka = &kafka;
                scope.spawn(move || kafka.allow(users, operation, &resource).unwrap());
            }
        });
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), authority.certificate().unwrap()).unwrap();
        fs::write(folder.path().join("other.pem"), Authority::new("other").unwrap().certificate().unwrap()).unwrap();
        let servers = Self { kafka, security, postgres: Postgres::ephemeral().unwrap(), folder };
        let mut migrate = Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
        assert!(migrate.args(["migrate", "--database-url", &servers.postgres.url()]).status().unwrap().success());
        servers.query("CREATE ROLE loader LOGIN PASSWORD 'loader-secret'");
        servers.query("GRANT pipeline_writer TO loader");
        servers
    }

    /// Returns a program that authenticates as this user in the documented way.
    fn program(&self, name: &str, word: &str, user: &str) -> Command {
        let path = PathBuf::from(env!("CARGO_BIN_EXE_kafka-consumer")).with_file_name(name);
        assert!(path.exists(), "{} is missing: cargo build --workspace", path.display());
        let password = USERS.iter().find(|(one, _)| *one == user).unwrap().1;
        let properties = self.folder.path().join(format!("{user}.properties"));
        let text = format!("sasl.mechanism=SCRAM-SHA-512\nsasl.username={user}\nsasl.password={password}\n");
        fs::write(&properties, text).unwrap();
        let mut command = Command::new(path);
        command.args([word, "--log-format", "json", "--bootstrap-servers", &self.kafka.bootstrap_servers()]);
        command.args(["-X", "security.protocol=SASL_SSL"]).arg("--kafka-config").arg(properties);
        command.arg("-X").arg(format!("ssl.ca.location={}", self.folder.path().join("ca.pem").display()));
        command
    }

    /// Returns a consumer with a writer's privileges in PostgreSQL.
    fn consumer(&self, user: &str) -> Command {
        let mut command = self.told("run", user);
        command.args(["--until-caught-up", "--no-migrate"]);
        command
    }

    fn told(&self, word: &str, user: &str) -> Command {
        let mut command = self.program("kafka-consumer", word, user);
        command.args(["--database-url", &self.postgres.url().replace("admin:admin@", "loader:loader-secret@")]);
        command
    }

    fn query(&self, sql: &str) -> Vec<tokio_postgres::Row> {
        runtime().block_on(async {
            let url = self.postgres.url();
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.query(sql, &[]).await.unwrap()
        })
    }

    fn rows(&self) -> i64 {
        self.query("SELECT count(*) FROM staging.product_events_raw")[0].get(0)
    }

    fn generator(&self, user: &str) -> Command {
        let mut command = self.program("event-generator", "run", user);
        command.args(["--no-lake", "--rate", "max", "--count", "1000", "--http-addr", "off", "--state-dir"]);
        command.arg(self.folder.path());
        command
    }
}

/// Replaces a file in one step, as a secret manager does.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, file).unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that the command fails with a clear error within ten seconds, without a password in its output.
fn refused(mut command: Command, parts: &[&str]) {
    let began = Instant::now();
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let (took, said) = (began.elapsed(), said(&output));
    assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
    assert!(took < Duration::from_secs(10), "{took:?}: {said}");
    let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("no error: {said}"));
    assert!(parts.iter().all(|part| error.contains(part)), "{parts:?} not all in: {error}");
    assert!(!said.contains("-secret"), "{said}");
}

#[test]
fn the_documented_rights_are_enough_and_each_missing_one_is_named() {
    let servers = Servers::start();
    let output = servers.generator("writer").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let output = servers.consumer("reader").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(servers.rows(), 1_000);
    let output = servers.told("doctor", "reader").arg("--no-lake").output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    assert!(found.contains("WARN kafka      topic settings: not reported by the broker"), "{found}");
    assert!(!found.contains("retention.ms"), "unreported settings are not shown: {found}");

    refused(servers.consumer("no_group"), &["cannot join group kafka-consumer; grant the Kafka user READ on it"]);
    refused(servers.consumer("no_topic"), &["cannot read topic product-events", "grant the Kafka user READ on it"]);
    refused(servers.consumer("stranger"), &["product-events", "DESCRIBE on the topic"]);
    refused(servers.generator("no_topic"), &["WRITE on the topic"]);
    refused(servers.generator("stranger"), &["product-events", "DESCRIBE on the topic"]);
}

#[test]
fn a_client_that_cannot_come_in_is_told_why() {
    let servers = Servers::start();
    let with = |property: &str| {
        let mut command = servers.consumer("reader");
        command.args(["-X", property]);
        command
    };
    refused(with("sasl.password=wrong-secret"), &["cannot connect to Kafka", "invalid credentials", "sasl.password"]);
    refused(with("sasl.mechanism=PLAIN"), &["cannot connect to Kafka", "SCRAM-SHA-512"]);
    let other = format!("ssl.ca.location={}", servers.folder.path().join("other.pem").display());
    refused(with(&other), &["cannot connect to Kafka", "certificate verify failed", "ssl.ca.location"]);
    refused(with("security.protocol=PLAINTEXT"), &["security.protocol"]);
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The broker restarts with another password of the user. The file of the program follows later, or never.
#[test]
fn a_rotated_password_is_read_again_or_ends_the_programs() {
    let mut servers = Servers::start();
    let mut consumer = servers.told("run", "reader");
    consumer.args(["--no-migrate", "--http-addr", "127.0.0.1:0"]);
    let mut consumer = Watched::run(&mut consumer);
    let mut impatient = servers.told("run", "reader");
    impatient.args(["--no-migrate", "--http-addr", "off", "--login-grace", "3s", "-X", "sasl.password=redaer-secret"]);
    let impatient = impatient.stderr(Stdio::piped()).spawn().unwrap();
    let mut generator = servers.program("event-generator", "run", "writer");
    generator.args(["--no-lake", "--rate", "100/s", "--http-addr", "127.0.0.1:0", "--state-dir"]);
    let mut generator = Watched::run(generator.arg(servers.folder.path()));
    wait_for("rows", || servers.rows() > 100);
    for program in [&mut consumer, &mut generator] {
        program.wait_until("ready", |one| one.get("/readyz").0 == 200);
    }

    for user in ["reader", "writer"] {
        servers.kafka.set_password(user, "rotated-secret").unwrap();
    }
    servers.kafka.kill().unwrap();
    servers.kafka.restart().unwrap();
    for (program, reason) in [(&mut consumer, "kafka refuses the login"), (&mut generator, "Kafka refuses the login")] {
        program.wait_until("the refusal", |one| one.get("/readyz").1.contains(reason));
        assert_eq!(program.get("/readyz").0, 503);
    }
    let output = impatient.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("error: cannot log in to Kafka: refused for"), "{}", said(&output));

    let before = servers.rows();
    for user in ["reader", "writer"] {
        let text = format!("sasl.mechanism=SCRAM-SHA-512\nsasl.username={user}\nsasl.password=rotated-secret\n");
        replace(&servers.folder.path().join(format!("{user}.properties")), &text);
    }
    for program in [&mut consumer, &mut generator] {
        program.wait_until("ready again", |one| one.get("/readyz").0 == 200);
    }
    wait_for("more rows", || servers.rows() > before + 300);
    assert!(consumer.said().contains("kafka credentials replaced, logging in again"), "{}", consumer.said());
    assert!(generator.said().contains("kafka login refused"), "{}", generator.said());
    consumer.end();
    generator.end();
}

/// The broker restarts and accepts only the client certificates of another authority. The file of the consumer is
/// replaced later.
#[test]
fn a_replaced_client_certificate_is_read_again() {
    // librdkafka sends no certificate whose issuer's name the broker does not list.
    let [former, next] = ["clients"; 2].map(|name| Authority::new(name).unwrap());
    let mut servers = Servers::with_clients_of(Some(&former));
    let identity = servers.folder.path().join("client.pem");
    let issue = |authority: &Authority| {
        let issued = authority.issue(&["reader"]).unwrap();
        replace(&identity, &format!("{}{}", issued.certificate().unwrap(), issued.key().unwrap()));
    };
    issue(&former);
    let with_certificate = |servers: &Servers| {
        let mut consumer = servers.told("run", "reader");
        for property in ["ssl.certificate.location", "ssl.key.location"] {
            consumer.arg("-X").arg(format!("{property}={}", identity.display()));
        }
        consumer.arg("--no-migrate");
        consumer
    };
    let mut consumer = with_certificate(&servers);
    consumer.args(["--http-addr", "127.0.0.1:0"]);
    let mut consumer = Watched::run(&mut consumer);
    assert!(servers.generator("writer").output().unwrap().status.success());
    wait_for("rows", || servers.rows() == 1_000);

    let security = servers.security.clone().with_clients_of(&next).unwrap();
    servers.kafka.kill().unwrap();
    servers.kafka.set_certificates(&security).unwrap();
    servers.kafka.restart().unwrap();
    consumer.wait_until("the refusal", |one| one.get("/readyz").1.contains("kafka refuses the login"));
    assert_eq!(consumer.get("/readyz").0, 503);
    let mut other = with_certificate(&servers);
    other.args(["--http-addr", "off", "--until-caught-up"]);
    refused(other, &["cannot connect to Kafka", "certificate", "ssl.certificate.location"]);

    issue(&next);
    consumer.wait_until("ready again", |one| one.get("/readyz").0 == 200);
    assert!(servers.generator("writer").output().unwrap().status.success());
    wait_for("more rows", || servers.rows() == 2_000);
    assert!(consumer.said().contains("kafka credentials replaced, logging in again"), "{}", consumer.said());
    consumer.end();
}
