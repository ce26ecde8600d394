//! A panic in any thread, and a thread that hangs at the end.

use std::time::{Duration, Instant};

use crate::program::{Running, publish, run};
use crate::servers::place;

/// A thread that makes events, the thread that sends them with the Kafka client's callbacks, a task of the runtime.
#[test]
fn a_panic_in_any_thread_ends_the_process() {
    for failpoint in ["before-block", "after-ack", "after-put"] {
        let mut command = publish(&place(), &format!("--rate max --count 200k --run-id {failpoint}"));
        command.env("FAILPOINTS", format!("{failpoint}=panic"));
        let said = ["error: this is a bug", "--resume --run-id RUN", "panicked at"];
        run(command).expect_error(1, &said);
    }
}

#[test]
fn a_shutdown_that_hangs_is_ended() {
    let mut command = publish(&place(), "--rate max --count 200k");
    command.env("FAILPOINTS", "before-block=hang");
    let mut running = Running::start(command);
    running.wait_for("failpoint before-block");
    running.signal("-TERM");
    let asked = Instant::now();
    running.wait().expect_error(1, &["shutdown deadline exceeded", "Kafka and the lake"]);
    assert!(asked.elapsed() < Duration::from_millis(10_500), "{:?}", asked.elapsed());
}
