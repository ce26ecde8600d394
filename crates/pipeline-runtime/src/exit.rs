//! Exit codes of a program: 0 success, 1 failure, 2 wrong usage or configuration, 3 a check found a difference.

use std::io::{self, Write};

use crate::output::{note, unless_closed};
use crate::panics::exit_on_panic;

pub use crate::exit_code::{Failure, now};

/// Runs a program and ends the process with its exit code. Prints the error of a failed program to stderr.
///
/// A panic in any thread also ends the process. `safe` is the assurance at the end of its message.
pub fn run(safe: &'static str, program: impl FnOnce() -> Result<(), Failure>) -> ! {
    exit_on_panic(safe);
    let done = program().and_then(|()| unless_closed(io::stdout().flush().map_err(Into::into)));
    now(done.map_or_else(
        |failure| {
            note(format_args!("error: {failure}"));
            failure.code()
        },
        |()| 0,
    ))
}
