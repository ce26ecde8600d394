//! PostgreSQL with its default settings.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

use crate::account::Account;
use crate::certificates::{Authority, Identity};
use crate::defaults::{DATABASE, DATABASE_PASSWORD, DATABASE_USER};
use crate::error::{At, StackError};
use crate::name::Name;
use crate::places::{Dist, other_postgres, repository};
use crate::process::Signal;
use crate::proxy::Proxy;
use crate::server::Server;
use crate::service::{Service, StopSignal, apart, wait_for};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Database that `initdb` creates.
const MAINTENANCE: &str = "postgres";

/// A dedicated PostgreSQL server.
pub type Postgres = Server<PostgresService>;

/// Folders, port and account of a PostgreSQL server.
#[derive(Debug, Clone)]
pub struct PostgresService {
    programs: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    port: u16,
    account: Option<Account>,
}

impl Postgres {
    /// Returns the URL of the database `warehouse` for the superuser.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.port(), DATABASE)
    }

    /// Enables TLS with this certificate and restarts the server.
    ///
    /// The server requests client certificates issued by `clients` and admits the connections that match `rules`, lines
    /// of `pg_hba.conf`. The superuser is admitted as before.
    pub fn offer_tls(&mut self, server: &Identity, clients: &Authority, rules: &str) -> Result<(), StackError> {
        self.service.install_tls(server, clients, rules)?;
        self.restart()
    }

    /// Starts a standby that streams from this server through a proxy. Stops this server while its data is copied.
    pub fn standby_behind(&mut self, proxy: &Proxy) -> Result<Self, StackError> {
        self.stop()?;
        let standby = Self::ephemeral_as(|standby| {
            standby.become_standby(&self.service, proxy.port())?;
            Ok(standby)
        })?;
        self.restart()?;
        Ok(standby)
    }

    /// Returns the URL of another database of the same server, without creating it.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        url(self.port(), database)
    }
}

pub(crate) fn url(port: u16, database: &str) -> String {
    format!("postgres://{DATABASE_USER}:{DATABASE_PASSWORD}@127.0.0.1:{port}/{database}")
}

impl PostgresService {
    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn install_tls(&self, server: &Identity, clients: &Authority, rules: &str) -> Result<(), StackError> {
        let rules = format!("host all {DATABASE_USER} 127.0.0.1/32 scram-sha-256\n{rules}\n");
        let settings = "ssl = on\nssl_ca_file = 'clients.crt'\n".to_owned();
        let files = [
            ("server.crt", server.certificate()?),
            ("server.key", server.key()?),
            ("clients.crt", clients.certificate()?),
            ("pg_hba.conf", rules),
            ("postgresql.auto.conf", settings),
        ];
        for (name, text) in files {
            let file = self.data().join(name);
            fs::write(&file, text).at("write", &file)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).at("set the permissions of", &file)?;
            if let Some(account) = &self.account {
                account.own(&file)?;
            }
        }
        Ok(())
    }

    /// Copies the data of a stopped server, which this one follows from now on.
    fn become_standby(&self, primary: &Self, port: u16) -> Result<(), StackError> {
        let data = self.data();
        if data.exists() {
            fs::remove_dir_all(&data).at("remove", &data)?;
        }
        fs::create_dir_all(&self.folder).at("create", &self.folder)?;
        let copied = Command::new("cp").arg("--archive").arg(primary.data()).arg(&data).status();
        if !copied.at("copy", &primary.data())?.success() {
            return Err(StackError::SetUp {
                server: Name::Postgres,
                step: "standby".to_owned(),
                cause: "cp".to_owned(),
            });
        }
        let settings = format!(
            "primary_conninfo = 'host=127.0.0.1 port={port} user={DATABASE_USER} password={DATABASE_PASSWORD}'\n\
             wal_retrieve_retry_interval = '100ms'\n"
        );
        // The data folder belongs to PostgreSQL's account, and so does the copy of this file.
        let configuration = data.join("postgresql.auto.conf");
        fs::write(&configuration, settings).at("write", &configuration)?;
        let signal = self.standby_signal();
        fs::write(&signal, "").at("write", &signal)?;
        if let Some(account) = &self.account {
            account.own(&self.folder)?;
            account.own(&signal)?;
        }
        let done = self.folder.join("initialised");
        fs::write(&done, "").at("write", &done)
    }

    /// Returns the file that makes the server a standby. A promotion removes it.
    fn standby_signal(&self) -> PathBuf {
        self.data().join("standby.signal")
    }

    /// Returns a command for one of PostgreSQL's programs under the right account, with English messages and UTC times.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join("bin").join(name));
        if let Some(account) = &self.account {
            account.run(&mut command);
        }
        command.env("LC_ALL", "C").env("TZ", "UTC").current_dir(&self.folder);
        command
    }

    fn init(&self) -> Result<(), StackError> {
        let (data, password) = (self.data(), self.folder.join("password"));
        // Left behind by an interrupted attempt.
        if data.exists() {
            fs::remove_dir_all(&data).at("remove", &data)?;
        }
        fs::write(&password, DATABASE_PASSWORD).at("write", &password)?;
        if let Some(account) = &self.account {
            account.own(&self.folder)?;
            account.own(&password)?;
        }
        // PostgreSQL 16 and older have no builtin locales.
        let locale: &[&str] = match other_postgres() {
            Some(_) => &["--locale", "C.UTF-8"],
            None => &["--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"],
        };
        let output = self
            .program("initdb")
            .arg("--pgdata")
            .arg(&data)
            .arg("--pwfile")
            .arg(&password)
            .args(["--username", DATABASE_USER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync"])
            .args(locale)
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| StackError::Program {
                program: "initdb".to_owned(),
                cause,
                advice: "run scripts/setup",
            })?;
        let _ = fs::remove_file(&password);
        if output.status.success() {
            return Ok(());
        }
        let cause = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(StackError::SetUp { server: Name::Postgres, step: "initdb".to_owned(), cause })
    }

    async fn connect(&self, database: &str) -> Result<Client, String> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(DATABASE_USER).password(DATABASE_PASSWORD).dbname(database);
        config.connect_timeout(CONNECT_LIMIT);
        let (client, connection) = config.connect(NoTls).await.map_err(|error| explain(&error))?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn make_database(&self) -> Result<(), String> {
        let client = self.connect(MAINTENANCE).await?;
        let found = client.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&DATABASE]).await;
        if found.map_err(|error| explain(&error))?.is_none() {
            client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await.map_err(|error| explain(&error))?;
        }
        Ok(())
    }

    async fn run_script(&self, sql: &str) -> Result<(), String> {
        self.connect(DATABASE).await?.batch_execute(sql).await.map_err(|error| explain(&error))
    }
}

impl Service for PostgresService {
    const NAME: Name = Name::Postgres;
    /// Fast shutdown: the smart shutdown of SIGTERM would wait for clients to disconnect.
    const STOP: StopSignal = StopSignal(Signal::Int);
    /// Immediate shutdown: also ends the backend processes, which a SIGKILL of the postmaster alone leaves running.
    const ABORT: StopSignal = StopSignal(Signal::Quit);

    fn at(folder: &Path, log: &Path, port: u16) -> Result<Self, StackError> {
        let account = Account::for_postgres()?;
        let programs = Dist::find()?.postgres_for(account.as_ref())?;
        Ok(Self { programs, folder: folder.to_owned(), log: log.to_owned(), port, account })
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> &Path {
        &self.log
    }

    fn ports(&self) -> Vec<u16> {
        vec![self.port]
    }

    fn prepare(&self) -> Result<(), StackError> {
        fs::create_dir_all(&self.folder).at("create", &self.folder)?;
        let done = self.folder.join("initialised");
        if !done.exists() {
            self.init()?;
            fs::write(&done, "").at("write", &done)?;
        }
        Ok(())
    }

    fn command(&self) -> Result<Command, StackError> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        // No Unix socket: its path is limited to 107 bytes, and clients connect over TCP.
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=100"] {
            command.arg("-c").arg(setting);
        }
        Ok(command)
    }

    fn ask(&self) -> Result<(), String> {
        wait_for(async {
            let client = self.connect(MAINTENANCE).await?;
            client.query_one("SELECT 1", &[]).await.map(drop).map_err(|error| explain(&error))
        })
    }

    fn furnish(&self) -> Result<(), StackError> {
        // A standby has what its primary has.
        if self.standby_signal().exists() {
            return Ok(());
        }
        let refused = |step: String| move |cause| StackError::SetUp { server: Name::Postgres, step, cause };
        apart(|| wait_for(self.make_database())).map_err(refused(format!("database {DATABASE}")))?;
        for script in role_scripts()? {
            let sql = fs::read_to_string(&script).at("read", &script)?;
            apart(|| wait_for(self.run_script(&sql))).map_err(refused(script.display().to_string()))?;
        }
        Ok(())
    }
}

/// Returns the role scripts in the order of their names. They are no migrations because roles belong to the whole
/// cluster.
fn role_scripts() -> Result<Vec<PathBuf>, StackError> {
    let folder = repository().join("db_table_scripts/roles");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&folder).at("read", &folder)?;
    let mut scripts: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    scripts.sort();
    Ok(scripts)
}

/// Returns the server's error message if there is one; the driver's text is only "db error".
fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(refusal) => format!("{} (SQLSTATE {})", refusal.message(), refusal.code().code()),
        None => error.to_string(),
    }
}
