//! Events to look at.

use std::io::{self, Write};

use pipeline_runtime::exit::Failure;
use pipeline_runtime::output::unless_closed;
use workload::Source;

/// Writes the values of the first events, one a line.
pub fn print(source: &Source, number: u64, out: impl Write) -> Result<(), Failure> {
    unless_closed(write(source, number, io::BufWriter::new(out)).map_err(Into::into))
}

fn write(source: &Source, number: u64, mut out: impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    for index in 0..number {
        line.clear();
        source.make(index).write_value(&mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use event_model::{Window, parse};

    use super::*;
    use crate::pipeline::block_counts::tests::source;

    #[test]
    fn one_valid_event_a_line() {
        let mut out = Vec::new();
        print(&source(&[]), 20, &mut out).unwrap();
        let lines: Vec<&[u8]> = out.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 20);
        for line in lines {
            parse(Some(line.trim_ascii_end()), None, Window::default()).unwrap();
        }
    }
}
