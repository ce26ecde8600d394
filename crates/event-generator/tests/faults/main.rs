//! What must not break the generator, each fault with the proof that it happened, judged from the stores alone.
//!
//! `make test` runs the quick ones, `make test-faults` all of them.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test stops at what it did not expect, and uses a part of what is shared"
)]

mod judge;
mod kills;
#[path = "../generator/program.rs"]
mod program;
#[path = "../generator/servers.rs"]
mod servers;
#[path = "../generator/stores.rs"]
mod stores;
