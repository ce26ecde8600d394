//! What people do with dead letters once they are stored.
//!
//! - [`filter`]: which ones are meant
//! - [`stored`]: one of them as PostgreSQL has it, and as JSON
//! - [`list`], [`show`], [`export`]: looking; [`printable`] and [`places`] make bytes fit for a terminal
//! - [`replay`]: bringing in what is valid now
//! - [`discard`]: letting the bytes go

pub mod discard;
pub mod export;
pub mod filter;
pub mod list;
pub mod places;
pub mod printable;
pub mod replay;
pub mod show;
pub mod stored;

pub use filter::{Filter, State};
