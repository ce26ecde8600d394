//! From empty databases to a distributed table.

use crate::consumer_process::Member;
use crate::support::{OWNER, WRITER, execute, fail, printed, program, succeed};
use crate::test_topic::{holds, publish};

use super::cluster::{Cluster, SHARDS};
use super::{cluster_or_return, table_rows, text};

fn distribute(cluster: &Cluster, more: &[&str]) -> String {
    let arguments = [&["distribute", "--shards", SHARDS], more].concat();
    String::from_utf8(succeed(program(&cluster.stack, OWNER, &arguments)).stdout).unwrap()
}

#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn the_recipe_leads_to_a_warehouse_that_doctor_finds_good() {
    let cluster = cluster_or_return!("recipe");
    let again = distribute(&cluster, &[]);
    assert!(again.contains("nothing to do") && again.contains("by account_id over 8 shards"), "{again}");
    let said = fail(&cluster.stack, OWNER, &["distribute", "--shards", "16"], 1);
    assert!(said.contains("it has 8") && said.contains("alter_distributed_table"), "{said}");
    publish(&cluster.stack, "recipe", 5_000);
    let servers = cluster.stack.bootstrap_servers();
    for loaded in [false, true] {
        let found = printed(&cluster.stack, &["doctor", "--no-lake", "--bootstrap-servers", &servers]);
        let good = [
            "13.2",
            "14.",
            "connected to the coordinator",
            "by account_id over 8 shards on 2 servers",
            "sequential writes",
            "2, all answer",
            "transactions in doubt: none",
        ];
        let has = |word: &&str| found.contains(word);
        assert!(good[2..].iter().all(has) && good[..2].iter().any(has), "{found}");
        assert!(!found.contains("BAD") && !found.contains("recovery interval: 60"), "{found}");
        let sample = if loaded { "inserted, and rolled back" } else { "not tried" };
        assert!(found.contains(&format!("sample row: {sample}")), "{found}");
        Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
    }
    holds(&cluster.stack, "recipe");
}

#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn what_is_missing_is_named_and_existing_rows_are_moved() {
    let Some(cluster) = Cluster::databases("obstacles") else { return };
    let refused = |user: &str, expected: &str| {
        let said = fail(&cluster.stack, user, &["distribute", "--shards", SHARDS], 1);
        assert!(said.contains(expected), "{said}");
    };
    cluster.create_roles();
    succeed(program(&cluster.stack, OWNER, &["migrate"]));
    refused(OWNER, "CREATE EXTENSION citus");
    publish(&cluster.stack, "before", 20_000);
    Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
    cluster.create_extension();
    refused(WRITER, "belongs to pipeline_owner; connect as its owner");
    refused(OWNER, "citus_set_coordinator_host");
    cluster.register_coordinator();
    refused(OWNER, "citus_add_node");
    cluster.add_workers();
    cluster.create_roles();
    // The distribution column is missing in an index of the owner.
    execute(
        &cluster.stack,
        "CREATE UNIQUE INDEX twins ON staging.product_events_raw (event_timestamp, user_id, event_id)",
    );
    refused(OWNER, "nothing was changed");
    execute(&cluster.stack, "DROP INDEX staging.twins");

    let rows = text(&cluster.stack.database_url(), super::ROWS);
    let planned = distribute(&cluster, &["--dry-run"]);
    assert!(planned.contains("would be distributed") && planned.contains("2 workers"), "{planned}");
    let done = distribute(&cluster, &[]);
    assert!(done.contains("is distributed by account_id over 8 shards on 2 workers"), "{done}");
    assert_eq!(text(&cluster.stack.database_url(), super::ROWS), rows);
    let local = "SELECT pg_total_relation_size(inhrelid)::text FROM pg_inherits
        WHERE inhparent = 'staging.product_events_raw'::regclass ORDER BY 1 DESC LIMIT 1";
    let size: i64 = text(&cluster.stack.database_url(), local).parse().unwrap();
    assert!(size < 100_000, "{size} bytes are left on the coordinator");

    // The same records again are all duplicates.
    let before = table_rows(&cluster);
    Member::of(&cluster.stack, &["--until-caught-up", "--group-id", "again"]).ended_with(0);
    assert_eq!(table_rows(&cluster), before);
    execute(&cluster.stack, "DELETE FROM pipeline.consumer_offsets WHERE consumer_group = 'again'");
    publish(&cluster.stack, "after", 20_000);
    Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
    holds(&cluster.stack, "after");
}
