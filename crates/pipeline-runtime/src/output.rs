//! Output to stdout and stderr that tolerates closed readers.
//!
//! `println!` and related macros panic in this case. Here a closed reader of stdout is not an error; any other failed
//! write is. Failed writes to stderr are ignored, because they cannot be reported.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use crate::exit_code::Failure;

/// Prints a text with a trailing line feed to stdout.
pub fn line(text: impl Display) -> Result<(), Failure> {
    print(format_args!("{text}\n"))
}

/// Prints a text to stdout.
pub fn print(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    unless_closed(write!(out, "{text}").and_then(|()| out.flush()).map_err(Into::into))
}

/// Prints the configuration for `--print-config` as one JSON object.
///
/// Both programs use the same format. Durations and byte sizes are strings in the units of the flags.
pub fn config(config: &serde_json::Value) -> Result<(), Failure> {
    line(format_args!("{config:#}"))
}

/// Writes a line to stderr.
pub fn note(text: impl Display) {
    // A single write keeps the lines of several threads apart.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Ignores an error caused by a closed reader of stdout. Adds the name of the output to any other write error.
pub fn unless_closed(printed: anyhow::Result<()>) -> Result<(), Failure> {
    match printed {
        Ok(()) => Ok(()),
        Err(error) => match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(ErrorKind::BrokenPipe) => Ok(()),
            Some(_) => Err(Failure::Failed(error.context("cannot write to standard output"))),
            None => Err(Failure::Failed(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn only_a_closed_reader_is_no_error() {
        let failed = |kind: ErrorKind| anyhow::Error::from(io::Error::from(kind));
        assert!(unless_closed(Ok(())).is_ok());
        assert!(unless_closed(Err(failed(ErrorKind::BrokenPipe))).is_ok());
        assert!(unless_closed(Err(failed(ErrorKind::BrokenPipe)).context("the report")).is_ok());
        let full = unless_closed(Err(failed(ErrorKind::StorageFull))).map_err(|failure| failure.to_string());
        assert_eq!(full, Err("cannot write to standard output: no storage space".to_owned()));
        let other = unless_closed(Err(anyhow::anyhow!("no answer"))).map_err(|failure| failure.to_string());
        assert_eq!(other, Err("no answer".to_owned()));
    }
}
