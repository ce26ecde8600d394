//! The end that a person or a supervisor asks for.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio_util::sync::CancellationToken;

use crate::exit;

/// Time from the signal to the end of the process, even if something hangs. All other limits are shorter; supervisors
/// wait for ten seconds.
const DEADLINE: Duration = Duration::from_millis(9_900);
/// Part of it for the error message, in case standard error blocks.
const TIME_TO_PRINT: Duration = Duration::from_millis(200);
/// Interval of the checks for a second signal and for the deadline.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Part of the shutdown that the process waits for.
static WAITING_FOR: Mutex<&str> = Mutex::new("nothing yet");

/// Names what the shutdown waits for from now on, for the message of a missed deadline.
pub fn waiting_for(part: &'static str) {
    *WAITING_FOR.lock().unwrap_or_else(PoisonError::into_inner) = part;
}

/// Returns a token that SIGINT or SIGTERM cancels: finish the work in flight and end.
///
/// A second signal ends the process at once, with the exit code that shells use for a process killed by that signal. A
/// process that still runs at the deadline ends with exit code 1. A separate thread does both, so no other thread can
/// delay them.
pub fn on_signal() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let signalled = token.clone();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        let deadline = Instant::now() + DEADLINE.saturating_sub(TIME_TO_PRINT);
        signalled.cancel();
        log(move || tracing::info!(signal, "ending; a second signal ends at once"));
        while Instant::now() < deadline {
            thread::sleep(CHECK_INTERVAL);
            if let Some(signal) = signals.pending().next() {
                exit::now(128 + u8::try_from(signal).unwrap_or(0));
            }
        }
        log(|| {
            let waited_for = *WAITING_FOR.lock().unwrap_or_else(PoisonError::into_inner);
            tracing::error!(waited_for, "shutdown deadline exceeded: the process ends without waiting further");
        });
        thread::sleep(TIME_TO_PRINT);
        exit::now(1)
    })?;
    Ok(token)
}

/// Logs on another thread, since standard error may block.
fn log(line: impl FnOnce() + Send + 'static) {
    // Without a thread there is no line.
    let _ = thread::Builder::new().name("shutdown-log".to_owned()).spawn(line);
}
