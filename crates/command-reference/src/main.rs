//! `command-reference`: writes docs/configuration.md, or man pages.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Write docs/configuration.md and man pages from the definitions of the command lines")]
struct Cli {
    #[command(subcommand)]
    target: Target,
}

#[derive(Subcommand)]
enum Target {
    /// Write the page of all commands and flags
    Markdown {
        /// Path of the page
        #[arg(default_value = "docs/configuration.md")]
        file: PathBuf,
    },
    /// Write one man page per command
    Man {
        /// Folder for the man pages; created if needed
        #[arg(default_value = "target/man")]
        folder: PathBuf,
    },
}

fn main() -> Result<()> {
    match Cli::parse().target {
        Target::Markdown { file } => std::fs::write(&file, command_reference::configuration_page())
            .with_context(|| format!("cannot write {}", file.display())),
        Target::Man { folder } => command_reference::write_man_pages(&folder),
    }
}
