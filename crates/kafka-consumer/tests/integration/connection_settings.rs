//! libpq's connection settings: each is applied or refused, and no server other than the named one is used.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::records::{Record, event, now, produce};
use crate::support::{WRITER, catch_up, consumer, execute, migrate, number, runtime, signal, url_of, wait_until};
use kafka_consumer::{connect, connect_at_start, resolve};
use local_stack::{Postgres, Stack};
use pg_conninfo::{Handling, KEYWORDS, VARIABLES};

/// Runs a command without the connection settings of the environment.
fn consumer_with(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
    command.args(arguments).env_remove("DATABASE_URL").stdin(Stdio::null());
    for variable in KEYWORDS.iter().filter_map(|keyword| keyword.variable) {
        command.env_remove(variable);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// Returns the warehouse that `run` would use, or its exit code and error.
fn warehouse(arguments: &[&str], variables: &[(&str, &str)]) -> Result<String, (Option<i32>, String)> {
    let (code, text) = consumer_with(&[&["run", "--print-config"], arguments].concat(), variables);
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(config) if code == Some(0) => Ok(config["database"].as_str().unwrap().to_owned()),
        _ => Err((code, text)),
    }
}

#[test]
fn the_named_server_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services");
    fs::write(&file, "[prod]\nhost=192.0.2.7\ndbname=proddb\nuser=u\nsslmode=disable\n").unwrap();
    let file = file.to_str().unwrap();
    let service = [("PGSERVICE", "prod"), ("PGSERVICEFILE", file)];
    let local = Ok("localhost:5433/warehouse".to_owned());
    assert_eq!(warehouse(&[], &[]), local);
    assert_eq!(warehouse(&[], &[("PGSERVICEFILE", file), ("PGAPPNAME", "mine")]), local);
    for (arguments, variables, expected) in [
        (&[][..], &[("PGHOSTADDR", "192.0.2.1"), ("PGDATABASE", "d")][..], "192.0.2.1:5432/d"),
        (&[], &[("PGHOST", "h.example"), ("PGHOSTADDR", "192.0.2.1"), ("PGUSER", "u")], "h.example(192.0.2.1):5432/u"),
        (&[], &service, "192.0.2.7:5432/proddb"),
        (&[], &[service[0], service[1], ("PGHOST", "other")], "192.0.2.7:5432/proddb"),
        (&["--database-url", "postgres:///d?service=prod"], &service[1..], "192.0.2.7:5432/d"),
        (&["--database-url", "service=prod port=6000"], &service[1..], "192.0.2.7:6000/proddb"),
    ] {
        assert_eq!(warehouse(arguments, variables), Ok(expected.to_owned()), "{variables:?}");
    }
    for (variable, value) in [("PGSERVICE", "absent"), ("PGREQUIREAUTH", "none"), ("PGGSSENCMODE", "require")] {
        let (code, said) = warehouse(&[], &[(variable, value), ("PGHOST", "localhost")]).unwrap_err();
        assert!(code == Some(2) && said.contains(value.trim_start_matches("none")), "{variable}: {code:?} {said}");
    }
    for (option, named) in
        [("require_auth=scram-sha-256", "require_auth"), ("sslkeylogfile=x", "sslkeylogfile"), ("hots=x", "hots")]
    {
        let (code, said) =
            warehouse(&["--database-url", &format!("postgres://u@localhost/d?{option}")], &[]).unwrap_err();
        assert!(code == Some(2) && said.contains(named), "{option}: {code:?} {said}");
    }
}

#[test]
fn a_server_elsewhere_does_not_change_the_local_one() {
    let postgres = Postgres::ephemeral().unwrap();
    let port = postgres.port().to_string();
    let credentials =
        [("PGPORT", port.as_str()), ("PGUSER", "admin"), ("PGPASSWORD", "admin"), ("PGDATABASE", "warehouse")];
    let elsewhere = [("PGHOSTADDR", "192.0.2.1"), ("PGSSLMODE", "disable"), ("PGCONNECT_TIMEOUT", "1")];
    let started = Instant::now();
    let (code, said) = consumer_with(&["migrate"], &[&credentials[..], &elsewhere].concat());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("192.0.2.1") && started.elapsed() < Duration::from_secs(5), "{said}");
    let schemas = "SELECT count(*)::text FROM pg_namespace WHERE nspname = 'staging'";
    assert_eq!(ask(&postgres.url(), schemas), Ok("0".to_owned()));
    let (code, said) = consumer_with(&["migrate"], &[&credentials[..], &[("PGHOSTADDR", "127.0.0.1")]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(ask(&postgres.url(), schemas), Ok("1".to_owned()));
}

/// Returns the first column of one row, queried over one of the program's own connections.
fn ask(url: &str, sql: &str) -> Result<String, String> {
    let target = resolve(Some(url)).map_err(|error| error.to_string())?;
    runtime().block_on(async {
        let client = connect_at_start(&target).await.map_err(|error| format!("{error:#}"))?;
        client.query_one(sql, &[]).await.map(|row| row.get(0)).map_err(|error| error.to_string())
    })
}

#[test]
fn a_server_has_the_attributes_that_are_asked_for() {
    let postgres = Postgres::ephemeral().unwrap();
    let (_busy, silent) = silent();
    let with = |rest: &str| {
        ask(&format!("postgres://admin:admin@127.0.0.1:{}/warehouse?{rest}", postgres.port()), "SELECT 'x'")
    };
    for attributes in ["any", "read-write", "primary", "prefer-standby"] {
        assert_eq!(with(&format!("target_session_attrs={attributes}")), Ok("x".to_owned()), "{attributes}");
    }
    assert!(with("target_session_attrs=standby").unwrap_err().contains("not in hot standby"));
    assert!(with("target_session_attrs=read-only").unwrap_err().contains("not read only"));
    // The timeout covers the whole connection attempt, also on the last host.
    let started = Instant::now();
    let said =
        ask(&format!("postgres://admin@127.0.0.1:{silent}/warehouse?connect_timeout=1"), "SELECT 'x'").unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(4) && said.contains("no answer in time"), "{said}");
    // The client connects to the address; the name is used for TLS only.
    let url = format!(
        "host=warehouse.invalid hostaddr=127.0.0.1 port={} user=admin password=admin dbname=warehouse sslmode=disable",
        postgres.port()
    );
    assert_eq!(ask(&url, "SELECT 'x'"), Ok("x".to_owned()));
}

/// Opens a port that accepts connections and never answers.
fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn a_takeover_recognizes_a_session_that_the_user_named() {
    let stack = Stack::ephemeral().unwrap();
    migrate(&stack);
    catch_up(&stack, &[]);
    produce(&stack, &[Record::of(0, event(1, now(), "tools"))]);
    let runtime = runtime();
    let stopped = runtime.block_on(async {
        let target = resolve(Some(&format!("{}?application_name=mine", url_of(&stack, WRITER)))).unwrap();
        let client = connect(&target.named("kafka-consumer kafka-consumer 0")).await.unwrap();
        client.batch_execute("BEGIN; SELECT FROM pipeline.consumer_offsets FOR UPDATE").await.unwrap();
        client
    });
    let held =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kafka-consumer kafka-consumer 0 (mine)'";
    assert_eq!(number(&stack, held), 1);
    let mut child = consumer(&stack).env("PGAPPNAME", "mine").stderr(Stdio::null()).spawn().unwrap();
    wait_until(&mut child, || number(&stack, "SELECT count(*) FROM staging.product_events_raw") == 1);
    let ours =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'kafka-consumer kafka-consumer _ (mine)'";
    assert!(number(&stack, ours) > 0);
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
    drop(stopped);
    execute(&stack, "SELECT 1");
}

#[test]
fn the_documentation_lists_every_setting() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/connection-settings.md");
    let text = fs::read_to_string(path).unwrap();
    let effect = |handling: Handling| match handling {
        Handling::Supported => "supported".to_owned(),
        Handling::Accepted([]) => "accepted, no effect".to_owned(),
        Handling::Accepted(values) => format!("accepted, no effect: {}", values.join(", ")),
        Handling::Refused => "refused".to_owned(),
    };
    let cell = |variable: Option<&str>| variable.map(|name| format!("`{name}`")).unwrap_or_default();
    let keywords =
        KEYWORDS.iter().map(|one| (format!("| `{}` | {} |", one.name, cell(one.variable)), one.handling, one.note));
    let variables = VARIABLES.iter().map(|one| (format!("| | `{}` |", one.name), one.handling, one.note));
    let rows =
        keywords.chain(variables).map(|(names, handling, note)| format!("{names} {} | {note} |", effect(handling)));
    let missing: Vec<String> =
        rows.map(|row| row.replace("  ", " ")).filter(|row| !text.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/connection-settings.md lacks these rows:\n{}", missing.join("\n"));
}
