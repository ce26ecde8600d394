//! Kafka to PostgreSQL, effectively once.
//!
//! [`pipeline`] shows the way of a record: the [`source`] reads and judges it and puts it into a [`batch`], a
//! [`writer`] brings the batch in together with the new [`offsets`], in one transaction. What is no valid event
//! becomes a [`dead_letter`] in the same transaction. What people do with those afterwards is in [`dead_letters`];
//! [`retention`] lets old days go; [`rebuild`] fills the table from the lake; [`refine`] brings the features up to date.
//! [`reconcile`] accounts for every event of a run, [`checks`] look whether the data is as it should be, [`doctor`] tries
//! what all of this needs. What a run does is seen from outside through its [`site`].

pub mod ages;
pub mod arranger;
pub mod batch;
pub mod checks;
pub mod cli;
pub mod counters;
pub mod dead_letter;
pub mod dead_letters;
pub mod doctor;
mod failpoint;
pub mod fingerprint;
pub mod health;
pub mod kafka_client;
pub mod key_order;
pub mod lag;
pub mod memory;
pub mod metrics;
pub mod migrations;
pub mod offsets;
pub mod page;
pub mod pipeline;
pub mod postgres;
pub mod rebuild;
pub mod recent;
pub mod recent_ids;
pub mod reconcile;
pub mod refine;
pub mod retention;
pub mod rows;
pub mod site;
pub mod source;
pub mod status;
pub mod writer;
