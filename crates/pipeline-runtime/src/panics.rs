//! Ends the process on a panic in any thread.
//!
//! Otherwise the other threads would wait forever for the work of the panicked thread, while the process still appears
//! to be alive.

use std::panic;
use std::thread;
use std::time::Duration;

use crate::exit_code;
use crate::output::note;

/// Time limit for printing the panic message: stderr may block, and a backtrace takes time.
const TIME_TO_PRINT: Duration = Duration::from_secs(5);

/// Installs a panic hook that ends the process with exit code 1.
///
/// The hook prints a line that ends with `safe`, then the usual message. The usual message comes last because its
/// backtrace may exceed the time limit.
pub fn exit_on_panic(safe: &'static str) {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        // If the thread cannot be started, printing has no time limit.
        let _ = thread::Builder::new().name("panic-exit".to_owned()).spawn(|| {
            thread::sleep(TIME_TO_PRINT);
            exit_code::now(1);
        });
        note(format_args!("error: this is a bug; report it with the lines below; {safe}"));
        usual(panic);
        exit_code::now(1)
    }));
}
