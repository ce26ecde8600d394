//! Runs the programs against ephemeral servers.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod browser;
pub(crate) mod random;
pub(crate) mod records;
pub(crate) mod watched;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lake::Lake;
use local_stack::Stack;
use verifier::{LakeAt, Report, S3Access, Stores, Terms};

pub(crate) const GROUP: &str = "kafka-consumer";

/// Returns a consumer of the stack's servers with a writer's privileges. The owner creates the tables first.
pub(crate) fn consumer(stack: &Stack) -> Command {
    migrate(stack);
    consumer_as(stack, WRITER)
}

/// Returns a consumer that connects as this user, without creating the tables.
///
/// Its HTTP server is off unless a flag enables it, because tests run in parallel. It creates the topic, because most
/// tests start it before the topic exists.
pub(crate) fn consumer_as(stack: &Stack, user: &str) -> Command {
    let mut command = program(stack, user, &["run", "--bootstrap-servers", &stack.bootstrap_servers()]);
    command.args(["--log-format", "json", "--create-topic"]);
    command.env("KAFKA_CONSUMER_HTTP_ADDR", "off");
    command
}

/// Returns a command of the consumer that connects as this user.
pub(crate) fn program(stack: &Stack, user: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
    command.args(arguments).args(["--database-url", &url_of(stack, user)]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) const OWNER: &str = "warehouse_admin";
pub(crate) const WRITER: &str = "event_writer";
pub(crate) const READER: &str = "analyst";

/// Creates the users that `db_table_scripts/roles` proposes, unless they exist.
pub(crate) fn make_users(stack: &Stack) {
    let missing = "SELECT count(*) FROM pg_roles WHERE rolname = 'analyst'";
    if number(stack, missing) > 0 {
        return;
    }
    for (user, role) in [(OWNER, "pipeline_owner"), (WRITER, "pipeline_writer"), (READER, "pipeline_reader")] {
        execute(stack, &format!("CREATE ROLE {user} LOGIN PASSWORD '{user}' IN ROLE {role}"));
    }
    execute(stack, &format!("ALTER ROLE {OWNER} SET role = pipeline_owner"));
}

/// Creates the tables as the owner, unless they exist.
pub(crate) fn migrate(stack: &Stack) {
    make_users(stack);
    if number(stack, "SELECT count(*) FROM pg_namespace WHERE nspname = 'refined'") == 0 {
        succeed(program(stack, OWNER, &["migrate"]));
    }
}

/// Returns the URL of the warehouse for this user.
pub(crate) fn url_of(stack: &Stack, user: &str) -> String {
    let url = stack.database_url();
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, place) = rest.split_once('@').unwrap();
    format!("{scheme}://{user}:{user}@{place}")
}

/// Returns a generator that writes to Kafka and the lake, built by `cargo build --workspace`.
pub(crate) fn generator(stack: &Stack) -> Command {
    let mut command = sender(stack, "max");
    command.args(["--lake", &stack.lake_url()]);
    command.envs(stack.s3().variables());
    command
}

/// Returns a generator with this rate, and without a lake unless the caller adds one.
pub(crate) fn sender(stack: &Stack, rate: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_kafka-consumer")).with_file_name("event-generator");
    assert!(path.exists(), "{} is missing: cargo build --workspace", path.display());
    let mut command = Command::new(path);
    command.args(["run", "--rate", rate, "--log-format", "json", "--bootstrap-servers", &stack.bootstrap_servers()]);
    // Separate state folders, so that runs of the same name in different stacks do not interfere.
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    command.env("EVENT_GENERATOR_STATE_DIR", state).env("EVENT_GENERATOR_HTTP_ADDR", "off");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command and asserts that it succeeds.
pub(crate) fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Consumes all records of the topic.
pub(crate) fn catch_up(stack: &Stack, flags: &[&str]) -> Output {
    let mut command = consumer(stack);
    command.arg("--until-caught-up").args(flags);
    succeed(command)
}

/// Runs a consumer command as the writer, asserts that it succeeds, and returns its standard output.
pub(crate) fn printed(stack: &Stack, arguments: &[&str]) -> String {
    String::from_utf8(succeed(program(stack, WRITER, arguments)).stdout).unwrap()
}

/// Runs such a command and parses its standard output as JSON.
pub(crate) fn printed_json(stack: &Stack, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&printed(stack, arguments)).unwrap()
}

/// Runs a command as this user, asserts its exit code, and returns its standard error.
pub(crate) fn fail(stack: &Stack, user: &str, arguments: &[&str], code: i32) -> String {
    let output = program(stack, user, arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

/// Opens the lake of the stack with the programs' own client.
pub(crate) fn open_lake(stack: &Stack) -> Lake {
    let s3 = stack.s3();
    let access = lake::S3Access::Fixed {
        endpoint: s3.endpoint,
        access_key: s3.access_key,
        secret_key: s3.secret_key,
        region: s3.region,
    };
    runtime().block_on(Lake::open(&stack.lake_url().parse().unwrap(), access)).unwrap()
}

/// Verifies a run with the independent verifier, from the stores alone.
pub(crate) fn verify(stack: &Stack, run: &str) -> Report {
    verify_with(stack, run, &Terms::for_group(GROUP))
}

/// Verifies a run on these terms.
pub(crate) fn verify_with(stack: &Stack, run: &str, terms: &Terms) -> Report {
    let s3 = stack.s3();
    let access = S3Access {
        endpoint: s3.endpoint.clone(),
        access_key: s3.access_key.clone(),
        secret_key: s3.secret_key.clone(),
        region: s3.region.clone(),
    };
    let lake = LakeAt::parse(&stack.lake_url(), Some(access)).unwrap();
    let run = verifier::fetch_run(&lake, run).unwrap();
    let stores = Stores { bootstrap_servers: stack.bootstrap_servers(), database_url: stack.database_url(), lake };
    verifier::verify(&stores, &run, terms).unwrap()
}

/// Runs a query as the superuser.
pub(crate) fn query(stack: &Stack, sql: &str) -> Vec<tokio_postgres::Row> {
    runtime().block_on(async {
        let client = connect(stack).await.unwrap();
        client.query(sql, &[]).await.unwrap()
    })
}

/// Returns the single number of a query's result, or 0 if the query fails, as before the tables exist.
pub(crate) fn number(stack: &Stack, sql: &str) -> i64 {
    runtime().block_on(async {
        let client = connect(stack).await.unwrap();
        client.query_one(sql, &[]).await.map_or(0, |row| row.get(0))
    })
}

/// Runs statements as the superuser.
pub(crate) fn execute(stack: &Stack, sql: &str) {
    run_sql(&stack.database_url(), sql).unwrap();
}

/// Runs statements as this user.
pub(crate) fn execute_as(stack: &Stack, user: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    run_sql(&url_of(stack, user), sql)
}

/// Runs statements in a new session.
pub(crate) fn run_sql(url: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    runtime().block_on(async { connect_to(url).await?.batch_execute(sql).await })
}

async fn connect(stack: &Stack) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    connect_to(&stack.database_url()).await
}

pub(crate) async fn connect_to(url: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits until a condition holds. Panics if the process exits first or a minute passes.
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
