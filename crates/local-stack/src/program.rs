//! The pipeline's programs as children of a tool: with the tool's settings only.

use std::path::Path;
use std::process::Command;

/// The tool's own settings count, not those of the shell that it is called from.
const FOREIGN_VARIABLES: [&str; 7] =
    ["EVENT_GENERATOR_", "KAFKA_CONSUMER_", "AWS_", "PG", "DATABASE_URL", "RUST_LOG", "FAILPOINTS"];

/// A program without the variables of the shell that it would heed.
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
