//! Resource usage of processes, from `/proc`.

use std::fs;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use local_stack::Stack;

/// Clock ticks per second: always 100 in Linux's user-space interface (proc(5), `USER_HZ`).
const TICKS: f64 = 100.0;

/// Resources used by a process over its lifetime.
pub(crate) struct Usage {
    pub(crate) status: ExitStatus,
    pub(crate) elapsed: Duration,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_memory_kib: u64,
}

/// Waits for a child to exit. Polls its peak memory, and reads its CPU time while it is a zombie, before it is reaped.
pub(crate) fn watch(child: &mut Child, began: Instant) -> Usage {
    let pid = child.id();
    let mut peak_memory_kib = 0;
    loop {
        peak_memory_kib = peak_memory(pid).unwrap_or(peak_memory_kib);
        let ended = stat(pid).is_some_and(|stat| stat.state == "Z");
        if ended {
            let elapsed = began.elapsed();
            let cpu_seconds = stat(pid).map_or(0.0, |stat| stat.cpu_seconds);
            return Usage { status: child.wait().unwrap(), elapsed, cpu_seconds, peak_memory_kib };
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the CPU time of a process and its children, including children that they have already reaped, in seconds.
fn cpu_seconds_of_family(pid: u32) -> f64 {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let family = processes.filter_map(|one| stat(one).filter(|stat| one == pid || stat.parent == pid));
    family.map(|stat| stat.cpu_seconds_with_children).sum()
}

/// Returns the CPU time of PostgreSQL with all its sessions, in seconds.
pub(crate) fn postgres_seconds(stack: &Stack) -> f64 {
    cpu_seconds_of_family(stack.postgres.pid().expect("PostgreSQL runs"))
}

/// Returns the CPU time of a process without its children, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |stat| stat.cpu_seconds)
}

struct Stat {
    parent: u32,
    state: String,
    cpu_seconds: f64,
    cpu_seconds_with_children: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, tail) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = tail.split(' ').collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / TICKS;
    let own = ticks(11) + ticks(12);
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        state: (*fields.first()?).to_owned(),
        cpu_seconds: own,
        cpu_seconds_with_children: own + ticks(13) + ticks(14),
    })
}

fn peak_memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
