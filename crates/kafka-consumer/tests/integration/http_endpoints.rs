//! HTTP endpoints of a running consumer.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::watched::Watched;
use crate::support::{consumer, generator, number, query, sender, succeed};
use local_stack::Stack;

fn program(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kafka-consumer")).args(arguments).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, said)
}

fn sum(stack: &Stack, column: &str) -> i64 {
    number(stack, &format!("SELECT coalesce(sum({column}), 0)::bigint FROM pipeline.consumer_offsets"))
}

#[test]
#[expect(clippy::float_cmp, clippy::cast_precision_loss, reason = "small whole numbers")]
fn metrics_agree_with_postgresql() {
    let stack = Stack::ephemeral().unwrap();
    let mut generator = generator(&stack);
    generator.args(["--count", "20000", "--run-id", "seen", "--fault", "corrupt=0.5%,duplicate=1%"]);
    succeed(generator);
    let mut consumer = Watched::start(&stack);
    consumer.wait_until("all is in", |one| {
        one.metric("kafka_consumer_records_committed_total") - one.metric("kafka_consumer_duplicates_total") == 20_000.0
    });
    consumer.wait_until("no lag", |one| {
        let lags = one.get("/metrics").1.matches("\nkafka_consumer_lag_records{").count();
        lags == 6 && one.metric("kafka_consumer_lag_records") == 0.0
    });
    assert_eq!(consumer.metric("kafka_consumer_ready"), 1.0);
    for (metric, column) in [
        ("kafka_consumer_records_committed_total", "records"),
        ("kafka_consumer_rows_inserted_total", "rows_inserted"),
        ("kafka_consumer_duplicates_total", "duplicates"),
        ("kafka_consumer_duplicates_differing_total", "duplicates_differing"),
        ("kafka_consumer_dead_letters_total", "dead_letters"),
        ("kafka_consumer_suppressed_total", "suppressed"),
        ("kafka_consumer_ingest_latency_seconds_count", "records"),
        ("kafka_consumer_batch_rows_sum", "rows_inserted"),
    ] {
        assert_eq!(consumer.metric(metric), sum(&stack, column) as f64, "{metric}");
    }
    assert_eq!(sum(&stack, "records"), 20_000 + sum(&stack, "duplicates"));
    for row in query(&stack, "SELECT reason_code, count(*) FROM pipeline.dead_letters GROUP BY 1") {
        let sample = format!("kafka_consumer_dead_letters_total{{reason=\"{}\"}}", row.get::<_, &str>(0));
        assert_eq!(consumer.metric(&sample), row.get::<_, i64>(1) as f64, "{sample}");
    }
    assert!(sum(&stack, "dead_letters") > 50 && sum(&stack, "duplicates") > 100);
    let memory = consumer.metric("process_resident_memory_bytes");
    assert!((1e6..2e9).contains(&memory), "{memory}");

    let (servers, url) = (stack.bootstrap_servers(), stack.database_url());
    let status = |more: &[&str]| {
        let arguments = ["status", "--bootstrap-servers", &servers, "--database-url", &url];
        program(&[&arguments, more].concat())
    };
    let (_, shown) = status(&["--http-addr", &consumer.address]);
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(shown.contains("record to committed row  p50"), "{shown}");
    let (_, json) = status(&["--json", "--http-addr", "off"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let of =
        |key: &str| json["partitions"].as_array().unwrap().iter().map(|one| one[key].as_i64().unwrap()).sum::<i64>();
    assert_eq!((of("rows"), of("lag"), of("end")), (sum(&stack, "rows_inserted"), 0, sum(&stack, "next_offset")));
    consumer.end();
}

#[test]
fn probes_tell_an_outage_of_postgresql_from_a_stuck_process() {
    let mut stack = Stack::ephemeral().unwrap();
    let mut consumer = Watched::start(&stack);
    consumer.wait_until("ready", |one| one.get("/readyz").0 == 200);
    assert_eq!(consumer.get("/livez").0, 200);
    let healthy = |more: &[&str]| program(&[&["healthcheck", "--http-addr", &consumer.address], more].concat());
    assert!(healthy(&[]).0.status.success() && healthy(&["--ready"]).0.status.success());

    stack.postgres.kill().unwrap();
    let mut generator = sender(&stack, "max");
    generator.args(["--count", "1000", "--no-lake"]);
    succeed(generator);
    consumer.wait_until("not ready", |one| one.get("/readyz").0 == 503);
    let (_, why) = consumer.get("/readyz");
    assert!(why.contains("postgres has accepted no batch for"), "{why}");
    assert_eq!(consumer.get("/livez").0, 200, "an outage is waited out");
    let asked = |more: &[&str]| program(&[&["healthcheck", "--http-addr", &consumer.address], more].concat());
    let (output, said) = asked(&["--ready"]);
    assert!(output.status.code() == Some(1) && said.contains("postgres has accepted no batch"), "{said}");
    assert!(asked(&[]).0.status.success());
    assert!(consumer.metric("kafka_consumer_postgres_retries_total") > 0.0);
    assert!(consumer.metric("kafka_consumer_lag_records") > 0.0, "Kafka is still asked while the reading is paused");

    stack.postgres.restart().unwrap();
    consumer.wait_until("ready again", |one| one.get("/readyz").0 == 200);
    consumer.end();
}

#[test]
fn a_taken_port_ends_a_run_that_was_told_to_serve_there() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let began = Instant::now();
    let (output, said) = program(&["--http-addr", &address, "--bootstrap-servers", "127.0.0.1:9"]);
    assert!(output.status.code() == Some(1) && said.contains(&address) && said.contains("--http-addr off"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(5), "before anything else is waited for");
    let (output, said) = program(&["--http-addr", "9464"]);
    assert!(output.status.code() == Some(2) && said.contains("HOST:PORT"), "{said}");

    let stack = Stack::ephemeral().unwrap();
    // The bind fails if another process, such as another test, uses the default port. Either way the port is taken.
    let _default = std::net::TcpListener::bind("127.0.0.1:9464");
    let mut second = consumer(&stack);
    second.arg("--until-caught-up").env_remove("KAFKA_CONSUMER_HTTP_ADDR");
    let output = succeed(second);
    assert!(String::from_utf8_lossy(&output.stderr).contains("http endpoints disabled"));
}

#[test]
fn nobody_there_is_said() {
    let (output, said) = program(&["healthcheck", "--http-addr", "127.0.0.1:9"]);
    assert!(output.status.code() == Some(1) && said.contains("no response from 127.0.0.1:9"), "{said}");
}
