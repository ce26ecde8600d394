//! How a running program is seen from outside: a small HTTP server for probes, metrics and whatever else the program
//! shows, and the client that asks it.

mod address;
mod client;
mod server;

pub use address::{HttpAddr, HttpError};
pub use client::get;
pub use server::{Answer, Answers, Server};
