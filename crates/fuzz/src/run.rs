//! Runs a target as a test, without libFuzzer.

use std::hash::{BuildHasher, RandomState};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use crate::changes::Changes;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");

/// Calls the property with each input of the corpus, then with changed ones until the time is over. The seed is fixed,
/// so that a failure comes from a change of the code; `FUZZ_SEED` selects another one.
///
/// # Panics
/// If the property panics for an input, which is kept in a file, or if the corpus is missing.
pub fn check(name: &str, property: impl Fn(&[u8]) + Send + Sync + 'static) {
    let corpus = read(&Path::new(CORPUS).join(name));
    for input in &corpus {
        call(name, input, &property);
    }
    let setting = |name, default| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let end = Instant::now() + Duration::from_secs(setting("FUZZ_SECONDS", 1));
    let mut changes = Changes::new(&corpus, setting("FUZZ_SEED", 7));
    while Instant::now() < end {
        call(name, &changes.next_input(), &property);
    }
}

#[expect(clippy::expect_used, reason = "only tests call it")]
fn read(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a target has a corpus");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable corpus").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a readable corpus")).collect()
}

#[expect(clippy::print_stderr, reason = "part of the output of a failed test")]
fn call(name: &str, input: &[u8], property: &impl Fn(&[u8])) {
    if let Err(failure) = panic::catch_unwind(AssertUnwindSafe(|| property(input))) {
        let file = env::temp_dir().join(format!("fuzz-{name}-{:016x}", RandomState::new().hash_one(input)));
        match fs::write(&file, input) {
            Ok(()) => eprintln!("the property fails for {}; copy it to {CORPUS}/{name}", file.display()),
            Err(_) => eprintln!("the property fails for b\"{}\"", input.escape_ascii()),
        }
        panic::resume_unwind(failure);
    }
}
