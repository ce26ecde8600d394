//! Fuzz targets: tests of a property that holds for any bytes.
//!
//! ```text
//! cargo test  ──► corpus, then random changes to it, for FUZZ_SECONDS per target
//! make fuzz   ──► libFuzzer, which keeps the inputs that reach new code
//! ```
//!
//! A target is a test in a module `fuzz` of the crate that it covers, so that it reaches private functions. It has the
//! name of its folder in `corpus` and calls [`check`]. To reproduce a finding, copy the input there and run the test.

#[cfg(not(fuzzing))]
mod changes;
#[cfg(fuzzing)]
mod libfuzzer;
#[cfg(not(fuzzing))]
mod run;

use std::fmt::{Debug, Display};
use std::str::FromStr;

#[cfg(fuzzing)]
pub use libfuzzer::check;
#[cfg(not(fuzzing))]
pub use run::check;

/// Checks that the text of a value parses to the same value. Does nothing if `text` is not a value.
///
/// # Panics
/// If the text of the value is not a value, or another one.
pub fn reads_back<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert_eq!(printed.parse().ok(), Some(value), "{text:?} is printed as {printed:?}");
    }
}
