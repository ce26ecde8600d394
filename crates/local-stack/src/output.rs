//! Output of the commands: addresses, the status table, the servers' logs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use local_stack::Name;
use local_stack::defaults::{
    BUCKET, DATABASE, DATABASE_PASSWORD, DATABASE_USER, S3_ACCESS_KEY, S3_REGION, S3_SECRET_KEY,
};
use local_stack::resident::{Resident, State, Status};

use crate::FOLLOW_PAUSE;

/// Prints the addresses of the three servers after `up`, within 80 columns.
pub(crate) fn addresses(resident: &Resident, took: Duration) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Local stack ready after {}", seconds(took))?;
    for status in resident.status()? {
        writeln!(out, "  {:<9} {}", status.name.as_str(), address(&status))?;
    }
    writeln!(out, "Data and logs: {}\nStop it with 'cargo run -p local-stack -- down'", short(resident.data()))?;
    Ok(())
}

fn address(status: &Status) -> String {
    let port = status.port;
    match status.name {
        Name::Kafka => format!("127.0.0.1:{port}"),
        Name::Postgres => format!("postgres://{DATABASE_USER}:{DATABASE_PASSWORD}@127.0.0.1:{port}/{DATABASE}"),
        Name::S3 => format!(
            "http://127.0.0.1:{port}, bucket {BUCKET}\n            \
             access key {S3_ACCESS_KEY}, secret {S3_SECRET_KEY}, region {S3_REGION}"
        ),
    }
}

/// Prints the table of `status`.
pub(crate) fn table(all: &[Status]) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(["server", "state", "pid", "address", "uptime"]);
    for status in all {
        let state = match &status.state {
            State::Running => "running".to_owned(),
            State::NotAnswering(_) => "not responding".to_owned(),
            State::Died => "died (see the log)".to_owned(),
            State::Stopped => "stopped".to_owned(),
        };
        table.add_row([
            status.name.as_str().to_owned(),
            state,
            status.pid.map_or("-".to_owned(), |pid| pid.to_string()),
            format!("127.0.0.1:{}", status.port),
            uptime(status.since),
        ]);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{table}")?;
    for status in all {
        let name = status.name.as_str();
        if let State::NotAnswering(cause) = &status.state {
            writeln!(out, "{name} is not responding: {cause}")?;
        }
        writeln!(out, "{name:<9} data: {}, log: {}", short(&status.folder), short(&status.log))?;
    }
    Ok(())
}

/// Returns a path relative to the current directory if it lies below it.
pub(crate) fn short(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

fn uptime(since: Option<SystemTime>) -> String {
    let Some(elapsed) = since.and_then(|since| since.elapsed().ok()) else { return "-".to_owned() };
    let seconds = elapsed.as_secs();
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Prints the last lines of the logs, and with `follow` also new lines until interrupted. A missing log counts as
/// empty.
pub(crate) fn logs(resident: &Resident, names: &[Name], lines: usize, follow: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let mut logs: Vec<Log> = names.iter().map(|name| Log::new(*name, resident, names.len() > 1)).collect();
    for log in &mut logs {
        let all = log.new_lines()?;
        for line in &all[all.len().saturating_sub(lines)..] {
            writeln!(out, "{}{line}", log.prefix)?;
        }
    }
    if !follow {
        anyhow::ensure!(
            logs.iter().any(|log| log.path.exists()),
            "no logs in {}; the servers write them after 'local-stack up'",
            resident.data().display()
        );
        return Ok(());
    }
    loop {
        for log in &mut logs {
            for line in log.new_lines()? {
                writeln!(out, "{}{line}", log.prefix)?;
            }
        }
        thread::sleep(FOLLOW_PAUSE);
    }
}

/// A log file that is read while it grows.
struct Log {
    path: std::path::PathBuf,
    prefix: String,
    /// Number of bytes read so far; complete lines only.
    position: u64,
}

impl Log {
    fn new(name: Name, resident: &Resident, several: bool) -> Self {
        let prefix = if several { format!("{:<8} | ", name.as_str()) } else { String::new() };
        Self { path: resident.log(name), prefix, position: 0 }
    }

    fn new_lines(&mut self) -> io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        if file.metadata()?.len() < self.position {
            // The file was recreated by `down --purge` and `up`.
            self.position = 0;
        }
        file.seek(SeekFrom::Start(self.position))?;
        let mut reader = BufReader::new(file);
        let mut lines = Vec::new();
        let mut raw = Vec::new();
        while reader.read_until(b'\n', &mut raw)? > 0 && raw.ends_with(b"\n") {
            self.position += raw.len() as u64;
            lines.push(String::from_utf8_lossy(&raw).trim_end().to_owned());
            raw.clear();
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_have_two_units() {
        let of = |seconds| uptime(SystemTime::now().checked_sub(Duration::from_secs(seconds)));
        assert_eq!([of(5), of(65), of(3_700), of(90_000)], ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!(uptime(None), "-");
    }
}
