//! Metrics of every process.

use super::exposition::Exposition;
use super::metric::Metric;

/// Resident memory; only on Linux.
pub(super) const RESIDENT_MEMORY: Metric =
    Metric::gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
pub(super) const START_TIME: Metric =
    Metric::gauge("process_start_time_seconds", "Start time of the process in seconds since 1970.");

pub(super) fn write(text: &mut Exposition, started: f64) {
    if let Some(bytes) = resident_memory_bytes() {
        text.single(&RESIDENT_MEMORY, bytes);
    }
    text.single(&START_TIME, started);
}

/// Returns the resident memory of this process, or `None` if the system does not report it.
fn resident_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        assert!(resident_memory_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
