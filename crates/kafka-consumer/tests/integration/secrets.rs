//! Secrets do not leak: each one is a canary here, and no output of the programs contains one, at any log level.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::support::runtime;
use crate::support::watched::Watched;
use local_stack::certificates::Authority;
use local_stack::kafka_security::Security;
use local_stack::{Kafka, Postgres, S3};
use pipeline_runtime::kafka::ensure_topic;
use rdkafka::config::ClientConfig;

/// Text that all canaries contain and nothing else does.
const CANARY: &str = "kanarienvogel";
const USER: (&str, &str) = ("singer", "kanarienvogel-sasl");
const DATABASE_PASSWORD: &str = "kanarienvogel-pg";
/// Secret key that the object store accepts.
const S3_SECRET: &str = "local-stack-secret";

struct Cage {
    kafka: Kafka,
    postgres: Postgres,
    object_store: S3,
    folder: tempfile::TempDir,
}

impl Cage {
    fn start() -> Self {
        let authority = Authority::new("kafka").unwrap();
        let server = authority.issue(&["127.0.0.1"]).unwrap();
        let kafka = Kafka::secured(&Security::new(&server, &authority, &[USER]).unwrap()).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.bootstrap_servers());
        config.extend(kafka.admin_properties().into_iter().map(|(name, value)| (name.to_owned(), value)));
        runtime().block_on(ensure_topic(&config, "product-events")).unwrap();
        kafka.allow(&[USER.0], "ALL", &["--topic", "product-events"]).unwrap();
        kafka.allow(&[USER.0], "READ", &["--group", "kafka-consumer"]).unwrap();
        let postgres = Postgres::ephemeral().unwrap();
        runtime().block_on(async {
            let url = postgres.url();
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            let role = format!("CREATE ROLE singer SUPERUSER LOGIN PASSWORD '{DATABASE_PASSWORD}'");
            client.batch_execute(&role).await.unwrap();
        });
        let cage =
            Self { kafka, postgres, object_store: S3::ephemeral().unwrap(), folder: tempfile::tempdir().unwrap() };
        let mine = authority.issue(&["singer"]).unwrap();
        cage.write("ca.pem", &authority.certificate().unwrap());
        cage.write("mine.crt", &mine.certificate().unwrap());
        cage.write("mine.key", &mine.encrypted_key("kanarienvogel-key").unwrap());
        cage.write(".pgpass", "*:*:*:*:kanarienvogel-pgpass\n");
        cage.write("kafka.properties", &cage.properties(USER.1));
        cage.write("wrong.properties", &cage.properties("kanarienvogel-wrong"));
        cage
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn properties(&self, password: &str) -> String {
        format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.username={}\nsasl.password={password}\n\
             ssl.ca.location={}\nssl.certificate.location={}\nssl.key.location={}\n\
             ssl.key.password=kanarienvogel-key\n",
            USER.0,
            self.path("ca.pem"),
            self.path("mine.crt"),
            self.path("mine.key")
        )
    }

    fn url(&self, password: &str) -> String {
        format!("postgres://singer:{password}@127.0.0.1:{}/warehouse", self.postgres.port())
    }

    fn program(&self, name: &str) -> Command {
        let path = PathBuf::from(env!("CARGO_BIN_EXE_kafka-consumer")).with_file_name(name);
        assert!(path.exists(), "{} is missing: cargo build --workspace", path.display());
        let mut command = Command::new(path);
        command.env_clear().envs([("HOME", self.folder.path().to_str().unwrap()), ("RUST_LOG", "trace")]);
        command.args(["run", "--bootstrap-servers", &self.kafka.bootstrap_servers()]);
        command
    }

    fn consumer(&self, properties: &str, url: &str) -> Command {
        let mut command = self.program("kafka-consumer");
        command.args(["--until-caught-up", "--kafka-config", &self.path(properties), "--database-url", url]);
        command
    }

    fn generator(&self, properties: &str, secret: &str) -> Command {
        let mut command = self.program("event-generator");
        command.args(["--rate", "max", "--count", "2000", "--kafka-config", &self.path(properties)]);
        let access = self.object_store.access();
        command.args(["--lake", &format!("s3://{}", access.bucket)]);
        command.env("AWS_ACCESS_KEY_ID", &access.access_key).env("AWS_SECRET_ACCESS_KEY", secret);
        command.env("AWS_ENDPOINT_URL", &access.endpoint).env("AWS_REGION", &access.region);
        command
    }
}

/// Runs a command, expects this exit code, and asserts that neither stream contains a secret.
fn silent(mut command: Command, code: i32) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let end: String = said.lines().rev().take(3).collect();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {end}");
    assert!(!said.is_empty(), "{command:?}");
    let sung = said.lines().find(|line| line.contains(CANARY) || line.contains(S3_SECRET));
    assert_eq!(sung, None, "{command:?}");
}

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

#[test]
fn nothing_that_the_programs_write_has_a_secret_in_it() {
    let cage = Cage::start();
    let (good, right) = ("kafka.properties", cage.url(DATABASE_PASSWORD));
    let consumer = |arguments: &[&str]| with(cage.consumer(good, &right), arguments);
    let generator = |arguments: &[&str]| with(cage.generator(good, S3_SECRET), arguments);

    silent(generator(&["-X", "debug=all"]), 0);
    silent(consumer(&["-X", "debug=all"]), 0);
    silent(generator(&["--print-config", "-X", "sasl.password=kanarienvogel-x"]), 0);
    silent(consumer(&["--print-config", "-X", "sasl.password=kanarienvogel-x"]), 0);

    silent(cage.consumer("wrong.properties", &right), 1);
    silent(cage.generator("wrong.properties", S3_SECRET), 1);
    silent(cage.consumer(good, &cage.url("kanarienvogel-wrong")), 1);
    silent(cage.consumer(good, "postgres://singer:kanarienvogel-far@127.0.0.1:9/warehouse"), 1);
    silent(cage.consumer(good, "postgres://singer:kanarienvogel-far@127.0.0.1:port/warehouse"), 2);
    silent(cage.consumer(good, "postgres://singer:kanarienvogel-far@127.0.0.1/w?sslmode=require&sslcert=/no/such"), 2);
    let locked = format!("sslmode=require&sslcert={}&sslkey={}", cage.path("mine.crt"), cage.path("mine.key"));
    silent(cage.consumer(good, &format!("{right}?{locked}&sslpassword=kanarienvogel-wrong")), 2);
    silent(cage.generator(good, "kanarienvogel-s3"), 1);
    silent(with(cage.generator(good, S3_SECRET), &["--topic", "no such topic"]), 1);
    silent(consumer(&["-X", "kanarienvogel-without-a-name"]), 2);
    silent(consumer(&["--databaseurl=postgres://me:kanarienvogel-typo@host/db"]), 2);
    silent(consumer(&["-X", "ssl.key.password=kanarienvogel-wrong"]), 2);
    silent(consumer(&["-X", "sasl.oauthbearer.client.secret=kanarienvogel-o", "--print-config"]), 0);
}

#[test]
fn variables_and_the_password_file_are_kept_secret_too() {
    let cage = Cage::start();
    let by_variables = |password: Option<&str>| {
        let mut command = cage.program("kafka-consumer");
        command.args(["--until-caught-up", "--kafka-config", &cage.path("kafka.properties")]);
        let port = cage.postgres.port().to_string();
        command.envs([("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGUSER", "singer"), ("PGDATABASE", "warehouse")]);
        command.envs(password.map(|password| ("PGPASSWORD", password)));
        command
    };
    silent(by_variables(Some(DATABASE_PASSWORD)), 0);
    silent(by_variables(Some("kanarienvogel-wrong")), 1);
    // The password file, whose password is wrong.
    silent(by_variables(None), 1);
    let mut session = cage.generator("kafka.properties", S3_SECRET);
    session.env("AWS_SESSION_TOKEN", "kanarienvogel-token");
    let output = session.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().find(|line| line.contains(CANARY)), None);
    for log in [cage.kafka.log(), cage.postgres.log(), cage.object_store.log()] {
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
        assert_eq!(text.lines().find(|line| line.contains(CANARY)), None, "{}", log.display());
    }
}

/// Covers normal operation, and an outage of PostgreSQL, when the pages contain errors.
#[test]
fn nothing_that_is_served_has_a_secret_in_it() {
    let mut cage = Cage::start();
    let mut command = cage.program("kafka-consumer");
    command.args([
        "--log-format",
        "json",
        "--http-addr",
        "127.0.0.1:0",
        "--kafka-config",
        &cage.path("kafka.properties"),
    ]);
    command.args(["--database-url", &cage.url(DATABASE_PASSWORD)]);
    let mut served = Watched::run(&mut command);
    let served_silently = |served: &Watched| {
        for path in ["/", "/state", "/metrics", "/livez", "/readyz"] {
            let (status, text) = served.get(path);
            assert!([200, 503].contains(&status) && !text.is_empty(), "{path}: {status}");
            assert!(!text.contains(CANARY), "{path}: {text}");
        }
    };
    served.wait_until("ready", |one| one.get("/readyz").0 == 200);
    served_silently(&served);
    let mut command = cage.generator("kafka.properties", S3_SECRET);
    cage.postgres.kill().unwrap();
    assert!(command.output().unwrap().status.success());
    served.wait_until("an outage", |one| one.get("/readyz").0 == 503);
    served_silently(&served);
}
