//! What to do about an error of PostgreSQL, decided in one place.

use std::error::Error as _;
use std::io;
use std::iter::successors;

use pg_conninfo::handshake_was_cut;
use tokio_postgres::error::SqlState;

/// What an error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlFault {
    /// It passes: the same batch again, later.
    Retry,
    /// Some row's `event_id` is there already: stage the batch and insert what is new.
    Duplicate,
    /// A day's partition is missing: make it, then again.
    NoPartition,
    /// One row is to blame.
    PerRow,
    /// Nothing that waiting or leaving out a row would mend.
    Stop,
}

/// Classifies any error of the client.
#[must_use]
pub fn classify(error: &tokio_postgres::Error) -> SqlFault {
    if let Some(database) = error.as_db_error() {
        return of_state(database.code(), database.constraint().is_some());
    }
    // Without an answer from the server: a connection that is gone comes back, anything else is a fault of ours.
    let lost = error.is_closed() || causes(error).any(|cause| cause.is::<io::Error>() || handshake_was_cut(cause));
    if lost { SqlFault::Retry } else { SqlFault::Stop }
}

fn causes<'a>(error: &'a tokio_postgres::Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    successors(error.source(), |cause| (**cause).source())
}

/// Classifies an SQLSTATE (PostgreSQL's manual, appendix A). A violated check that is no constraint's is a row
/// without a partition.
fn of_state(state: &SqlState, of_constraint: bool) -> SqlFault {
    match state.code() {
        "23505" => SqlFault::Duplicate,
        "23514" if !of_constraint => SqlFault::NoPartition,
        "22001" | "22003" | "22007" | "22008" | "22021" | "22P02" | "22P05" | "23502" | "23503" | "23514" | "23P01"
        | "P0001" => SqlFault::PerRow,
        "40001" | "40P01" | "55P03" | "57P01" | "57P02" | "57P03" | "57P05" | "57014" | "25006" | "25P03" | "25P04" => {
            SqlFault::Retry
        }
        "08P01" => SqlFault::Stop,
        code if ["08", "53", "58"].iter().any(|class| code.starts_with(class)) => SqlFault::Retry,
        _ => SqlFault::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_answer() {
        use SqlFault::{Duplicate, NoPartition, PerRow, Retry, Stop};
        let table = [
            (Retry, "08000 08003 08006 08001 08004 40001 40P01 53000 53100 53200 53300 55P03 57P01 57P02 57P03 57P05"),
            (Retry, "57014 58000 58030 25006 25P03 25P04"),
            (Duplicate, "23505"),
            (PerRow, "22001 22003 22007 22008 22021 22P02 22P05 23502 23503 23514 23P01 P0001"),
            (Stop, "22P03 22P04 08P01 28P01 28000 3D000 42P01 42501 42703 XX000 25P02 0A000"),
        ];
        for (fault, states) in table {
            for state in states.split(' ') {
                assert_eq!(of_state(&SqlState::from_code(state), true), fault, "{state}");
            }
        }
        assert_eq!(of_state(&SqlState::CHECK_VIOLATION, false), NoPartition);
    }
}
