//! Places where a test makes this process die or stand still. Without the feature `failpoints` there are none.
//!
//! The variable `FAILPOINTS` says where and how: `after-copy=kill@3,before-commit=stop` kills the process when it passes
//! `after-copy` for the third time, and stops it (SIGSTOP) when it passes `before-commit` for the first time.

/// The day's partitions are there, the transaction has not begun.
pub(crate) const AFTER_PARTITION: &str = "after-partition";
/// The offsets are moved.
pub(crate) const AFTER_CAS: &str = "after-cas";
/// Rows were sent, and PostgreSQL waits for more of them.
pub(crate) const DURING_COPY: &str = "during-copy";
/// The rows are in.
pub(crate) const AFTER_COPY: &str = "after-copy";
/// All is in.
pub(crate) const BEFORE_COMMIT: &str = "before-commit";
/// The transaction is in, and nobody was told.
pub(crate) const AFTER_COMMIT: &str = "after-commit";

#[cfg(not(feature = "failpoints"))]
pub(crate) fn pass(_: &'static str) {}

#[cfg(feature = "failpoints")]
pub(crate) use armed::pass;

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::BTreeMap;
    use std::process::Command;
    use std::sync::{LazyLock, Mutex, PoisonError};

    /// By place: the signal, and how many passes until then.
    static ARMED: LazyLock<Mutex<BTreeMap<String, (String, u32)>>> = LazyLock::new(|| {
        let text = std::env::var("FAILPOINTS").unwrap_or_default();
        Mutex::new(text.split(',').filter_map(parse).collect())
    });

    fn parse(point: &str) -> Option<(String, (String, u32))> {
        let (place, action) = point.split_once('=')?;
        let (signal, nth) = action.split_once('@').unwrap_or((action, "1"));
        Some((place.to_owned(), (signal.to_uppercase(), nth.parse().ok()?)))
    }

    pub(crate) fn pass(place: &'static str) {
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((signal, left)) = armed.get_mut(place) else { return };
        *left -= 1;
        if *left > 0 {
            return;
        }
        let flag = format!("-{signal}");
        armed.remove(place);
        eprintln!("failpoint {place}: {flag}");
        let sent = Command::new("kill").args([flag, std::process::id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "failpoint {place}: the signal was not sent");
        // A signal that kills may need a moment; the work must not go on meanwhile.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}
