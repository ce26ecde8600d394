//! HTTP endpoints of a running program.
//!
//! A small server serves probes, metrics and the program's own pages. A client queries it.

mod address;
mod client;
mod server;

use std::sync::Arc;

pub use address::{HttpAddr, HttpError};
pub use client::get;
pub use server::{Answer, Answers, Server};

/// Returns the address of the endpoints: the value of `--http-addr`, or the program's default.
#[must_use]
pub fn address(flag: Option<&HttpAddr>, default: &str) -> HttpAddr {
    flag.map_or_else(|| HttpAddr::At(default.to_owned()), HttpAddr::clone)
}

/// Starts the endpoints at the address of `--http-addr`, or at the program's default.
///
/// Returns `None` if they are off. A program whose default address is already in use also runs without endpoints.
pub async fn start(
    flag: Option<&HttpAddr>,
    default: &str,
    answers: Arc<dyn Answers>,
) -> Result<Option<Server>, HttpError> {
    let HttpAddr::At(place) = address(flag, default) else { return Ok(None) };
    match Server::start(&place, answers).await {
        Ok(server) => {
            tracing::info!(address = %server.address(), "http listening");
            Ok(Some(server))
        }
        Err(error @ HttpError::Taken { .. }) if flag.is_none() => {
            tracing::warn!(%error, "http endpoints disabled");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
