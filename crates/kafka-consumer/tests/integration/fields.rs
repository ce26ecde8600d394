//! Checks that the table and the view have the fields of the list, with their types and defaults.

use crate::support::{execute, migrate, query};
use event_model::{FIELDS, json_schema};
use local_stack::Stack;
use serde_json::Value;

/// The only column of the table that is not a field.
const INGESTED_AT: &str = "ingested_at";

#[test]
fn the_scripts_have_each_field_of_the_list() {
    let stack = Stack::ephemeral().unwrap();
    migrate(&stack);
    let sql = "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
               WHERE attrelid = 'staging.product_events_raw'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    let columns = query(&stack, sql);
    let columns: Vec<(String, String, bool)> = columns
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .filter(|(name, ..)| name != INGESTED_AT)
        .collect();
    let standard = |kind: &'static str| if kind == "timestamptz" { "timestamp with time zone" } else { kind };
    let fields: Vec<(String, String, bool)> =
        FIELDS.iter().map(|field| (field.name.to_owned(), standard(field.kind.sql_type()).to_owned(), true)).collect();
    assert_eq!(columns, fields, "a script in db_table_scripts adds the column of a field; see CONTRIBUTING.md");

    execute(
        &stack,
        "SELECT pipeline.ensure_partition('2026-11-22');
         INSERT INTO staging.product_events_raw VALUES
             (gen_random_uuid(), '2026-11-22 12:00Z', 'rfq_sent', 1, 2, 3, 'tools', 'exp_1')",
    );
    let row: String = query(&stack, "SELECT to_jsonb(event)::text FROM staging.product_events AS event")[0].get(0);
    let (row, schema): (Value, Value) = (serde_json::from_str(&row).unwrap(), json_schema());
    for field in FIELDS {
        let default = &schema["properties"][field.name]["default"];
        assert!(row.get(field.name).is_some(), "the view lacks {}: CALL pipeline.extend_event_view()", field.name);
        assert!(!field.has_default || row[field.name] == *default, "{}: {} in the table", field.name, row[field.name]);
    }
}
