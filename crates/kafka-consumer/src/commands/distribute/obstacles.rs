//! Checks whether the cluster and the role allow the table to be distributed.

use anyhow::{Context, bail};
use tokio_postgres::{Client, Row};

use crate::postgres::cluster::{self, WorkerAnswer};
use crate::postgres::owner;

/// Selects the server's part in the cluster, and whether the role can log in.
const SERVER: &str = "SELECT (SELECT groupid = 0 FROM pg_dist_local_group),
        EXISTS (SELECT FROM pg_dist_node WHERE groupid = 0),
        (SELECT count(*) FROM citus_get_active_worker_nodes()),
        current_user::text, (SELECT rolcanlogin FROM pg_roles WHERE rolname = current_user)";

/// Returns the number of workers. Fails if the cluster is incomplete, or if the role does not own the table or cannot log
/// in to the workers.
pub(crate) async fn check(client: &Client) -> anyhow::Result<usize> {
    let reading = "cannot read the state of the cluster";
    if !cluster::has_citus(client).await.context(reading)? {
        bail!(
            "cannot distribute the table: this database lacks the extension citus; run CREATE EXTENSION citus as a \
             superuser, on the coordinator and on every worker"
        );
    }
    owner::require(client, "distribute the table").await?;
    let workers = server(&client.query_one(SERVER, &[]).await.context(reading)?)?;
    let roles = client.query(GRANTEES, &[]).await.context(reading)?;
    let roles: Vec<String> = roles.iter().map(|row| row.get(0)).collect();
    for WorkerAnswer { worker, answer } in cluster::on_workers(client, &missing_roles(&roles)).await.context(reading)? {
        match answer {
            Err(refusal) => bail!(
                "cannot distribute the table: the coordinator cannot log in to worker {worker}: {refusal}; allow it in \
                 the worker's pg_hba.conf, or correct pg_dist_authinfo and citus.node_conninfo"
            ),
            Ok(missing) if !missing.is_empty() => bail!(
                "cannot distribute the table: worker {worker} lacks the roles {missing}; create them there, or run \
                 db_table_scripts/roles/roles.sql on the coordinator after the workers were added"
            ),
            Ok(_) => {}
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
