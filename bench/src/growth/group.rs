//! Several consumers that share a topic.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::environment::Environment;
use crate::programs::committed;
use crate::run::Run;
use crate::usage;
use crate::watched::Watched;

const LOOK: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_mins(5);

/// Measures `members` consumers that read a topic of `records` records.
///
/// The time starts when every member has partitions and the group has committed its first records.
pub(crate) fn share(environment: &Environment, topic: &str, members: usize, records: u64) -> Run {
    static GROUPS: AtomicU32 = AtomicU32::new(0);
    let group = format!("growth-{}", GROUPS.fetch_add(1, Ordering::Relaxed));
    let names: Vec<String> = (0..members).map(|member| format!("{group}-{member}.log")).collect();
    let start = |name: &String| {
        let mut command = environment.consumer(&group, topic);
        environment.log_to_file(&mut command, name);
        Watched::start(&mut command)
    };
    let all: Vec<Watched> = names.iter().map(start).collect();
    let committed = || committed(&environment.stack, &group);
    let deadline = Instant::now() + TIMEOUT;
    let wait = |what: &dyn Fn() -> bool| {
        while !what() {
            assert!(Instant::now() < deadline, "{}", environment.log(&names[0]));
            thread::sleep(LOOK);
        }
    };
    let has_partitions = |name: &String| environment.log(name).contains("\"partitions assigned\"");
    wait(&|| committed() > 0 && names.iter().all(has_partitions));
    let seconds =
        || (all.iter().map(|member| usage::cpu_seconds(member.pid)).sum::<f64>(), environment.postgres_seconds());
    let (began, first, before) = (Instant::now(), committed(), seconds());
    wait(&|| committed() >= records);
    let (elapsed, after) = (began.elapsed(), seconds());
    let usages: Vec<_> = all.into_iter().map(Watched::stop).collect();
    Run {
        items: records - first,
        elapsed,
        cpu_seconds: after.0 - before.0,
        server_cpu_seconds: after.1 - before.1,
        peak_memory_kib: usages.iter().map(|usage| usage.peak_memory_kib).sum(),
    }
}
