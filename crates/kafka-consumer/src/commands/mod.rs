//! One module per subcommand: flags, execution and output.

pub(crate) mod args;
pub(crate) mod check;
pub(crate) mod dead_letters;
pub(crate) mod distribute;
pub(crate) mod doctor;
pub(crate) mod migrate;
pub(crate) mod offsets;
mod printable;
pub(crate) mod rebuild;
pub(crate) mod reconcile;
pub(crate) mod refine;
pub(crate) mod retention;
pub(crate) mod run;
pub(crate) mod status;
mod summary;
