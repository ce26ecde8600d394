//! Classifies PostgreSQL errors by their remedy, in one place.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::io;
use std::iter::successors;

pub(crate) use ingest_protocol::attempts::{Phase, SqlFault};
use pg_conninfo::{handshake_was_cut, tls_failure};
use tokio_postgres::error::{DbError, Severity};

/// An error and the phase in which it was raised.
#[derive(Debug)]
pub(crate) struct PhaseError {
    pub(crate) error: tokio_postgres::Error,
    pub(crate) phase: Phase,
}

impl From<tokio_postgres::Error> for PhaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self { error, phase: Phase::Statement }
    }
}

/// Number of consecutive attempts that fail with the same transient error before its rows are searched for.
const REPEATS: u32 = 5;

/// Counts identical transient errors of [`Phase::Rows`] and [`Phase::Commit`]. An error that repeats is no longer
/// transient.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    last: Option<(String, String)>,
    count: u32,
    repeated: BTreeSet<String>,
    all: bool,
}

impl Repeats {
    /// Treats every error as repeated, for work that is not retried.
    #[must_use]
    pub(crate) fn exhausted() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Counts the error of a failed attempt and returns its remedy.
    pub(crate) fn note(&mut self, error: &PhaseError) -> SqlFault {
        let fault = self.classify(error);
        let database = error.error.as_db_error().filter(|_| error.phase != Phase::Statement);
        let (Some(database), SqlFault::Retry) = (database, fault) else {
            self.last = None;
            return fault;
        };
        let same = (database.code().code().to_owned(), database.message().to_owned());
        self.count = if self.last.as_ref() == Some(&same) { self.count + 1 } else { 1 };
        if self.count >= REPEATS {
            self.repeated.insert(same.0.clone());
        }
        self.last = Some(same);
        self.classify(error)
    }

    /// Returns the remedy for an error, given the attempts so far.
    #[must_use]
    pub(crate) fn classify(&self, error: &PhaseError) -> SqlFault {
        let Some(database) = error.error.as_db_error() else { return without_answer(&error.error) };
        let repeated = self.all || self.repeated.contains(database.code().code());
        decide(&Evidence { repeated, ..Evidence::of(database, error.phase) })
    }
}

/// Returns true if the state of the server can also cause an error. A row that fails with it is then to blame only if
/// other rows pass.
#[must_use]
pub(crate) fn may_be_server_state(error: &tokio_postgres::Error) -> bool {
    let evidence = error.as_db_error().map(|database| Evidence::of(database, Phase::Rows));
    evidence.is_none_or(|evidence| is_transient(evidence.state) && !evidence.is_raised_by_user_code())
}

/// Returns true if a worker of a distributed table reported the error during COPY. The coordinator passes on its message,
/// but not its SQLSTATE.
#[must_use]
pub(crate) fn lacks_sqlstate(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|database| Evidence::of(database, Phase::Rows).is_from_worker_copy())
}

/// Returns true if a connection pooler reported the error instead of PostgreSQL.
#[must_use]
pub(crate) fn is_raised_by_pooler(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|database| Evidence::of(database, Phase::Statement).is_raised_by_pooler())
}

/// Classifies an error of a statement that inserts no rows.
#[must_use]
pub(crate) fn classify(error: &tokio_postgres::Error) -> SqlFault {
    match error.as_db_error() {
        Some(database) => decide(&Evidence::of(database, Phase::Statement)),
        None => without_answer(error),
    }
}

/// Classifies an error without an answer from the server: a lost connection is transient, anything else is a bug.
fn without_answer(error: &tokio_postgres::Error) -> SqlFault {
    let lost = error.is_closed() || causes(error).any(|cause| cause.is::<io::Error>() || handshake_was_cut(cause));
    if lost { SqlFault::Retry } else { SqlFault::Stop }
}

/// Returns true if the server refused the credentials of a new session. They may be replaced in their files, so the
/// next session may succeed.
#[must_use]
pub(crate) fn is_login_refusal(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(database) => {
            matches!(database.parsed_severity(), Some(Severity::Fatal)) && is_about_the_login(database.code().code())
        }
        // With TLS 1.3 a refused client certificate is reported after the handshake.
        None => tls_failure(error).is_some() || causes(error).any(|cause| cause.to_string().contains("SSL alert")),
    }
}

/// Returns true if the server reset the connection.
#[must_use]
pub(crate) fn is_reset(error: &tokio_postgres::Error) -> bool {
    let is_reset = |io: &io::Error| io.kind() == io::ErrorKind::ConnectionReset;
    causes(error).any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_reset))
}

/// Returns true for class 28, invalid authorization.
fn is_about_the_login(state: &str) -> bool {
    state.starts_with("28")
}

fn causes<'a>(error: &'a tokio_postgres::Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    successors(error.source(), |cause| (**cause).source())
}

/// Facts about an error that decide its remedy.
#[derive(Clone, Copy, Debug)]
struct Evidence<'a> {
    state: &'a str,
    phase: Phase,
    /// The server ended the session.
    fatal: bool,
    /// Function of the server's source code that raised the error.
    routine: Option<&'a str>,
    /// The error names the events' table.
    of_events: bool,
    message: &'a str,
    /// The same error ended several consecutive attempts.
    repeated: bool,
}

impl<'a> Evidence<'a> {
    fn of(database: &'a DbError, phase: Phase) -> Self {
        Self {
            state: database.code().code(),
            phase,
            fatal: matches!(database.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
            routine: database.routine(),
            of_events: database.schema() == Some("staging") && database.table() == Some("product_events_raw"),
            message: database.message(),
            repeated: false,
        }
    }

    /// Returns true for RAISE in PL/pgSQL, which may set any SQLSTATE.
    fn is_raised_by_user_code(&self) -> bool {
        self.routine == Some("exec_stmt_raise")
    }

    /// Returns true for an error of a connection pooler, such as `PgBouncer` without a server or a free connection.
    /// PostgreSQL's own protocol violations name the routine that raised them.
    fn is_raised_by_pooler(&self) -> bool {
        self.state == "08P01" && self.routine.is_none()
    }

    /// Returns true if the events' table has no partition for the row. The SQLSTATE is that of a violated CHECK. Of a
    /// distributed table, only the message names the shard.
    fn is_missing_partition(&self) -> bool {
        (self.state == "23514" && self.routine == Some("ExecFindPartition") && self.of_events)
            || (self.is_from_worker() && names_shard_of_events(self.message))
    }

    /// Returns true for an error that the coordinator passes on from a worker.
    fn is_from_worker(&self) -> bool {
        self.is_from_worker_copy() || (self.state == "23514" && self.routine == Some("ReportResultError"))
    }

    /// Returns true for an error of a worker that Citus reports without its SQLSTATE.
    fn is_from_worker_copy(&self) -> bool {
        self.state == "XX000" && self.routine == Some("ReportCopyError")
    }

    /// Returns true if Citus lost the connection to a worker within the transaction.
    fn is_lost_worker(&self) -> bool {
        self.state == "XX000"
            && matches!(self.routine, Some("MarkRemoteTransactionFailed" | "CheckRemoteTransactionsHealth"))
    }
}

/// Returns true if a message names a shard of the partitioned table. Shards of its partitions have the day in their names,
/// and only they have constraints.
fn names_shard_of_events(message: &str) -> bool {
    let names_shard = |rest: &str| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        digits > 0 && !rest[digits..].starts_with('_')
    };
    message.split("product_events_raw_").skip(1).any(names_shard)
}

/// Returns the remedy for an error.
///
/// While rows are inserted, permanent errors and repeated transient ones are attributed to rows. The dead-letter limit
/// guards against a table that rejects everything. No row is blamed for an error that ended the session.
fn decide(evidence: &Evidence<'_>) -> SqlFault {
    if evidence.is_raised_by_pooler() || evidence.is_lost_worker() {
        return SqlFault::Retry;
    }
    let transient = is_transient(evidence.state);
    if evidence.phase == Phase::Statement || evidence.fatal {
        return if transient { SqlFault::Retry } else { SqlFault::Stop };
    }
    if evidence.is_missing_partition() {
        return SqlFault::NoPartition;
    }
    let by_user = evidence.is_raised_by_user_code();
    match evidence.state {
        // Other sessions cause these, for as long as they hold their locks.
        "40001" | "40P01" | "55P03" if !by_user => SqlFault::Retry,
        // An encoder bug, a changed column type, a failed transaction, or a corrupted table or index.
        "08P01" | "22P03" | "22P04" | "25P02" | "XX001" | "XX002" if !by_user => SqlFault::Stop,
        _ if transient && !evidence.repeated => SqlFault::Retry,
        _ => SqlFault::Row,
    }
}

/// Returns true for a transient SQLSTATE (PostgreSQL manual, appendix A).
fn is_transient(state: &str) -> bool {
    match state {
        "40001" | "40P01" | "55P03" | "57P01" | "57P02" | "57P03" | "57P05" | "57014" | "25006" | "25P03" | "25P04" => {
            true
        }
        "08P01" => false,
        _ => ["08", "53", "58"].iter().any(|class| state.starts_with(class)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SqlFault::{NoPartition, Retry, Row, Stop};

    const PASSING: &str = "08000 08003 08006 08001 08004 40001 40P01 53000 53100 53200 53300 53400 55P03 57P01 57P02 57P03 \
                           57P05 57014 58000 58030 25006 25P03 25P04";
    const PERMANENT: &str = "22001 22003 22012 22P02 23000 23502 23503 23505 23514 23P01 P0001 P0002 P0004 U0001 44000 \
                             2F002 38000 28P01 3D000 42P01 42501 42703 0A000 XX000 99001";

    fn evidence(state: &str, phase: Phase) -> Evidence<'_> {
        let routine = Some("a_routine");
        Evidence { state, phase, fatal: false, routine, of_events: false, message: "a message", repeated: false }
    }

    fn raised(state: &str) -> Evidence<'_> {
        Evidence { routine: Some("exec_stmt_raise"), ..evidence(state, Phase::Rows) }
    }

    #[test]
    fn statements_retry_or_stop() {
        for state in PASSING.split_whitespace() {
            assert_eq!(decide(&evidence(state, Phase::Statement)), Retry, "{state}");
        }
        for state in PERMANENT.split_whitespace().chain(["08P01", "22P03", "25P02", "XX001"]) {
            assert_eq!(decide(&evidence(state, Phase::Statement)), Stop, "{state}");
        }
    }

    #[test]
    fn permanent_errors_while_rows_go_in_are_a_rows() {
        for phase in [Phase::Rows, Phase::Commit] {
            for state in PERMANENT.split_whitespace() {
                assert_eq!(decide(&evidence(state, phase)), Row, "{state}");
                assert_eq!(decide(&Evidence { phase, ..raised(state) }), Row, "{state}");
            }
        }
        for state in ["08P01", "22P03", "22P04", "25P02", "XX001", "XX002"] {
            assert_eq!((decide(&evidence(state, Phase::Rows)), decide(&raised(state))), (Stop, Row), "{state}");
        }
    }

    #[test]
    fn transient_errors_are_a_rows_once_they_repeat() {
        for state in PASSING.split_whitespace() {
            let once = evidence(state, Phase::Rows);
            assert_eq!((decide(&once), decide(&raised(state))), (Retry, Retry), "{state}");
            let by_others = ["40001", "40P01", "55P03"].contains(&state);
            let expected = if by_others { Retry } else { Row };
            assert_eq!(decide(&Evidence { repeated: true, ..once }), expected, "{state}");
            assert_eq!(decide(&Evidence { repeated: true, ..raised(state) }), Row, "{state}");
            assert_eq!(decide(&Evidence { repeated: true, fatal: true, ..once }), Retry, "{state}");
        }
    }

    #[test]
    fn a_pooler_that_lost_its_server_is_an_outage() {
        for phase in [Phase::Statement, Phase::Rows, Phase::Commit] {
            let pooler = Evidence { routine: None, ..evidence("08P01", phase) };
            assert_eq!(decide(&pooler), Retry);
            assert_eq!(decide(&Evidence { fatal: true, repeated: true, ..pooler }), Retry);
            assert_eq!(decide(&evidence("08P01", phase)), Stop, "a bug of the encoder");
        }
    }

    #[test]
    fn a_missing_partition_is_told_from_a_check() {
        let missing =
            Evidence { routine: Some("ExecFindPartition"), of_events: true, ..evidence("23514", Phase::Rows) };
        assert_eq!(decide(&missing), NoPartition);
        // Another table, into which a trigger inserts; an error raised by a trigger or a constraint.
        assert_eq!(decide(&Evidence { of_events: false, ..missing }), Row);
        assert_eq!(decide(&raised("23514")), Row);
        assert_eq!(decide(&Evidence { routine: Some("ExecConstraints"), of_events: true, ..missing }), Row);
    }

    #[test]
    fn an_error_of_a_worker_is_told_by_the_coordinators_routine() {
        let copy = |message| Evidence { routine: Some("ReportCopyError"), message, ..evidence("XX000", Phase::Rows) };
        let missing = "no partition of relation \"product_events_raw_102024\" found for row";
        assert_eq!(decide(&copy(missing)), NoPartition);
        let insert =
            Evidence { message: missing, routine: Some("ReportResultError"), ..evidence("23514", Phase::Rows) };
        assert_eq!(decide(&insert), NoPartition);
        for message in [
            "duplicate key value violates unique constraint \"product_events_raw_20261201_event_id_102024\"",
            "new row for relation \"product_events_raw_20261201_102024\" violates check constraint \"c\"",
        ] {
            assert_eq!((decide(&copy(message)), copy(message).is_from_worker_copy()), (Row, true), "{message}");
        }
        // On one server, a table partition has such a name.
        let check = "new row for relation \"product_events_raw_20261201\" violates check constraint \"c\"";
        assert_eq!(decide(&Evidence { message: check, ..evidence("23514", Phase::Rows) }), Row);
        for routine in ["MarkRemoteTransactionFailed", "CheckRemoteTransactionsHealth"] {
            for phase in [Phase::Statement, Phase::Rows, Phase::Commit] {
                assert_eq!(
                    decide(&Evidence { routine: Some(routine), ..evidence("XX000", phase) }),
                    Retry,
                    "{routine}"
                );
            }
        }
    }
}
