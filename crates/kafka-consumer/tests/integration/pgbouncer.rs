//! A real `PgBouncer` in front of a real PostgreSQL: `apt-get install pgbouncer`, then `make test-pgbouncer`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::records::{Record, event, now, produce};
use crate::support::{number, runtime, signal, wait_until};
use kafka_consumer::{connect_at_start, resolve};
use local_stack::{Postgres, Stack};

/// A process that ends when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `PgBouncer`.
struct Bouncer {
    _process: Process,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Bouncer {
    fn start(postgres: &Postgres, settings: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.path().join("pgbouncer.ini");
        let server = format!("host=127.0.0.1 port={} user=admin password=admin dbname=warehouse", postgres.port());
        let text = format!(
            "[databases]\nwarehouse = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\n{settings}\n"
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new("pgbouncer");
        command.arg(&file).env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap()));
        if is_root() {
            command.args(["-u", "nobody"]);
        }
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process =
            process.unwrap_or_else(|error| panic!("{error}: is pgbouncer installed? apt-get install pgbouncer"));
        let bouncer = Self { _process: Process(process), port, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "pgbouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        bouncer
    }

    fn connect(&self) -> Result<(), String> {
        let target = resolve(Some(&format!("postgres://admin@127.0.0.1:{}/warehouse", self.port))).unwrap();
        let opened = runtime().block_on(connect_at_start(&target));
        opened.map(drop).map_err(|error| format!("{error:#}"))
    }
}

/// Returns a consumer that connects through the pooler.
fn consumer_of(stack: &Stack, bouncer: &Bouncer, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
    command.args(["run", "--create-topic", "--log-format", "json", "--bootstrap-servers", &stack.bootstrap_servers()]);
    command.args(arguments);
    command.args(["--database-url", &format!("postgres://admin@127.0.0.1:{}/warehouse", bouncer.port)]);
    command.env("KAFKA_CONSUMER_HTTP_ADDR", "off").stdin(Stdio::null());
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
#[ignore = "pgbouncer"]
fn a_pool_of_transactions_is_refused_and_one_of_sessions_is_not() {
    let postgres = Postgres::ephemeral().unwrap();
    for settings in
        ["pool_mode = transaction", "pool_mode = statement", "pool_mode = transaction\nserver_round_robin = 1"]
    {
        let said = Bouncer::start(&postgres, settings).connect().unwrap_err();
        assert!(said.contains("PgBouncer") && said.contains("pool_mode=session"), "{settings}: {said}");
    }
    assert_eq!(Bouncer::start(&postgres, "pool_mode = session").connect(), Ok(()));
}

#[test]
#[ignore = "pgbouncer"]
fn a_busy_pool_is_recognised_too() {
    let postgres = Postgres::ephemeral().unwrap();
    let bouncer = Bouncer::start(&postgres, "pool_mode = transaction\ndefault_pool_size = 8");
    let url = format!("postgres://admin@127.0.0.1:{}/warehouse", bouncer.port);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // Sessions of other clients, most of them in a transaction at any time.
        for _ in 0..12 {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            tokio::spawn(
                async move { while client.simple_query("BEGIN; SELECT pg_sleep(0.002); COMMIT").await.is_ok() {} },
            );
        }
        for _ in 0..10 {
            let target = resolve(Some(&url)).unwrap();
            let said = connect_at_start(&target).await.map(drop).unwrap_err().to_string();
            assert!(said.contains("PgBouncer"), "{said}");
        }
    });
}

/// `PgBouncer` reports its own errors as protocol violations (08P01): no server, or no free connection.
#[test]
#[ignore = "pgbouncer"]
fn a_pooler_without_its_server_is_an_outage() {
    let mut stack = Stack::ephemeral().unwrap();
    let settings = "pool_mode = session\nquery_wait_timeout = 2\nserver_login_retry = 1";
    let bouncer = Bouncer::start(&stack.postgres, settings);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = consumer_of(&stack, &bouncer, &[]);
    let mut child = Process(command.stdout(Stdio::null()).stderr(log.reopen().unwrap()).spawn().unwrap());
    let rows = |stack: &Stack| number(stack, "SELECT count(*) FROM staging.product_events_raw");
    let said = || fs::read_to_string(log.path()).unwrap();
    wait_until(&mut child.0, || said().contains("\"consuming\""));
    produce(&stack, &[Record::of(0, event(1, now(), "tools"))]);
    wait_until(&mut child.0, || rows(&stack) == 1);

    stack.postgres.kill().unwrap();
    produce(&stack, &[Record::of(0, event(2, now(), "tools"))]);
    wait_until(&mut child.0, || said().contains("\"sqlstate\":\"08P01\""));
    let output = consumer_of(&stack, &bouncer, &["--until-caught-up"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.contains("behind the connection pooler"), "{error}");
    stack.postgres.restart().unwrap();
    wait_until(&mut child.0, || rows(&stack) == 2);
    signal(&child.0, "-TERM");
    assert!(child.0.wait().unwrap().success(), "{}", said());
}

/// A pool that is used up refuses the sessions of a writer until there is room again.
#[test]
#[ignore = "pgbouncer"]
fn a_pool_that_is_used_up_is_waited_for() {
    let stack = Stack::ephemeral().unwrap();
    let settings = "pool_mode = session\nquery_wait_timeout = 1\ndefault_pool_size = 2\nmax_client_conn = 20";
    let bouncer = Bouncer::start(&stack.postgres, settings);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = consumer_of(&stack, &bouncer, &["--writers", "1"]);
    let mut child = Process(command.stdout(Stdio::null()).stderr(log.reopen().unwrap()).spawn().unwrap());
    let said = || fs::read_to_string(log.path()).unwrap();
    wait_until(&mut child.0, || said().contains("\"consuming\""));
    let url = format!("postgres://admin@127.0.0.1:{}/warehouse", bouncer.port);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let crowd = runtime.block_on(async {
        let mut crowd = Vec::new();
        while crowd.len() < 2 {
            if let Ok(client) = crate::support::connect_to(&url).await
                && client.simple_query("SELECT 1").await.is_ok()
            {
                crowd.push(client);
            }
        }
        crowd
    });
    produce(&stack, &[Record::of(0, event(1, now(), "tools"))]);
    wait_until(&mut child.0, || said().contains("08P01"));
    drop(crowd);
    runtime.shutdown_background();
    wait_until(&mut child.0, || number(&stack, "SELECT count(*) FROM staging.product_events_raw") == 1);
    signal(&child.0, "-TERM");
    assert!(child.0.wait().unwrap().success(), "{}", said());
}
