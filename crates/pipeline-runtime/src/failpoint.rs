//! Failpoints, at which a test makes the process die, stop, panic or hang. They require the feature `failpoints`.
//!
//! The variable `FAILPOINTS` arms them: `after-copy=kill@3,before-commit=stop` kills the process when it passes
//! `after-copy` for the third time, and stops it (SIGSTOP) when it passes `before-commit` for the first time. `panic`
//! panics in the passing thread, `hang` blocks it forever. Each program defines the names of its failpoints.

/// Does nothing without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn pass(_: &'static str) {}

#[cfg(feature = "failpoints")]
pub use armed::pass;

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::BTreeMap;
    use std::process::Command;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    use crate::output::note;

    /// Signal and remaining passes, by failpoint.
    type Armed = BTreeMap<String, (String, u32)>;

    /// `None` if the variable is not set, so that unarmed passes are cheap: some happen a million times per second.
    static ARMED: LazyLock<Option<Mutex<Armed>>> = LazyLock::new(|| {
        let text = std::env::var("FAILPOINTS").ok()?;
        Some(Mutex::new(text.split(',').filter_map(parse).collect()))
    });

    fn parse(point: &str) -> Option<(String, (String, u32))> {
        let (place, action) = point.split_once('=')?;
        let (signal, nth) = action.split_once('@').unwrap_or((action, "1"));
        Some((place.to_owned(), (signal.to_uppercase(), nth.parse().ok()?)))
    }

    /// Passes a failpoint. Executes its action if it is armed and this is the configured pass.
    ///
    /// # Panics
    /// If the action is `panic`, or the signal cannot be sent: a test must not continue without its fault.
    pub fn pass(place: &'static str) {
        let Some(armed) = &*ARMED else { return };
        let mut guard = armed.lock().unwrap_or_else(PoisonError::into_inner);
        let armed = &mut *guard;
        let Some((signal, left)) = armed.get_mut(place) else { return };
        *left -= 1;
        if *left > 0 {
            return;
        }
        let flag = format!("-{signal}");
        armed.remove(place);
        drop(guard);
        note(format_args!("failpoint {place}: {flag}"));
        match flag.as_str() {
            "-PANIC" => panic!("failpoint {place}"),
            "-HANG" => loop {
                std::thread::sleep(Duration::from_mins(1));
            },
            _ => {}
        }
        let sent = Command::new("kill").args([flag, std::process::id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "failpoint {place}: the signal was not sent");
        // The delivery of a fatal signal may take a moment. The thread must not continue until then.
        std::thread::sleep(Duration::from_millis(200));
    }
}
