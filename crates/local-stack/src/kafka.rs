//! Kafka as one JVM in the broker and controller roles.

use std::borrow::BorrowMut;
use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::error::{At, StackError};
use crate::kafka_security::Security;
use crate::name::Name;
use crate::places::{Dist, copy_folder};
use crate::ports;
use crate::process::Signal;
use crate::proxy::Proxy;
use crate::server::Server;
use crate::service::{Service, StopSignal};

const SERVER_PROPERTIES: &str = include_str!("../../../deploy/local-stack/kafka/server.properties");
const LOG4J2_PROPERTIES: &str = include_str!("../../../deploy/local-stack/kafka/log4j2.properties");
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// A dedicated Kafka broker.
pub type Kafka = Server<KafkaService>;

/// Folder and ports of a Kafka broker.
#[derive(Debug, Clone)]
pub struct KafkaService {
    dist: Dist,
    folder: PathBuf,
    log: PathBuf,
    port: u16,
    controller_port: u16,
    behind: Vec<Behind>,
    security: Option<Security>,
    /// Lines that follow the other properties of the broker.
    properties: String,
}

/// An additional listener that advertises another port: that of a proxy.
#[derive(Debug, Clone, Copy)]
struct Behind {
    port: u16,
    advertised: u16,
}

impl Kafka {
    /// Starts a broker that is also reachable through a proxy.
    ///
    /// Clients that bootstrap from the proxy's port stay behind the proxy; clients that bootstrap from
    /// [`Kafka::bootstrap_servers`] bypass it.
    pub fn ephemeral_behind(proxy: &Proxy) -> Result<Self, StackError> {
        Self::ephemeral_behind_all(&[proxy])
    }

    /// Starts a broker behind several proxies, each of which can fail independently.
    pub fn ephemeral_behind_all(proxies: &[&Proxy]) -> Result<Self, StackError> {
        let kafka = Self::ephemeral_as(|mut service| {
            for proxy in proxies {
                let taken = service.ports();
                let port = ports::free_where(|other| !taken.contains(&other))?;
                service.behind.push(Behind { port, advertised: proxy.port() });
            }
            Ok(service)
        })?;
        for (proxy, behind) in proxies.iter().zip(&kafka.service.behind) {
            proxy.pass_to(behind.port);
        }
        Ok(kafka)
    }

    /// Starts a broker that requires TLS and SCRAM-SHA-512 and denies all operations except those allowed by
    /// [`Kafka::allow`].
    pub fn secured(security: &Security) -> Result<Self, StackError> {
        Self::ephemeral_as(|service| Ok(KafkaService { security: Some(security.clone()), ..service }))
    }

    /// Replaces the certificate and the authorities of a secured broker. Takes effect with its next start.
    pub fn set_certificates(&self, security: &Security) -> Result<(), StackError> {
        security.write_files(&self.service.folder)
    }

    /// Sets a property of the broker. Takes effect with its next start.
    pub fn set_property(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.service.properties, "{name}={value}");
    }

    /// Returns the librdkafka properties of a secured broker's superuser, or nothing for an unsecured broker.
    #[must_use]
    pub fn admin_properties(&self) -> Vec<(&'static str, String)> {
        let security = self.service.security.iter();
        security.flat_map(|_| Security::admin_properties(&self.service.folder)).collect()
    }

    /// Adds ACLs on a secured broker that allow users an operation, such as `READ` on `--topic product-events`.
    pub fn allow(&self, users: &[&str], operation: &str, resource: &[&str]) -> Result<(), StackError> {
        let (servers, settings) = (self.bootstrap_servers(), self.service.folder.join("admin.properties"));
        let settings = settings.to_string_lossy();
        let principals: Vec<String> = users.iter().map(|user| format!("User:{user}")).collect();
        let mut arguments = vec!["--bootstrap-server", &servers, "--command-config", &settings, "--add", "--force"];
        arguments.extend(["--operation", operation]);
        arguments.extend(resource);
        arguments.extend(principals.iter().flat_map(|principal| ["--allow-principal", principal]));
        run(self.tool("org.apache.kafka.tools.AclCommand", &arguments), "AclCommand")
    }

    /// Changes the password of a user of a secured broker. Connections that are logged in stay open.
    pub fn set_password(&self, user: &str, password: &str) -> Result<(), StackError> {
        let (servers, settings) = (self.bootstrap_servers(), self.service.folder.join("admin.properties"));
        let (settings, scram) = (settings.to_string_lossy(), format!("SCRAM-SHA-512=[password={password}]"));
        let of_user = ["--entity-type", "users", "--entity-name", user];
        let mut arguments = vec!["--bootstrap-server", &servers, "--command-config", &settings, "--alter"];
        arguments.extend(["--add-config", &scram].into_iter().chain(of_user));
        run(self.tool("kafka.admin.ConfigCommand", &arguments), "ConfigCommand")
    }

    /// Returns the value of `bootstrap.servers`: `127.0.0.1:PORT`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Returns a command that runs one of Kafka's own command line tools, of the same version as the broker:
    /// `org.apache.kafka.tools.ConsoleProducer`, `TopicCommand`, `ConsumerPerformance` and others. The arguments must
    /// name the broker.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let kafka = local_stack::Kafka::ephemeral()?;
    /// let topics = kafka
    ///     .tool("org.apache.kafka.tools.TopicCommand", &["--bootstrap-server", &kafka.bootstrap_servers(), "--list"])
    ///     .output()?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Command {
        let mut command = self.service.java();
        command.arg("-Xmx256m").arg("-XX:TieredStopAtLevel=1").arg(class).args(arguments);
        command
    }
}

impl KafkaService {
    /// Returns `java` with Kafka's class path and log settings. The caller appends JVM flags, then the class.
    fn java(&self) -> Command {
        let mut command = Command::new(java());
        command
            .arg("-cp")
            .arg(self.dist.folder.join("kafka/*"))
            .arg(format!("-Dlog4j2.configurationFile={}", self.folder.join("log4j2.properties").display()));
        command
    }

    fn properties(&self) -> String {
        let Self { port, controller_port, .. } = self;
        let mut text = SERVER_PROPERTIES.to_owned();
        let log = self.folder.join("log");
        let _ = write!(
            text,
            "\ncontroller.quorum.voters=1@127.0.0.1:{controller_port}\n\
             listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
             advertised.listeners=BROKER://127.0.0.1:{port}\n\
             log.dirs={}\n",
            log.display()
        );
        if !self.behind.is_empty() {
            text += &self.listeners_behind();
        }
        if self.security.is_some() {
            text = text.replace("BROKER:PLAINTEXT", "BROKER:SASL_SSL") + &Security::broker_properties(&self.folder);
        }
        text + &self.properties
    }

    /// Returns the listeners including those of the proxies. These lines follow the defaults, as the last value of a
    /// property wins.
    fn listeners_behind(&self) -> String {
        let Self { port, controller_port, .. } = self;
        let mut listeners = format!("listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}");
        let mut advertised = format!("advertised.listeners=BROKER://127.0.0.1:{port}");
        let mut protocols = "listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        for (number, behind) in self.behind.iter().enumerate() {
            let _ = write!(listeners, ",BEHIND{number}://127.0.0.1:{}", behind.port);
            let _ = write!(advertised, ",BEHIND{number}://127.0.0.1:{}", behind.advertised);
            let _ = write!(protocols, ",BEHIND{number}:PLAINTEXT");
        }
        format!("{listeners}\n{advertised}\n{protocols}\n")
    }

    /// Creates a log folder like Kafka's own format command, with a new cluster ID.
    fn format(&self, log: &Path) -> Result<(), StackError> {
        let unfinished = self.folder.join("log.new");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).at("remove", &unfinished)?;
        }
        copy_folder(&self.dist.folder.join("kafka-formatted"), &unfinished)?;
        let file = unfinished.join("meta.properties");
        let old = fs::read_to_string(&file).at("read", &file)?;
        let own_id = format!("cluster.id={}\n", cluster_id());
        let kept = old.lines().filter(|line| !line.starts_with("cluster.id="));
        let lines: Vec<&str> = kept.chain([own_id.as_str()]).collect();
        fs::write(&file, lines.join("\n")).at("write", &file)?;
        fs::rename(&unfinished, log).at("create", log)
    }
}

impl Service for KafkaService {
    const NAME: Name = Name::Kafka;
    const STOP: StopSignal = StopSignal(Signal::Term);
    const ABORT: StopSignal = StopSignal(Signal::Kill);

    fn at(folder: &Path, log: &Path, port: u16) -> Result<Self, StackError> {
        let controller_port = ports::free_where(|other| other != port)?;
        Ok(Self {
            dist: Dist::find()?,
            folder: folder.to_owned(),
            log: log.to_owned(),
            port,
            controller_port,
            behind: Vec::new(),
            security: None,
            properties: String::new(),
        })
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> &Path {
        &self.log
    }

    fn ports(&self) -> Vec<u16> {
        let behind = self.behind.iter().map(|behind| behind.port);
        [self.port, self.controller_port].into_iter().chain(behind).collect()
    }

    fn prepare(&self) -> Result<(), StackError> {
        fs::create_dir_all(&self.folder).at("create", &self.folder)?;
        let log = self.folder.join("log");
        if !log.exists() {
            match &self.security {
                None => self.format(&log)?,
                Some(security) => {
                    security.write_files(&self.folder)?;
                    let file = self.folder.join("server.properties");
                    fs::write(&file, self.properties()).at("write", &file)?;
                    let mut command = self.java();
                    command.args(["kafka.tools.StorageTool", "format", "--cluster-id", &cluster_id(), "--config"]);
                    run(command.arg(&file).args(security.format_arguments()), "StorageTool")?;
                }
            }
        }
        for (name, text) in
            [("server.properties", self.properties()), ("log4j2.properties", LOG4J2_PROPERTIES.to_owned())]
        {
            let file = self.folder.join(name);
            fs::write(&file, text).at("write", &file)?;
        }
        Ok(())
    }

    fn command(&self) -> Result<Command, StackError> {
        let mut command = self.java();
        // The broker unpacks its compression libraries there, and leaves them behind when it is killed.
        command.arg("-Xmx512m").arg(format!("-Djava.io.tmpdir={}", self.folder.display()));
        if cfg!(debug_assertions) {
            // Brokers of tests live for seconds: without the optimising compiler they take half the processor time to
            // start. Benchmarks are release builds, because a long-lived broker needs a third less per event with it.
            command.arg("-XX:TieredStopAtLevel=1");
        }
        let archive = self.dist.folder.join("kafka.jsa");
        if archive.exists() {
            // Class data archive; the JVM ignores an archive of another Java version.
            command.arg(format!("-XX:SharedArchiveFile={}", archive.display())).arg("-Xshare:auto");
        }
        command.arg("kafka.Kafka").arg(self.folder.join("server.properties")).current_dir(&self.folder);
        Ok(command)
    }

    fn ask(&self) -> Result<(), String> {
        let mut config = ClientConfig::new();
        for (name, value) in self.security.iter().flat_map(|_| Security::admin_properties(&self.folder)) {
            config.set(name, value);
        }
        let client: BaseConsumer = config
            .set("bootstrap.servers", format!("127.0.0.1:{}", self.port))
            .set("reconnect.backoff.max.ms", "100")
            .set("log_level", "0")
            .create()
            .map_err(|error| error.to_string())?;
        let metadata = client.fetch_metadata(None, QUESTION_LIMIT).map_err(|error| error.to_string())?;
        if metadata.brokers().is_empty() { Err("the broker has not joined its cluster yet".to_owned()) } else { Ok(()) }
    }
}

fn run(mut command: impl BorrowMut<Command>, step: &str) -> Result<(), StackError> {
    let refused = |cause| StackError::SetUp { server: Name::Kafka, step: step.to_owned(), cause };
    let output = command.borrow_mut().output().map_err(|error| refused(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(refused(String::from_utf8_lossy(&said).trim().to_owned()))
}

/// Returns 22 characters, the length of 16 bytes in base64. Only two bits of the last character count, hence a
/// constant.
fn cluster_id() -> String {
    const DIGITS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // The hasher's keys are random, so no crate for random numbers is needed.
    let digit = |place: u64| {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(place);
        let index = usize::try_from(hasher.finish() % 62).unwrap_or_default();
        char::from(DIGITS[index])
    };
    (0..21).map(digit).chain(['A']).collect()
}

/// Returns the Java executable: that of `JAVA_HOME`, else the one on the `PATH`.
#[must_use]
pub fn java() -> PathBuf {
    match std::env::var_os("JAVA_HOME") {
        Some(home) if !home.is_empty() => PathBuf::from(home).join("bin/java"),
        _ => PathBuf::from("java"),
    }
}
