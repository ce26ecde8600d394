//! Python with the packages of `tests/python/requirements.txt`.

#![allow(unreachable_pub, reason = "a part of a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/requirements.txt");

/// Returns the path of the interpreter. Creates the environment below `target/` if it is missing or outdated.
///
/// # Errors
/// Returns the failed step and a hint.
pub fn python() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lake-readers");
    let python = folder.join("bin/python3");
    let stamp = folder.join("installed.txt");
    let wanted = fs::read_to_string(REQUIREMENTS).map_err(|error| format!("{REQUIREMENTS}: {error}"))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let clear = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).output();
    succeeded("python3 -m venv", clear, "install Python 3 with venv (scripts/setup packages)")?;
    let install = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"])
        .args(["--requirement", REQUIREMENTS])
        .output();
    succeeded("pip install", install, "is PyPI, or the index in your pip settings, reachable?")?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}

fn succeeded(what: &str, run: std::io::Result<std::process::Output>, hint: &str) -> Result<(), String> {
    match run {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{what} failed: {}; {hint}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{what} did not start: {error}; {hint}")),
    }
}
