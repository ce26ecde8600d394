//! A panic in any thread ends the process.
//!
//! Otherwise the other threads would wait forever for the work of the one that panicked, while the process looks alive from
//! outside.

use std::panic;
use std::thread;
use std::time::Duration;

use crate::exit_code;
use crate::output::note;

/// Time for the panic's message. Standard error may block, and a backtrace takes a while.
const TIME_TO_PRINT: Duration = Duration::from_secs(5);

/// Ends the process with exit code 1 at the first panic, after a line that ends with `safe` and the usual message. The
/// message comes last: its backtrace may take longer than there is time.
pub fn exit_on_panic(safe: &'static str) {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        // Without a thread for it, the limit is left out.
        let _ = thread::Builder::new().name("panic-exit".to_owned()).spawn(|| {
            thread::sleep(TIME_TO_PRINT);
            exit_code::now(1);
        });
        note(format_args!("error: this is a bug, please report it with the lines below; {safe}"));
        usual(panic);
        exit_code::now(1)
    }));
}
