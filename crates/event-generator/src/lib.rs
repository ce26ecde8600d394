//! Makes product events and publishes them to Kafka and the lake.
//!
//! In the order of the flow: the command line ([`args`]) becomes a [`plan`]: which run, how many events,
//! how fast. The [`pipeline`] makes events in [`block`]s on worker threads ([`makers`]), hands them out when they are
//! due ([`schedule`], [`dispatch`]) to Kafka ([`kafka_sink`]) and tells the lake how far it may write
//! ([`lake_sink`]). How far it is stays on the disk ([`state`]), for whoever goes on with it after a kill
//! ([`resume`]). What was made is counted on the way ([`tally`]) and becomes the run's
//! [`manifest`] and the [`summary`]; the [`site`] shows it to others meanwhile. What waits is bounded ([`memory`]).

pub mod args;
pub mod block;
pub mod describe;
pub mod dispatch;
mod failpoint;
pub mod judge;
pub mod kafka_sink;
pub mod lake_sink;
pub mod makers;
pub mod manifest;
pub mod memory;
pub mod metrics;
pub mod pipeline;
pub mod plan;
pub mod recall;
pub mod resume;
pub mod run;
pub mod sample;
pub mod schedule;
pub mod site;
pub mod state;
pub mod summary;
pub mod tally;
