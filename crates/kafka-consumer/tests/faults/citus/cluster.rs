//! A database of a test on all servers of a cluster. The coordinator reaches each worker through a proxy.

use std::env;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use local_stack::{Proxy, Stack};

use crate::support::{OWNER, connect_to, make_users, number, program, run_sql, runtime, succeed};

/// Number of shards of the table.
pub(crate) const SHARDS: &str = "8";

pub(crate) struct Cluster {
    /// Kafka and S3. The warehouse is the test's database on the coordinator.
    pub(crate) stack: Stack,
    /// Proxies in front of the workers.
    pub(crate) workers: Vec<Proxy>,
    /// URL of a maintenance database on each server, the coordinator first.
    servers: Vec<String>,
    name: String,
}

impl Cluster {
    /// Creates the databases of a test on all servers, as <docs/citus.md> describes, and distributes the table. Returns
    /// `None` if no cluster is given.
    pub(crate) fn create(name: &str) -> Option<Self> {
        let cluster = Self::databases(name)?;
        cluster.create_extension();
        cluster.register_coordinator();
        cluster.add_workers();
        cluster.create_roles();
        succeed(program(&cluster.stack, OWNER, &["migrate"]));
        succeed(program(&cluster.stack, OWNER, &["distribute", "--shards", SHARDS]));
        Some(cluster)
    }

    /// Creates empty databases only.
    pub(crate) fn databases(name: &str) -> Option<Self> {
        let (Ok(coordinator), Ok(workers)) = (env::var("CITUS_URL"), env::var("CITUS_WORKERS")) else {
            eprintln!("left out: CITUS_URL and CITUS_WORKERS are not set");
            return None;
        };
        let ports = workers.split(',').map(|worker| worker.rsplit_once(':').unwrap().1.parse::<u16>().unwrap());
        let workers: Vec<Proxy> = ports.clone().map(|port| Proxy::to(port).unwrap()).collect();
        let servers = [coordinator.clone()].into_iter().chain(ports.map(|port| with_port(&coordinator, port)));
        let name = format!("event_pipeline_{name}");
        let mut stack = Stack::ephemeral().unwrap();
        stack.warehouse = Some(with_database(&coordinator, &name));
        let cluster = Self { stack, workers, servers: servers.collect(), name };
        cluster.drop_databases();
        for server in &cluster.servers {
            run_sql(server, &format!("CREATE DATABASE {}", cluster.name)).unwrap();
        }
        Some(cluster)
    }

    pub(crate) fn create_extension(&self) {
        for server in &self.servers {
            run_sql(&with_database(server, &self.name), "CREATE EXTENSION citus").unwrap();
        }
    }

    pub(crate) fn register_coordinator(&self) {
        let port = port_of(&self.servers[0]);
        self.superuser(&format!("SELECT citus_set_coordinator_host('127.0.0.1', {port})"));
    }

    pub(crate) fn add_workers(&self) {
        for proxy in &self.workers {
            self.superuser(&format!("SELECT citus_add_node('127.0.0.1', {})", proxy.port()));
        }
    }

    /// Creates the roles and the users that are their members.
    pub(crate) fn create_roles(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../db_table_scripts/roles/roles.sql");
        self.superuser(&fs::read_to_string(script).unwrap());
        self.superuser("ALTER ROLE pipeline_owner LOGIN");
        make_users(&self.stack);
    }

    pub(crate) fn superuser(&self, sql: &str) {
        run_sql(&self.stack.database_url(), sql).unwrap();
    }

    /// Crashes a server, 0 for the coordinator, and waits until it has recovered: one of its processes is killed, so that
    /// PostgreSQL ends all others and starts again from its log.
    pub(crate) fn crash(&self, server: usize) {
        let url = &self.servers[server];
        let sql = "SELECT pid::bigint FROM pg_stat_activity WHERE backend_type = 'walwriter'";
        let pid: i64 =
            runtime().block_on(async { connect_to(url).await.unwrap().query_one(sql, &[]).await.unwrap().get(0) });
        // The session ends with the server.
        let _ = run_sql(url, &format!("COPY (SELECT) TO PROGRAM 'kill -9 {pid}'"));
        let deadline = Instant::now() + Duration::from_mins(1);
        while run_sql(url, "SELECT 1").is_err() {
            assert!(Instant::now() < deadline, "the server has not recovered");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the number of transactions that are prepared on the workers.
    pub(crate) fn prepared(&self) -> i64 {
        let sql = "SELECT coalesce(sum(result::bigint), 0)::bigint FROM run_command_on_workers(
            'SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()')";
        number(&self.stack, sql)
    }

    fn drop_databases(&self) {
        for server in &self.servers {
            let drop = || run_sql(server, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
            if let Err(error) = drop() {
                // Transactions in doubt hold the database.
                let prepared =
                    format!(
                    "SELECT coalesce(string_agg(format('ROLLBACK PREPARED %L', gid), ';'), '') FROM pg_prepared_xacts
                     WHERE database = '{}'", self.name);
                let url = with_database(server, &self.name);
                let statements = runtime().block_on(async {
                    connect_to(&url).await?.query_one(&prepared, &[]).await?.try_get::<_, String>(0)
                });
                let ended = statements.and_then(|statements| run_sql(&url, &statements)).and_then(|()| drop());
                if ended.is_err() {
                    eprintln!("{} on {server} was not dropped: {error}", self.name);
                }
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.drop_databases();
    }
}

fn port_of(url: &str) -> u16 {
    let (_, place) = url.rsplit_once('@').unwrap();
    let (host, _) = place.split_once('/').unwrap();
    host.rsplit_once(':').map_or(5432, |(_, port)| port.parse().unwrap())
}

fn with_port(url: &str, port: u16) -> String {
    let (user, place) = url.rsplit_once('@').unwrap();
    let (_, database) = place.split_once('/').unwrap();
    format!("{user}@127.0.0.1:{port}/{database}")
}

fn with_database(url: &str, database: &str) -> String {
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{database}")
}
