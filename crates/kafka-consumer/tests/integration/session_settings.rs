//! A database with unusual settings: each command behaves as with the default settings.

use std::process::Stdio;

use crate::support::records::{Record, days_ago, event, now, produce};
use crate::support::{
    OWNER, READER, WRITER, catch_up, consumer, execute, generator, make_users, number, printed, program, runtime,
    succeed, wait_until,
};
use kafka_consumer::{connect, resolve};
use local_stack::{Postgres, Stack};
use serde_json::Value;

/// Settings that change the meaning of statements or the format of values.
const ODD: [(&str, &str); 18] = [
    ("standard_conforming_strings", "off"),
    ("datestyle", "'German, DMY'"),
    ("intervalstyle", "sql_standard"),
    ("timezone", "'Asia/Kathmandu'"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("array_nulls", "off"),
    ("quote_all_identifiers", "on"),
    ("transform_null_equals", "on"),
    ("xmloption", "document"),
    ("check_function_bodies", "off"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("jit", "on"),
    ("jit_above_cost", "0"),
    ("client_min_messages", "debug1"),
    ("client_encoding", "latin1"),
    ("search_path", "look_alikes, public, pg_temp, pg_catalog"),
];

/// Functions, operators and tables that have the names of PostgreSQL's or the program's own, and behave differently.
const LOOK_ALIKES: &str = "
    CREATE SCHEMA look_alikes;
    GRANT USAGE ON SCHEMA look_alikes TO PUBLIC;
    CREATE FUNCTION look_alikes.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '1999-01-01' $$;
    CREATE FUNCTION look_alikes.pg_has_role(oid, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE FUNCTION look_alikes.pg_get_expr(pg_node_tree, oid) RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
    CREATE FUNCTION look_alikes.to_char(timestamp, text) RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
    CREATE FUNCTION look_alikes.to_char(timestamptz, text) RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
    CREATE FUNCTION look_alikes.date_bin(interval, timestamptz, timestamptz) RETURNS timestamptz
        LANGUAGE sql AS $$ SELECT NULL::timestamptz $$;
    CREATE FUNCTION look_alikes.pg_try_advisory_lock(bigint) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE FUNCTION look_alikes.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
    CREATE FUNCTION look_alikes.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
    CREATE FUNCTION look_alikes.pg_backend_pid() RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$;
    CREATE FUNCTION look_alikes.never(uuid, uuid) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE FUNCTION look_alikes.never(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE FUNCTION look_alikes.never(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE OPERATOR look_alikes.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = look_alikes.never);
    CREATE OPERATOR look_alikes.= (LEFTARG = text, RIGHTARG = text, FUNCTION = look_alikes.never);
    CREATE OPERATOR look_alikes.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = look_alikes.never);
    CREATE TABLE look_alikes.pg_class (relname name, relnamespace oid, relkind \"char\", relowner oid);
    CREATE TABLE look_alikes.pg_inherits (inhrelid oid, inhparent oid, inhdetachpending boolean);
    CREATE TABLE look_alikes.refine_terms (as_of timestamptz);
    CREATE TABLE look_alikes.refine_hours (hour timestamptz);
    CREATE TABLE look_alikes.staged (event_id uuid);
    GRANT ALL ON ALL TABLES IN SCHEMA look_alikes TO PUBLIC;";

/// Applies the unusual settings to the database, for all users except the one of the test itself.
fn make_odd(stack: &Stack) {
    make_users(stack);
    // The settings of a role override those of its database.
    for (name, _) in ODD {
        execute(stack, &format!("ALTER ROLE admin SET {name} FROM CURRENT"));
    }
    execute(stack, LOOK_ALIKES);
    for (name, value) in ODD {
        execute(stack, &format!("ALTER DATABASE warehouse SET {name} = {value}"));
    }
    for (name, value) in [("datestyle", "'SQL, DMY'"), ("bytea_output", "escape")] {
        execute(stack, &format!("ALTER ROLE {WRITER} IN DATABASE warehouse SET {name} = {value}"));
    }
}

/// Results of a tour through all commands.
#[derive(Default)]
struct Tour(Vec<String>);

impl Tour {
    fn note(&mut self, step: &str, found: impl std::fmt::Display) {
        self.0.push(format!("{step}: {found}"));
    }

    /// Records the figures in the tables.
    fn figures(&mut self, step: &str, stack: &Stack) {
        for sql in [
            "SELECT (sum(records), sum(rows_inserted), sum(duplicates), sum(dead_letters), sum(expired))::text
             FROM pipeline.consumer_offsets",
            "SELECT (count(*), md5(string_agg(raw::text, ',' ORDER BY event_id, event_timestamp)))::text
             FROM (SELECT event_id, event_timestamp, event_type, user_id, category FROM staging.product_events_raw) AS raw",
            "SELECT (count(*), sum(attempts), count(replayed_at), count(discarded_at), sum(length(payload)))::text
             FROM pipeline.dead_letters",
            "SELECT (count(*), md5(string_agg(one::text, ',' ORDER BY user_id)))::text
             FROM (SELECT user_id, searches_last_24h, clicks_last_24h, ctr_last_24h, last_activity_timestamp
                   FROM refined.user_features) AS one",
            "SELECT string_agg(relname || ' ' || pg_get_expr(relpartbound, oid), ',' ORDER BY relname)
             FROM pg_class WHERE relname LIKE 'product_events_raw_2_______'",
        ] {
            let rows = crate::support::query(stack, sql);
            self.note(step, rows[0].get::<_, Option<String>>(0).unwrap_or_default());
        }
    }
}

fn lines(output: &str) -> String {
    output.lines().map(str::trim).collect::<Vec<_>>().join(" | ")
}

/// Removes the part in parentheses at the end of each line: the size on disk depends on autovacuum.
fn without_sizes(output: &str) -> String {
    lines(&output.lines().map(|line| line.split(" (").next().unwrap_or(line)).collect::<Vec<_>>().join("\n"))
}

fn tour(stack: &Stack, from: &str, as_of: &str) -> Vec<String> {
    let mut tour = Tour::default();
    let servers = stack.bootstrap_servers();
    let kafka = ["--bootstrap-servers", &servers];
    let run = |user: &str, arguments: &[&str]| {
        let mut command = program(stack, user, arguments);
        command.envs(stack.s3().variables());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}{said}");
        text
    };
    make_users(stack);
    let migrated = run(OWNER, &["migrate"]);
    tour.note("migrate", migrated.lines().count());
    let mut made = generator(stack);
    made.args(["--count", "20000", "--event-rate", "5000/day", "--run-id", "tour", "--seed", "7", "--from", from]);
    made.args(["--fault", "duplicate=1%,corrupt=1%,invalid=1%"]);
    succeed(made);
    catch_up(stack, &[]);
    tour.figures("run", stack);
    let lake = stack.lake_url();
    run(WRITER, &[&["doctor", "--lake", &lake][..], &kafka].concat());
    let status: Value = serde_json::from_str(&run(READER, &[&["status", "--json"][..], &kafka].concat())).unwrap();
    let partitions = status["partitions"].as_array().unwrap();
    for name in ["next_offset", "lag", "records", "rows_inserted", "duplicates", "dead_letters"] {
        tour.note(name, partitions.iter().map(|one| one[name].to_string()).collect::<Vec<_>>().join(","));
    }
    let reconciled = run(READER, &[&["reconcile", "--run", "tour", "--lake", &lake][..], &kafka].concat());
    tour.note("reconcile", reconciled.lines().count());
    run(WRITER, &["refine", "--as-of", as_of]);
    tour.figures("refine", stack);
    let checks: Value = serde_json::from_str(&run_check(stack)).unwrap();
    for check in checks["results"].as_array().unwrap() {
        let volatile = ["freshness", "features_fresh"].contains(&check["name"].as_str().unwrap_or_default());
        tour.note("check", if volatile { check["status"].to_string() } else { shown(check) });
    }
    let letters = run(READER, &["dead-letters", "list", "--json"]);
    tour.note("dead-letters list", letters.lines().count());
    let place = crate::support::query(
        stack,
        "SELECT partition::text, \"offset\"::text FROM pipeline.dead_letters ORDER BY partition, \"offset\" LIMIT 1",
    );
    let place: [String; 2] = [place[0].get(0), place[0].get(1)];
    let letter = run(READER, &["dead-letters", "show", &place[0], &place[1]]);
    tour.note("dead-letters show", letter.lines().count());
    tour.note("dead-letters replay", lines(&run(WRITER, &["dead-letters", "replay"])));
    tour.note("dead-letters discard", lines(&run(WRITER, &["dead-letters", "discard", "--older-than", "0s", "--yes"])));
    tour.figures("dead letters", stack);
    run(WRITER, &[&["offsets", "set", "--to-earliest", "--reason", "it's a \\ test"][..], &kafka].concat());
    tour.note("offsets show", run(READER, &["offsets", "show"]).lines().count());
    catch_up(stack, &[]);
    tour.figures("run again", stack);
    tour.note("retention --dry-run", without_sizes(&run(OWNER, &["retention", "--keep", "2d", "--dry-run"])));
    tour.note("retention", run(OWNER, &["retention", "--keep", "2d"]).lines().count());
    tour.figures("retention", stack);
    run(WRITER, &[&["offsets", "set", "--to-earliest", "--reason", "once more"][..], &kafka].concat());
    catch_up(stack, &[]);
    tour.figures("run after retention", stack);
    execute(stack, "DELETE FROM staging.product_events_raw WHERE user_id % 3 = 0");
    run(WRITER, &["rebuild", "--lake", &lake]);
    tour.figures("rebuild", stack);
    tour.0
}

/// Runs all checks, which may have findings, the same ones with both kinds of settings.
fn run_check(stack: &Stack) -> String {
    let output = program(stack, WRITER, &["check", "--json"]).output().unwrap();
    assert!([Some(0), Some(3)].contains(&output.status.code()), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn shown(check: &Value) -> String {
    ["name", "status", "value", "detail"].map(|key| check[key].to_string()).join(" ")
}

#[test]
fn all_commands_do_the_same_with_odd_settings() {
    let (from, as_of) = (days_ago(4).to_string(), now().to_string());
    let plain = Stack::ephemeral().unwrap();
    let expected = tour(&plain, &from, &as_of);
    drop(plain);
    let odd = Stack::ephemeral().unwrap();
    make_odd(&odd);
    let found = tour(&odd, &from, &as_of);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    // Without a day to drop, the comparison would not cover retention.
    assert!(expected.iter().any(|line| line.contains("would drop staging.product_events_raw_")), "{expected:#?}");
    let untouched = printed(&odd, &["status", "--bootstrap-servers", &odd.bootstrap_servers()]);
    assert!(!untouched.is_empty());
}

/// Returns the value of a setting in one of the program's own sessions.
fn setting(url: &str, name: &str) -> String {
    runtime().block_on(async {
        let client = connect(&resolve(Some(url)).unwrap().named("kafka-consumer test")).await.unwrap();
        let asked = "SELECT pg_catalog.current_setting($1)";
        client.query_one(asked, &[&name]).await.unwrap().get(0)
    })
}

#[test]
fn pinned_settings_win_and_others_stay() {
    let postgres = Postgres::ephemeral().unwrap();
    let execute = |sql: &str| {
        runtime().block_on(async {
            crate::support::connect_to(&postgres.url()).await.unwrap().batch_execute(sql).await.unwrap();
        });
    };
    for (name, value) in ODD {
        execute(&format!("ALTER DATABASE warehouse SET {name} = {value}"));
    }
    execute("ALTER DATABASE warehouse SET work_mem = '7MB'");
    let given = "options=-c%20statement_timeout%3D5s%20-c%20standard_conforming_strings%3Doff%20-c%20jit%3Don&application_name=mine";
    let url = format!("{}?{given}", postgres.url());
    for (name, expected) in [
        ("search_path", r#"pg_catalog, pg_temp, "look_alikes", "public", "pg_temp", "pg_catalog""#),
        ("standard_conforming_strings", "on"),
        ("default_transaction_isolation", "read committed"),
        ("default_transaction_deferrable", "off"),
        ("transaction_isolation", "read committed"),
        ("datestyle", "ISO, YMD"),
        ("intervalstyle", "postgres"),
        ("timezone", "UTC"),
        ("bytea_output", "hex"),
        ("client_encoding", "UTF8"),
        ("quote_all_identifiers", "off"),
        ("transform_null_equals", "off"),
        ("array_nulls", "on"),
        ("jit", "off"),
        ("statement_timeout", "5s"),
        ("work_mem", "7MB"),
        ("default_transaction_read_only", "off"),
        ("application_name", "kafka-consumer test (mine)"),
    ] {
        assert_eq!(setting(&url, name), expected, "{name}");
    }
    // An empty search path set for a role, and a read-only default, which stays visible.
    execute("ALTER ROLE admin SET search_path = ''");
    execute("ALTER ROLE admin SET default_transaction_read_only = on");
    assert_eq!(setting(&url, "search_path"), "pg_catalog, pg_temp, \"\"");
    assert_eq!(setting(&url, "default_transaction_read_only"), "on");
    assert_eq!(setting(&format!("{}?options=-csearch_path%3D", postgres.url()), "search_path"), "pg_catalog, pg_temp");
}

/// Records the settings of the sessions that write to a table.
const WITNESS: &str = "
    CREATE TABLE public.witness (application text, jit text, level text);
    GRANT INSERT ON public.witness TO PUBLIC;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
    CREATE FUNCTION public.witness() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.witness VALUES (current_setting('application_name'), current_setting('jit'),
                                           current_setting('transaction_isolation'));
        RETURN NULL;
    END $$;";

/// Returns the settings under which the sessions of a program wrote, without repetitions.
fn witnessed(stack: &Stack, application: &str) -> Vec<(String, String)> {
    let sql = format!("SELECT DISTINCT jit, level FROM public.witness WHERE application LIKE '{application}%'");
    crate::support::query(stack, &sql).iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn sessions_that_write_run_without_jit_and_at_their_own_isolation_level() {
    let stack = Stack::ephemeral().unwrap();
    crate::support::migrate(&stack);
    for (name, value) in [("jit", "on"), ("jit_above_cost", "0"), ("default_transaction_isolation", "serializable")] {
        execute(&stack, &format!("ALTER DATABASE warehouse SET {name} = {value}"));
    }
    execute(&stack, WITNESS);
    for table in ["pipeline.consumer_offsets", "pipeline.refinements", "pipeline.check_results", "pipeline.rebuilds"] {
        let trigger = "AFTER INSERT OR UPDATE";
        execute(&stack, &format!("CREATE TRIGGER witness {trigger} ON {table} EXECUTE FUNCTION public.witness()"));
    }
    let mut made = generator(&stack);
    made.args(["--count", "2000"]);
    succeed(made);
    catch_up(&stack, &[]);
    succeed(program(&stack, WRITER, &["refine"]));
    run_check(&stack);
    let mut rebuild = program(&stack, WRITER, &["rebuild", "--lake", &stack.lake_url()]);
    rebuild.envs(stack.s3().variables());
    succeed(rebuild);
    let off = |level: &str| vec![("off".to_owned(), level.to_owned())];
    assert_eq!(witnessed(&stack, "kafka-consumer kafka-consumer"), off("read committed"), "writers");
    assert_eq!(witnessed(&stack, "kafka-consumer refine"), off("repeatable read"));
    assert_eq!(witnessed(&stack, "kafka-consumer check").len(), 1);
    assert!(witnessed(&stack, "%").iter().all(|(jit, _)| jit == "off"), "{:?}", witnessed(&stack, "%"));
    assert!(!witnessed(&stack, "event-pipeline rebuild").is_empty());
}

/// A session waits while another one creates the table partition of the same day. Its snapshot must be newer than the
/// wait.
#[test]
fn two_sessions_create_the_same_day_at_any_default_isolation_level() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    for (days, level) in [(3, "read committed"), (4, "repeatable read"), (5, "serializable")] {
        execute(&stack, &format!("ALTER DATABASE warehouse SET default_transaction_isolation = '{level}'"));
        let (day, runtime) = (days_ago(days), runtime());
        let begin =
            format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pipeline.ensure_partition('{}')", day.hour().date());
        let other = runtime.block_on(async {
            let other = crate::support::connect_to(&stack.database_url()).await.unwrap();
            other.batch_execute(&begin).await.unwrap();
            other
        });
        let number_of = |partition: u8| u32::try_from(days).unwrap() * 10 + u32::from(partition);
        let records = [0, 1].map(|one: u8| Record::of(i32::from(one), event(number_of(one), day, "tools")));
        produce(&stack, &records);
        let mut child = consumer(&stack).arg("--until-caught-up").stderr(Stdio::null()).spawn().unwrap();
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'";
        wait_until(&mut child, || number(&stack, waiting) > 0);
        runtime.block_on(other.batch_execute("COMMIT")).unwrap();
        assert!(child.wait().unwrap().success(), "{level}");
    }
    assert_eq!(number(&stack, "SELECT count(*) FROM staging.product_events_raw"), 6);
}

/// Names of a database, a role and a group that every statement has to quote or to pass as a parameter.
#[test]
fn names_that_need_quotes() {
    let stack = Stack::ephemeral().unwrap();
    make_users(&stack);
    execute(&stack, r#"CREATE ROLE "Writer's ""own""" LOGIN PASSWORD 'w' IN ROLE pipeline_writer"#);
    execute(&stack, r#"CREATE DATABASE "Odd ""name""""#);
    let address = stack.database_url().split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    let of = |user: &str| format!("postgres://{user}@{address}/Odd%20%22name%22");
    let (owner, writer) = (of("admin:admin"), of("Writer's%20%22own%22:w"));
    let servers = stack.bootstrap_servers();
    let kafka = ["--bootstrap-servers", &servers, "--group-id", r#"it's "a" group %s"#];
    let run = |url: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
        command.args(arguments).args(["--database-url", url]).env("KAFKA_CONSUMER_HTTP_ADDR", "off");
        succeed(command)
    };
    run(&owner, &["migrate"]);
    run(&writer, &[&["run", "--until-caught-up", "--create-topic"], &kafka[..]].concat());
    produce(&stack, &[Record::of(0, event(1, now(), "tools")), Record::of(1, "no event")]);
    run(&writer, &[&["run", "--until-caught-up"], &kafka[..]].concat());
    run(&writer, &[&["doctor", "--no-lake"], &kafka[..]].concat());
    run(&writer, &[&["status"], &kafka[..]].concat());
    run(&writer, &[&["offsets", "set", "--to-earliest", "--reason", "a test"], &kafka[..]].concat());
    run(&writer, &["refine"]);
    run(&owner, &["retention", "--keep", "10d"]);
    run(&writer, &[&["run", "--until-caught-up"], &kafka[..]].concat());
    let counts = runtime().block_on(async {
        let client = crate::support::connect_to(&owner).await.unwrap();
        let sql = "SELECT sum(rows_inserted)::bigint, sum(duplicates)::bigint, sum(dead_letters)::bigint
            FROM pipeline.consumer_offsets";
        let row = client.query_one(sql, &[]).await.unwrap();
        [row.get::<_, i64>(0), row.get(1), row.get(2)]
    });
    assert_eq!(counts, [1, 1, 2]);
}
