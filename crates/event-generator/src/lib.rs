//! Makes product events and publishes them to Kafka and the lake.
//!
//! In the order of the flow: the command line ([`args`]) becomes a [`plan`]: which run, how many events,
//! how fast. The [`pipeline`] makes events in [`block`]s on worker threads ([`makers`]), hands them out when they are
//! due ([`schedule`], [`dispatch`]) to Kafka ([`kafka_sink`]) and tells the lake how far it may write
//! ([`lake_sink`]). What was made is counted on the way ([`tally`], [`lateness`]) and becomes the run's
//! [`manifest`] and the [`summary`].

pub mod args;
pub mod block;
pub mod count;
pub mod dispatch;
pub mod ending;
pub mod judge;
pub mod kafka_sink;
pub mod lake_sink;
pub mod lateness;
pub mod makers;
pub mod manifest;
pub mod pipeline;
pub mod plan;
pub mod run;
pub mod sample;
pub mod schedule;
pub mod span;
pub mod summary;
pub mod tally;
