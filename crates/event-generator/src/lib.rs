//! Makes product events and publishes them to Kafka and the lake.
//!
//! In the order of the flow: the command line ([`commands::run::args`]) becomes a [`plan`](commands::run::config): which run, how many events,
//! how fast. The [`pipeline`] makes events in [`block`](pipeline::block)s on worker threads ([`workers`](pipeline::workers)), hands them out when they are
//! due ([`dispatch`](pipeline::dispatch)) to Kafka ([`kafka`](sinks::kafka)) and tells the lake how far it may write
//! ([`lake`](sinks::lake)). How far it is stays on the disk ([`run_state`]), for whoever goes on with it after a kill
//! ([`resume`](run_state::resume)). What was made is counted on the way ([`observability`]) and becomes the run's
//! manifest and the summary; the endpoints show it to others meanwhile. What waits is bounded ([`memory`]).

pub mod commands;
pub mod count;
mod failpoint;
pub mod memory;
pub mod observability;
pub mod pipeline;
pub mod run_state;
pub mod shutdown;
pub mod sinks;
pub mod span;
pub mod validate;
