//! Verifies a run from the contents of the stores alone.
//!
//! The generator's manifest states which events the run has. The verifier trusts none of it: it reads the topic, the
//! Parquet files, the table, the dead letters and the offsets itself. It shares no code with the programs it verifies
//! except `rdkafka-ext`, which only calls librdkafka. It checks the invariants of the pipeline:
//!
//! - I1: each event of the manifest is in the stores of its kind, and the stores have no other events of the run;
//! - I2: Kafka and the raw lake have the same valid events;
//! - I3: each record is a row, a dead letter, a duplicate, expired or suppressed, and the group counted it as such;
//! - I4: no event is stored twice;
//! - I5: the content of an event is the same in all stores;
//! - I6: the group's offsets equal the end offsets of the partitions.
//!
//! The run tag and the index in its `UUIDv7` identify an event of the run; the headers `run` and `index` identify a
//! corrupt record. Other runs and other producers may share the topic and the table.
//!
//! The fields of an event come from the JSON schema in `docs`, so that an added field is compared too.
//!
//! [`Run`] is the parsed manifest. [`Stores`] and [`Terms`] configure a verification, [`verify()`] executes it, and
//! [`Report`] is its result. [`equation`] has the names of the checks.

mod canonical;
mod database;
pub mod equation;
mod equations;
mod error;
mod event;
mod evidence;
mod field;
mod lake;
mod ledger;
mod letters;
mod report;
mod run;
mod store;
mod sweep;
mod terms;
mod time;
mod topic;
mod trace;
mod verify;

#[cfg(test)]
mod fuzz;

pub use database::Counts;
pub use error::Error;
pub use report::{Check, EXAMPLES, Expected, Report};
pub use run::{KafkaClaim, LakeClaim, Run};
pub use store::{LakeAt, S3Access};
pub use terms::{Stores, Terms};
pub use verify::{count, fetch_run, verify, verify_async};
