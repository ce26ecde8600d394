//! Checks this machine: memory and clock.

use std::fs;

use crate::commands::doctor::config::DoctorConfig;
use crate::commands::doctor::finding::{Finding, Findings};

/// Maximum difference between the clocks. A larger one distorts the measured latencies.
const MOST_SKEW_SECONDS: f64 = 2.0;

pub(crate) fn examine(settings: &DoctorConfig, clock_ahead: Option<f64>) -> Vec<Finding> {
    let mut lines = Findings::of("machine");
    let (limit, free) = (settings.memory.limit().to_usize(), available());
    match free {
        Some(free) if free < limit => lines.warn(
            "available memory",
            format!("{} MiB, a run uses up to {} MiB", free >> 20, limit >> 20),
            "lower --memory-limit, or add memory",
        ),
        Some(free) => {
            lines.good("available memory", format!("{} MiB, a run uses up to {} MiB", free >> 20, limit >> 20));
        }
        None => {}
    }
    if let Some(ahead) = clock_ahead {
        let found = format!(
            "PostgreSQL's is {:.1} s {} this machine's",
            ahead.abs(),
            if ahead < 0.0 { "behind" } else { "ahead of" }
        );
        if ahead.abs() > MOST_SKEW_SECONDS {
            lines.warn("clock", found, "synchronize both clocks with NTP, or latencies are wrong");
        } else {
            lines.good("clock", found);
        }
    }
    lines.lines
}

/// Returns the number of bytes available to this process: the minimum of the machine's and the control group's memory.
fn available() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().trim_end_matches(" kB").parse::<usize>().ok()? << 10;
    Some(group_available().map_or(machine, |group| machine.min(group)))
}

/// Returns the number of bytes available in the root control group (version 2), which is a container's own.
fn group_available() -> Option<usize> {
    let number = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?.trim().parse::<usize>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}
