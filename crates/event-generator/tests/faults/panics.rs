//! A panic in any thread, and a thread that hangs during the shutdown.

use std::time::{Duration, Instant};

use crate::program::{Running, publish, run};
use crate::servers::target;

/// Covers a worker, the dispatcher (with the Kafka client's callbacks) and a task of the async runtime.
#[test]
fn a_panic_in_any_thread_ends_the_process() {
    for failpoint in ["before-block", "after-ack", "after-put"] {
        let mut command = publish(&target(), &format!("--rate max --count 200k --run-id {failpoint}"));
        command.env("FAILPOINTS", format!("{failpoint}=panic"));
        let said = ["error: this is a bug", "--resume --run-id RUN", "panicked at"];
        run(command).expect_error(1, &said);
    }
}

#[test]
fn a_hanging_shutdown_ends_at_the_deadline() {
    let mut command = publish(&target(), "--rate max --count 200k");
    command.env("FAILPOINTS", "before-block=hang");
    let mut running = Running::start(command);
    running.wait_for("failpoint before-block");
    running.signal("-TERM");
    let asked = Instant::now();
    running.wait().expect_error(1, &["shutdown deadline exceeded", "Kafka and the lake"]);
    assert!(asked.elapsed() < Duration::from_millis(10_500), "{:?}", asked.elapsed());
}
