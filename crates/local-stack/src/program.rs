//! Runs the pipeline's programs as child processes with the caller's settings only.

use std::path::Path;
use std::process::Command;

/// Prefixes of variables to remove, so that settings of the calling shell do not apply.
const FOREIGN_VARIABLES: [&str; 7] =
    ["EVENT_GENERATOR_", "KAFKA_CONSUMER_", "AWS_", "PG", "DATABASE_URL", "RUST_LOG", "FAILPOINTS"];

/// Returns a command for a program, without the environment variables that would configure it.
#[must_use]
pub fn command(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os() {
        if FOREIGN_VARIABLES.iter().any(|foreign| variable.to_string_lossy().starts_with(foreign)) {
            command.env_remove(variable);
        }
    }
    command
}
