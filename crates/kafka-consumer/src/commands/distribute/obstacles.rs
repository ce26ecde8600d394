//! Checks whether the cluster and the role allow the table to be distributed.

use anyhow::{Context, bail};
use tokio_postgres::{Client, Row};

use crate::postgres::owner;

/// Selects whether the server has Citus. Its functions do not exist otherwise.
const HAS_CITUS: &str = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')";

/// Selects the server's part in the cluster, and whether the role can log in.
const SERVER: &str = "SELECT (SELECT groupid = 0 FROM pg_dist_local_group),
        EXISTS (SELECT FROM pg_dist_node WHERE groupid = 0),
        (SELECT count(*) FROM citus_get_active_worker_nodes()),
        current_user::text, (SELECT rolcanlogin FROM pg_roles WHERE rolname = current_user)";

/// Returns the number of workers. Fails if the cluster is incomplete, or if the role does not own the table or cannot log
/// in to the workers.
pub(crate) async fn check(client: &Client) -> anyhow::Result<usize> {
    let reading = "cannot read the state of the cluster";
    if !client.query_one(HAS_CITUS, &[]).await.context(reading)?.get::<_, bool>(0) {
        bail!(
            "cannot distribute the table: this database lacks the extension citus; run CREATE EXTENSION citus as a \
             superuser, on the coordinator and on every worker"
        );
    }
    owner::require(client, "distribute the table").await?;
    let workers = server(&client.query_one(SERVER, &[]).await.context(reading)?)?;
    let roles = client.query(GRANTEES, &[]).await.context(reading)?;
    let roles: Vec<String> = roles.iter().map(|row| row.get(0)).collect();
    let sql = missing_roles(&roles);
    for row in client.query(ON_WORKERS, &[&sql]).await.context(reading)? {
        let (worker, result): (String, String) = (row.get(0), row.get(2));
        if !row.get::<_, bool>(1) {
            bail!(
                "cannot distribute the table: the coordinator cannot log in to worker {worker}: {result}; allow it in \
                 the worker's pg_hba.conf, or correct pg_dist_authinfo and citus.node_conninfo"
            );
        }
        if !result.is_empty() {
            bail!(
                "cannot distribute the table: worker {worker} lacks the roles {result}; create them there, or run \
                 db_table_scripts/roles/roles.sql on the coordinator after the workers were added"
            );
        }
    }
    Ok(workers)
}

fn server(row: &Row) -> anyhow::Result<usize> {
    let (is_coordinator, is_registered): (bool, bool) = (row.get(0), row.get(1));
    let workers: i64 = row.get(2);
    let role: String = row.get(3);
    if !is_coordinator {
        bail!("cannot distribute the table: this server is a worker; connect to the coordinator");
    }
    if !is_registered {
        bail!(
            "cannot distribute the table: the workers do not know the coordinator; as a superuser, run SELECT \
             citus_set_coordinator_host('<host>', <port>)"
        );
    }
    if workers == 0 {
        bail!(
            "cannot distribute the table: the cluster has no workers; as a superuser, run SELECT \
             citus_add_node('<host>', <port>) for each"
        );
    }
    if row.get::<_, Option<bool>>(4) != Some(true) {
        bail!(
            "cannot distribute the table: role {role} cannot log in, and Citus connects to the workers as this role; as \
             a superuser, run ALTER ROLE \"{role}\" LOGIN"
        );
    }
    Ok(usize::try_from(workers).unwrap_or_default())
}

/// Selects the roles with privileges on the table. The workers grant them on the shards.
const GRANTEES: &str = "SELECT DISTINCT pg_get_userbyid(grantee)::text
    FROM pg_class, aclexplode(relacl) WHERE oid = 'staging.product_events_raw'::regclass AND grantee <> 0";

const ON_WORKERS: &str = "SELECT nodename || ':' || nodeport, success, result FROM run_command_on_workers($1)";

/// Returns the query that lists the roles which a worker lacks.
fn missing_roles(roles: &[String]) -> String {
    let names: Vec<String> = roles.iter().map(|role| format!("'{}'", role.replace('\'', "''"))).collect();
    format!(
        "SELECT coalesce(string_agg(name, ', '), '') FROM unnest(ARRAY[{}]::text[]) AS name
         WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_roles_are_quoted() {
        let sql = missing_roles(&["it's".to_owned(), "b".to_owned()]);
        assert!(sql.contains("ARRAY['it''s', 'b']::text[]"), "{sql}");
    }
}
