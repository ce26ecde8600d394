//! The programs, run against servers of their own.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod browser;
pub(crate) mod watched;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use local_stack::Stack;
use oracle::{LakeAt, S3Access, Stores, Terms, Verdict};

pub(crate) const GROUP: &str = "kafka-consumer";

/// The consumer, at the stack's addresses. It serves nobody unless a flag says so: tests run side by side.
pub(crate) fn consumer(stack: &Stack) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
    command.args(["run", "--log-format", "json", "--bootstrap-servers", &stack.bootstrap_servers()]);
    command.args(["--database-url", &stack.database_url()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("KAFKA_CONSUMER_HTTP_ADDR", "off");
    command
}

/// The generator beside it, which `cargo build --workspace` has made.
pub(crate) fn generator(stack: &Stack) -> Command {
    let s3 = stack.s3();
    let mut command = sender(stack, "max");
    command.args(["--lake", &stack.lake_url()]);
    command.env("AWS_ENDPOINT_URL_S3", &s3.endpoint).env("AWS_REGION", &s3.region);
    command.env("AWS_ACCESS_KEY_ID", &s3.access_key).env("AWS_SECRET_ACCESS_KEY", &s3.secret_key);
    command
}

/// The same at a rate, and without a lake unless one is named.
pub(crate) fn sender(stack: &Stack, rate: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_kafka-consumer")).with_file_name("event-generator");
    assert!(path.exists(), "{} is missing: cargo build --workspace", path.display());
    let mut command = Command::new(path);
    command.args(["run", "--rate", rate, "--log-format", "json", "--bootstrap-servers", &stack.bootstrap_servers()]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end, which must be a good one.
pub(crate) fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What the oracle says of a run, from the stores alone.
pub(crate) fn judge(stack: &Stack, run: &str) -> Verdict {
    let s3 = stack.s3();
    let access = S3Access {
        endpoint: s3.endpoint.clone(),
        access_key: s3.access_key.clone(),
        secret_key: s3.secret_key.clone(),
        region: s3.region.clone(),
    };
    let lake = LakeAt::parse(&stack.lake_url(), Some(access)).unwrap();
    let run = oracle::fetch_run(&lake, run).unwrap();
    let stores = Stores { bootstrap_servers: stack.bootstrap_servers(), database_url: stack.database_url(), lake };
    oracle::judge(&stores, &run, &Terms::for_group(GROUP)).unwrap()
}

/// Asks PostgreSQL.
pub(crate) fn query(stack: &Stack, sql: &str) -> Vec<tokio_postgres::Row> {
    runtime().block_on(async {
        let client = connect(stack).await.unwrap();
        client.query(sql, &[]).await.unwrap()
    })
}

/// The single number that a query gives; 0 while the tables are not there yet.
pub(crate) fn number(stack: &Stack, sql: &str) -> i64 {
    runtime().block_on(async {
        let client = connect(stack).await.unwrap();
        client.query_one(sql, &[]).await.map_or(0, |row| row.get(0))
    })
}

async fn connect(stack: &Stack) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&stack.database_url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits until a condition holds; fails when the process ends before or a minute has passed.
pub(crate) fn wait_until(child: &mut Child, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("ended with {status} before the condition held");
        }
        assert!(Instant::now() < deadline, "the condition did not come to hold");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}
