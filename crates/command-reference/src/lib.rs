//! The reference of the command lines: docs/configuration.md and man pages, both generated from clap's definitions.

mod markdown;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;

/// Returns docs/configuration.md: every command and flag of the two programs.
#[must_use]
pub fn configuration_page() -> String {
    markdown::page(include_str!("introduction.md"), programs())
}

/// Writes one man page per command, such as `kafka-consumer-run.1`, into a folder and creates the folder if needed.
pub fn write_man_pages(folder: &Path) -> Result<()> {
    let create = || format!("cannot create the folder {}", folder.display());
    fs::create_dir_all(folder).with_context(create)?;
    for program in programs() {
        let name = program.get_name().to_owned();
        clap_mangen::generate_to(program, folder)
            .with_context(|| format!("cannot write the man pages of {name} to {}", folder.display()))?;
    }
    Ok(())
}

fn programs() -> [Command; 2] {
    [event_generator::cli::command(), kafka_consumer::cli::command()]
}
