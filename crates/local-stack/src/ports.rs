//! Ports on 127.0.0.1: finds free ones and the process that listens on one.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::StackError;
use crate::process::{self, Holder};

/// Start of a range below the kernel's ephemeral ports (32768 and up), so that no outgoing connection takes one.
const FIRST: u16 = 15_000;
const LAST: u16 = 31_999;

/// Returns true if a server could bind the port now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Returns a port that satisfies `fits` and is currently free.
///
/// Another process may still bind it first, so the caller retries with another port.
pub(crate) fn free_where(fits: impl Fn(u16) -> bool) -> Result<u16, StackError> {
    static TURN: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(LAST - FIRST) + 1;
    // Processes start at different offsets, and a process does not return the same port twice in a row.
    let start = std::process::id().wrapping_mul(7_919);
    for _ in 0..span {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let offset = u16::try_from(start.wrapping_add(turn) % span).unwrap_or_default();
        let port = FIRST + offset;
        if fits(port) && is_free(port) {
            return Ok(port);
        }
    }
    Err(StackError::NoFreePort { first: FIRST, last: LAST })
}

/// Returns a currently free port below the kernel's ephemeral range.
pub fn free() -> Result<u16, StackError> {
    free_where(|_| true)
}

/// Returns true if process `pid` listens on `port`.
pub(crate) fn listens(pid: u32, port: u16) -> bool {
    let sockets = listening_sockets(port);
    !sockets.is_empty() && has_one(pid, &sockets)
}

/// Returns the process that listens on `port`, if any.
pub(crate) fn holder(port: u16) -> Option<Holder> {
    let sockets = listening_sockets(port);
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pid =
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid| has_one(*pid, &sockets));
    Some(Holder { pid, command: pid.and_then(process::command_line) })
}

fn has_one(pid: u32, sockets: &[String]) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}

/// Returns the sockets that listen on a port, in the notation of /proc/PID/fd.
fn listening_sockets(port: u16) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(|line| listening_socket(line, port)).collect()
}

/// Parses a line of /proc/net/tcp: `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`.
///
/// State 0A is LISTEN.
fn listening_socket(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == "0A" && u16::from_str_radix(local_port, 16) == Ok(port);
    listens.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        assert!(listens(std::process::id(), port));
        let holder = holder(port).unwrap();
        assert_eq!(holder.pid, Some(std::process::id()));
        assert!(holder.command.unwrap().contains("local_stack"));
    }

    #[test]
    fn a_free_port_has_no_holder() {
        let port = free().unwrap();
        assert!(is_free(port));
        assert_eq!(holder(port), None);
        assert!(!listens(std::process::id(), port));
        assert_ne!(free().unwrap(), port, "the same one again would be a race with ourselves");
    }
}
