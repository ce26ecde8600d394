//! The subcommands, each with its flags, its work and its output.

pub(crate) mod describe;
mod event_args;
pub(crate) mod healthcheck;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod sample;
