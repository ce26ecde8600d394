//! The programs, run against servers of their own.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod browser;
pub(crate) mod records;
pub(crate) mod watched;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use local_stack::Stack;
use verifier::{LakeAt, Report, S3Access, Stores, Terms};

pub(crate) const GROUP: &str = "kafka-consumer";

/// The consumer, at the stack's addresses, with a writer's rights; the owner has made the tables.
pub(crate) fn consumer(stack: &Stack) -> Command {
    migrate(stack);
    consumer_as(stack, WRITER)
}

/// The consumer, logged in as one of the users; the tables are as they are. It serves nobody unless a flag says so: tests
/// run side by side.
pub(crate) fn consumer_as(stack: &Stack, user: &str) -> Command {
    let mut command = program(stack, user, &["run", "--bootstrap-servers", &stack.bootstrap_servers()]);
    command.args(["--log-format", "json"]);
    command.env("KAFKA_CONSUMER_HTTP_ADDR", "off");
    command
}

/// A command of the consumer, logged in as one of the users.
pub(crate) fn program(stack: &Stack, user: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
    command.args(arguments).args(["--database-url", &url_of(stack, user)]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) const OWNER: &str = "warehouse_admin";
pub(crate) const WRITER: &str = "event_writer";
pub(crate) const READER: &str = "analyst";

/// Users as `db_table_scripts/roles` proposes them, unless they are there.
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

/// Has the owner make the tables, unless they are there.
pub(crate) fn migrate(stack: &Stack) {
    make_users(stack);
    if number(stack, "SELECT count(*) FROM pg_namespace WHERE nspname = 'refined'") == 0 {
        succeed(program(stack, OWNER, &["migrate"]));
    }
}

/// The warehouse, logged in as one of the users.
pub(crate) fn url_of(stack: &Stack, user: &str) -> String {
    stack.database_url().replacen("admin:admin@", &format!("{user}:{user}@"), 1)
}

/// The generator beside it, which `cargo build --workspace` has made.
pub(crate) fn generator(stack: &Stack) -> Command {
    let mut command = sender(stack, "max");
    command.args(["--lake", &stack.lake_url()]);
    command.envs(stack.s3().variables());
    command
}

/// The same at a rate, and without a lake unless one is named.
pub(crate) fn sender(stack: &Stack, rate: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_kafka-consumer")).with_file_name("event-generator");
    assert!(path.exists(), "{} is missing: cargo build --workspace", path.display());
    let mut command = Command::new(path);
    command.args(["run", "--rate", rate, "--log-format", "json", "--bootstrap-servers", &stack.bootstrap_servers()]);
    // Runs of one name in stacks of their own are no concern of each other.
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    command.env("EVENT_GENERATOR_STATE_DIR", state).env("EVENT_GENERATOR_HTTP_ADDR", "off");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end, which must be a good one.
pub(crate) fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Reads what there is.
pub(crate) fn catch_up(stack: &Stack, flags: &[&str]) -> Output {
    let mut command = consumer(stack);
    command.arg("--until-caught-up").args(flags);
    succeed(command)
}

/// Runs a command of the consumer as the writer, which must succeed, and gives what it printed.
pub(crate) fn printed(stack: &Stack, arguments: &[&str]) -> String {
    String::from_utf8(succeed(program(stack, WRITER, arguments)).stdout).unwrap()
}

/// The same, printed as JSON.
pub(crate) fn printed_json(stack: &Stack, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&printed(stack, arguments)).unwrap()
}

/// Runs a command as one of the users that must end with a code, and gives what it said.
pub(crate) fn fail(stack: &Stack, user: &str, arguments: &[&str], code: i32) -> String {
    let output = program(stack, user, arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

/// What the verifier says of a run, from the stores alone.
pub(crate) fn verify(stack: &Stack, run: &str) -> Report {
    verify_with(stack, run, &Terms::for_group(GROUP))
}

/// The same, on other terms.
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

/// Runs a statement as the superuser.
pub(crate) fn execute(stack: &Stack, sql: &str) {
    execute_as(stack, "admin", sql).unwrap();
}

/// Runs statements as one of the users.
pub(crate) fn execute_as(stack: &Stack, user: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    runtime().block_on(async { connect_to(&url_of(stack, user)).await?.batch_execute(sql).await })
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
