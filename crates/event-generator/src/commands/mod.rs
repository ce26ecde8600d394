//! The subcommands.

pub mod describe;
pub mod run;
pub mod sample;
