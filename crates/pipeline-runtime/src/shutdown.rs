//! The end that a person or a supervisor asks for.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that SIGINT or SIGTERM cancels: finish what is in hand and end. A second signal ends the process at once,
/// with the exit code that a shell gives to a process that the signal killed.
///
/// Must be called inside a Tokio runtime.
pub fn on_signal() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let signalled = token.clone();
    tokio::spawn(async move {
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
                _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            };
            if signalled.is_cancelled() {
                std::process::exit(128 + number);
            }
            tracing::info!(signal = number, "ending; a second signal ends at once");
            signalled.cancel();
        }
    });
    Ok(token)
}
