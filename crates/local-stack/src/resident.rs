//! The servers of `local-stack up`, `down` and `status`, which outlive the program that starts them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::defaults::{KAFKA_PORT, POSTGRES_PORT, S3_PORT};
use crate::error::{At, StackError};
use crate::kafka::KafkaService;
use crate::name::Name;
use crate::places::{outside_folder, stack_folder};
use crate::ports;
use crate::postgres::PostgresService;
use crate::process::{PAUSE, Process};
use crate::s3::S3Service;
use crate::server::{PORT_ATTEMPTS, STOP_TIMEOUT};
use crate::service::{Service, ask, is_port_race, launch};

/// Deadline for a server that already runs to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The three servers, with their data, logs and pid files in one folder.
#[derive(Debug, Clone)]
pub struct Resident {
    data: PathBuf,
}

/// Requested ports on 127.0.0.1. `None` keeps the port of a running server, else selects the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    /// Port of Kafka; 9092 by default.
    pub kafka: Option<u16>,
    /// Port of PostgreSQL; 5433 by default.
    pub postgres: Option<u16>,
    /// Port of S3; 9000 by default.
    pub s3: Option<u16>,
}

/// Progress of [`Resident::up`] with one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The server was not running and is being started.
    Starting,
    /// The server was started and answered after this time.
    Started(Duration),
    /// The server was already running.
    RanAlready,
}

/// State of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The server runs and answers.
    Running,
    /// The server runs but its health check failed with this error.
    NotAnswering(String),
    /// The server was started and not stopped, but its process is gone.
    Died,
    /// The server does not run.
    Stopped,
}

/// Status of a server, as returned by [`Resident::status`].
#[derive(Debug, Clone)]
pub struct Status {
    /// The server.
    pub name: Name,
    /// Its state.
    pub state: State,
    /// Process ID, also of a process that died.
    pub pid: Option<u32>,
    /// Port on 127.0.0.1; the default port if the server does not run.
    pub port: u16,
    /// Time of its start.
    pub since: Option<SystemTime>,
    /// Log file with its standard output and error.
    pub log: PathBuf,
    /// Folder of its data.
    pub folder: PathBuf,
}

/// Contents of a pid file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    process: Process,
    port: u16,
    all_ports: Vec<u16>,
    /// Unix time in seconds.
    since: u64,
}

impl Resident {
    /// Returns the servers with their data in `data`; the default is `.local-stack/data`.
    #[must_use]
    pub fn new(data: Option<PathBuf>) -> Self {
        let data = data.unwrap_or_else(|| stack_folder().join("data"));
        Self { data: std::path::absolute(&data).unwrap_or(data) }
    }

    /// Starts the servers that do not run, in parallel, and returns when all three answer. `report` receives each step.
    pub fn up(&self, ports: Ports, report: impl Fn(Name, Step) + Sync) -> Result<(), StackError> {
        fs::create_dir_all(&self.data).at("create", &self.data)?;
        let _lock = self.lock()?;
        let report = &report;
        thread::scope(|scope| {
            let all = [
                scope.spawn(move || self.up_one::<KafkaService>(ports.kafka, report)),
                scope.spawn(move || self.up_one::<PostgresService>(ports.postgres, report)),
                scope.spawn(move || self.up_one::<S3Service>(ports.s3, report)),
            ];
            // Waits for all threads, also after one fails.
            all.map(joined).into_iter().collect()
        })
    }

    /// Stops the running servers in parallel and returns their names. `purge` also removes data and logs.
    pub fn down(&self, purge: bool) -> Result<Vec<Name>, StackError> {
        if !self.data.exists() {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        let stopped: Result<Vec<Option<Name>>, StackError> = thread::scope(|scope| {
            let all = [
                scope.spawn(|| self.down_one::<KafkaService>()),
                scope.spawn(|| self.down_one::<PostgresService>()),
                scope.spawn(|| self.down_one::<S3Service>()),
            ];
            all.map(joined).into_iter().collect()
        });
        let stopped = stopped?.into_iter().flatten().collect();
        if purge {
            let postgres = self.folder(Name::Postgres)?;
            let outside = postgres.parent().filter(|parent| *parent != self.data);
            for folder in [outside, Some(self.data.as_path())].into_iter().flatten() {
                fs::remove_dir_all(folder).at("remove", folder)?;
            }
        }
        Ok(stopped)
    }

    /// Returns the state of each server, including a health check.
    pub fn status(&self) -> Result<Vec<Status>, StackError> {
        Ok(vec![self.look::<KafkaService>()?, self.look::<PostgresService>()?, self.look::<S3Service>()?])
    }

    /// Returns the log file with a server's standard output and error.
    #[must_use]
    pub fn log(&self, name: Name) -> PathBuf {
        self.data.join(format!("{name}.log"))
    }

    /// Returns the data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    fn up_one<S: Service>(&self, wanted: Option<u16>, report: impl Fn(Name, Step)) -> Result<(), StackError> {
        if let Some(record) = self.record(S::NAME).filter(|record| record.process.is_alive()) {
            if let Some(wanted) = wanted.filter(|wanted| *wanted != record.port) {
                return Err(StackError::RunsElsewhere { server: S::NAME, port: record.port, wanted });
            }
            let service = S::at(&self.folder(S::NAME)?, &self.log(S::NAME), record.port)?;
            self.await_running(&service)?;
            service.furnish()?;
            report(S::NAME, Step::RanAlready);
            return Ok(());
        }
        let begun = Instant::now();
        report(S::NAME, Step::Starting);
        let port = wanted.unwrap_or(default_port(S::NAME));
        let mut attempt = 1;
        let launched = loop {
            let service = S::at(&self.folder(S::NAME)?, &self.log(S::NAME), port)?;
            match launch(&service, |child| self.note(&service, child.id())) {
                // The client port is free, so another process took one of the server's internal ports: retry with
                // others.
                Err(error) if attempt < PORT_ATTEMPTS && is_port_race(&error) && ports::is_free(port) => attempt += 1,
                launched => break launched,
            }
        };
        if let Err(error) = launched {
            let _ = fs::remove_file(self.pid_file(S::NAME));
            return Err(error);
        }
        report(S::NAME, Step::Started(begun.elapsed()));
        Ok(())
    }

    fn await_running<S: Service>(&self, service: &S) -> Result<(), StackError> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        while let Err(last) = ask(service) {
            if Instant::now() >= deadline {
                return Err(StackError::NoAnswer {
                    server: S::NAME,
                    after: ANSWER_LIMIT,
                    last,
                    log: self.log(S::NAME),
                });
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn down_one<S: Service>(&self) -> Result<Option<Name>, StackError> {
        let Some(record) = self.record(S::NAME) else { return Ok(None) };
        let ran = record.process.is_alive();
        if !record.process.end(S::STOP.0, STOP_TIMEOUT) {
            return Err(StackError::NotStopped { server: S::NAME, pid: record.process.pid });
        }
        S::tidy(&record.all_ports);
        let file = self.pid_file(S::NAME);
        fs::remove_file(&file).at("remove", &file)?;
        Ok(ran.then_some(S::NAME))
    }

    fn look<S: Service>(&self) -> Result<Status, StackError> {
        let (folder, log) = (self.folder(S::NAME)?, self.log(S::NAME));
        let Some(record) = self.record(S::NAME) else {
            let port = default_port(S::NAME);
            return Ok(Status { name: S::NAME, state: State::Stopped, pid: None, port, since: None, log, folder });
        };
        let alive = record.process.is_alive();
        let state = if alive {
            let service = S::at(&folder, &log, record.port)?;
            ask(&service).map_or_else(State::NotAnswering, |()| State::Running)
        } else {
            State::Died
        };
        let since = alive.then(|| UNIX_EPOCH + Duration::from_secs(record.since));
        Ok(Status { name: S::NAME, state, pid: Some(record.process.pid), port: record.port, since, log, folder })
    }

    /// Returns the data folder of a server. PostgreSQL's is below /var/tmp if its account cannot reach this folder.
    fn folder(&self, name: Name) -> Result<PathBuf, StackError> {
        let inside = self.data.join(name.as_str());
        let account = if name == Name::Postgres { Account::for_postgres()? } else { None };
        match account {
            Some(account) if self.data.exists() && !account.reaches(&self.data) => {
                Ok(outside_folder(&self.data)?.join(name.as_str()))
            }
            _ => Ok(inside),
        }
    }

    /// Locks out other processes that start or stop servers. The file is beside the data folder, which `down` may
    /// remove.
    fn lock(&self) -> Result<File, StackError> {
        let path = self.data.with_extension("lock");
        let file = File::create(&path).at("create", &path)?;
        file.lock().at("lock", &path)?;
        Ok(file)
    }

    fn pid_file(&self, name: Name) -> PathBuf {
        self.data.join(format!("{name}.pid"))
    }

    /// Returns the record of a pid file. A truncated file, as a machine crash may leave, counts as none: its process is
    /// gone.
    fn record(&self, name: Name) -> Option<Record> {
        serde_json::from_str(&fs::read_to_string(self.pid_file(name)).ok()?).ok()
    }

    fn note<S: Service>(&self, service: &S, pid: u32) -> Result<(), StackError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        // The caller of `launch` reports a process that has already exited.
        let Some(process) = Process::with(pid) else { return Ok(()) };
        let record = Record { process, port: service.port(), all_ports: service.ports(), since };
        let file = self.pid_file(S::NAME);
        fs::write(&file, serde_json::json!(record).to_string()).at("write", &file)
    }
}

fn default_port(name: Name) -> u16 {
    match name {
        Name::Kafka => KAFKA_PORT,
        Name::Postgres => POSTGRES_PORT,
        Name::S3 => S3_PORT,
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
