//! What must not break the generator, each fault with the proof that it happened, judged from the stores alone.
//!
//! `make test` runs the quick ones, `make test-faults` all of them.
#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    dead_code,
    reason = "a test stops at what it did not expect, and uses a part of what is shared"
)]

mod disk;
mod front;
mod judge;
mod kills;
mod lake_faults;
mod memory;
mod panics;
#[path = "../generator/program.rs"]
mod program;
mod seen;
#[path = "../generator/servers.rs"]
mod servers;
mod stops;
#[path = "../generator/stores.rs"]
mod stores;
