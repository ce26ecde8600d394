//! Finds what holds an old snapshot, which keeps PostgreSQL from removing former versions of rows.
//!
//! Each batch updates the offsets of its partitions. While an old snapshot exists, the former versions pile up, and
//! everything that reads the offsets becomes slower.

use serde::Serialize;
use tokio_postgres::{Client, Error, Row};

/// Holder of an old snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OldSnapshot {
    pub(crate) kind: HolderKind,
    /// Process ID of a session, name of a replication slot, or ID of a prepared transaction.
    pub(crate) holder: String,
    /// Application or owner. `None` if it has none.
    pub(crate) application: Option<String>,
    /// Age in seconds, unless only the number of transactions is known.
    pub(crate) age_seconds: Option<i64>,
    /// Number of transactions that began since.
    pub(crate) age_transactions: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HolderKind {
    Session,
    ReplicationSlot,
    PreparedTransaction,
}

/// Selects the holders by kind, oldest first. A transaction counts from 60 s. The age of a replication slot, of a
/// standby's feedback and of a session that the role may not see is known in transactions only, and counts from
/// 100,000. VACUUM keeps no rows of others.
const HOLDERS: &str = "
    SELECT 0, pid::text, nullif(application_name, ''), extract(epoch FROM now() - xact_start)::bigint,
        age(coalesce(backend_xmin, backend_xid))::bigint AS transactions
    FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND coalesce(backend_xmin, backend_xid) IS NOT NULL
        AND (datname = current_database() OR backend_type = 'walsender')
        AND backend_type <> 'autovacuum worker' AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
        AND CASE WHEN xact_start IS NULL THEN age(coalesce(backend_xmin, backend_xid)) >= 100000
            ELSE xact_start < now() - interval '60 seconds' END
    UNION ALL
    SELECT 1, slot_name::text, plugin::text, NULL, age(xmin) FROM pg_replication_slots WHERE age(xmin) >= 100000
    UNION ALL
    SELECT 2, gid, owner::text, extract(epoch FROM now() - prepared)::bigint, age(transaction) FROM pg_prepared_xacts
    WHERE database = current_database() AND prepared < now() - interval '60 seconds'
    ORDER BY 1, transactions DESC";

pub(crate) async fn find(client: &Client) -> Result<Vec<OldSnapshot>, Error> {
    Ok(client.query(HOLDERS, &[]).await?.iter().map(read).collect())
}

fn read(row: &Row) -> OldSnapshot {
    let kind = match row.get::<_, i32>(0) {
        0 => HolderKind::Session,
        1 => HolderKind::ReplicationSlot,
        _ => HolderKind::PreparedTransaction,
    };
    OldSnapshot {
        kind,
        holder: row.get(1),
        application: row.get(2),
        age_seconds: row.get(3),
        age_transactions: row.get(4),
    }
}

impl OldSnapshot {
    pub(crate) const fn kind(&self) -> &'static str {
        match self.kind {
            HolderKind::Session => "session",
            HolderKind::ReplicationSlot => "replication slot",
            HolderKind::PreparedTransaction => "prepared transaction",
        }
    }

    /// Returns the holder, such as `4242 (psql)`.
    pub(crate) fn name(&self) -> String {
        let application = self.application.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        format!("{}{application}", self.holder)
    }

    /// Returns the age, such as `85 s` or `120000 transactions`.
    pub(crate) fn age(&self) -> String {
        let transactions = || format!("{} transactions", self.age_transactions);
        self.age_seconds.map_or_else(transactions, |seconds| format!("{seconds} s"))
    }

    /// Returns the statement that releases the snapshot.
    pub(crate) fn remedy(&self) -> String {
        let quoted = self.holder.replace('\'', "''");
        match self.kind {
            HolderKind::Session => format!("SELECT pg_terminate_backend({})", self.holder),
            HolderKind::ReplicationSlot => {
                format!("start the slot's subscriber, or SELECT pg_drop_replication_slot('{quoted}')")
            }
            HolderKind::PreparedTransaction => format!("ROLLBACK PREPARED '{quoted}', or COMMIT PREPARED"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_an_age_and_a_remedy() {
        let session = OldSnapshot {
            kind: HolderKind::Session,
            holder: "4242".to_owned(),
            application: Some("psql".to_owned()),
            age_seconds: Some(85),
            age_transactions: 7,
        };
        assert_eq!((session.name(), session.age()), ("4242 (psql)".to_owned(), "85 s".to_owned()));
        assert_eq!(session.remedy(), "SELECT pg_terminate_backend(4242)");
        let slot = OldSnapshot {
            kind: HolderKind::ReplicationSlot,
            holder: "o'slot".to_owned(),
            application: None,
            age_seconds: None,
            age_transactions: 120_000,
        };
        assert_eq!((slot.name(), slot.age()), ("o'slot".to_owned(), "120000 transactions".to_owned()));
        assert!(slot.remedy().contains("pg_drop_replication_slot('o''slot')"));
        let prepared = OldSnapshot { kind: HolderKind::PreparedTransaction, ..slot };
        assert!(prepared.remedy().starts_with("ROLLBACK PREPARED 'o''slot'"));
    }
}
