//! Standard output and standard error whose readers may be gone.
//!
//! `println!` and its relatives panic then. A closed reader of standard output is no error; any other failed write is.
//! Errors of standard error are ignored: they cannot be reported.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use crate::exit_code::Failure;

/// Prints a text and a line feed.
pub fn line(text: impl Display) -> Result<(), Failure> {
    print(format_args!("{text}\n"))
}

/// Prints a text as it is.
pub fn print(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    unless_closed(write!(out, "{text}").and_then(|()| out.flush()).map_err(Into::into))
}

/// Prints the configuration of `--print-config`: one JSON object, in the same form for both programs. Durations and
/// byte sizes are texts in the units of the flags.
pub fn config(config: &serde_json::Value) -> Result<(), Failure> {
    line(format_args!("{config:#}"))
}

/// Writes a line to standard error.
pub fn note(text: impl Display) {
    // In one piece, so that lines of several threads do not mix.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Returns success if the reader of our output has closed it, and names the output in any other error of writing.
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
