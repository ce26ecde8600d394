//! Privileges of the roles in the warehouse.

use crate::support::{
    OWNER, READER, WRITER, consumer, execute, execute_as, make_users, number, program, query, succeed,
};
use local_stack::Stack;

const DENIED: &str = "42501";

fn denied(stack: &Stack, user: &str, statements: &[&str]) {
    for sql in statements {
        let error = execute_as(stack, user, sql).expect_err(sql);
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some(DENIED), "{user}, {sql}: {error}");
    }
}

#[test]
fn the_writer_can_not_take_away_and_the_reader_can_not_write() {
    let stack = Stack::ephemeral().unwrap();
    let mut run = consumer(&stack);
    run.arg("--until-caught-up");
    succeed(run);
    execute_as(&stack, WRITER, "SELECT pipeline.ensure_partition('2026-11-22')").unwrap();
    let leaf = "staging.product_events_raw_20261122";
    let owners =
        "SELECT count(*) FROM pg_class WHERE relnamespace IN ('staging'::regnamespace, 'pipeline'::regnamespace,
                  'refined'::regnamespace) AND relkind IN ('r', 'p', 'v') AND relowner <> 'pipeline_owner'::regrole";
    assert_eq!(number(&stack, owners), 0, "everything is the owner's, partitions that a writer asked for too");

    let tables = query(
        &stack,
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace IN ('staging'::regnamespace,
         'pipeline'::regnamespace, 'refined'::regnamespace) AND relkind IN ('r', 'p')",
    );
    let tables: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
    assert!(tables.len() >= 9 && tables.contains(&leaf.to_owned()), "{tables:?}");
    for table in &tables {
        // Derived tables can be computed again, so a writer may delete their rows.
        let is_derived = table.starts_with("refined.") || table == "pipeline.touched_hours";
        for user in [WRITER, READER] {
            if is_derived && user == WRITER {
                denied(&stack, user, &[&format!("TRUNCATE {table}"), &format!("DROP TABLE {table}")]);
                continue;
            }
            let taken = [format!("DELETE FROM {table}"), format!("TRUNCATE {table}"), format!("DROP TABLE {table}")];
            denied(&stack, user, &taken.each_ref().map(String::as_str));
        }
        denied(&stack, READER, &[&format!("INSERT INTO {table} DEFAULT VALUES")]);
        execute_as(&stack, READER, &format!("SELECT * FROM {table}")).expect(table);
    }
    denied(
        &stack,
        WRITER,
        &[
            "UPDATE staging.product_events_raw SET user_id = 1",
            "ALTER TABLE staging.product_events_raw ADD COLUMN x integer",
            "ALTER TABLE staging.product_events_raw DETACH PARTITION staging.product_events_raw_20261122",
            "UPDATE pipeline.offset_changes SET changed_by = 'someone'",
            "INSERT INTO pipeline.offset_changes (changed_by, consumer_group, topic, partition, from_offset, to_offset,
             target, reason) VALUES ('nobody', 'g', 't', 0, 0, 0, 'x', 'y')",
            "INSERT INTO pipeline.retention_floors (floor) VALUES ('2026-01-01')",
            "CALL pipeline.grant_to_roles()",
            "CREATE TABLE pipeline.x ()",
            "CREATE TABLE public.x ()",
        ],
    );
    denied(
        &stack,
        READER,
        &[
            "UPDATE pipeline.consumer_offsets SET next_offset = 0",
            "UPDATE pipeline.dead_letters SET payload = NULL",
            "SELECT pipeline.ensure_partition('2026-11-23')",
            "CREATE TABLE staging.x ()",
        ],
    );
}

#[test]
fn roles_that_came_after_the_tables_get_their_rights_by_a_call() {
    let stack = Stack::ephemeral().unwrap();
    for role in ["pipeline_owner", "pipeline_writer", "pipeline_reader"] {
        execute(&stack, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    }
    succeed(program(&stack, "admin", &["migrate"]));
    execute(&stack, include_str!("../../../../db_table_scripts/roles/roles.sql"));
    make_users(&stack);
    let read = "SELECT * FROM pipeline.consumer_offsets";
    denied(&stack, WRITER, &[read]);
    execute(&stack, "CALL pipeline.grant_to_roles()");
    for user in [WRITER, READER] {
        execute_as(&stack, user, read).unwrap();
    }
    // The role `pipeline_owner` owns nothing here: the tables keep their owner.
    denied(&stack, OWNER, &["DROP TABLE pipeline.consumer_offsets"]);
}
