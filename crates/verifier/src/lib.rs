//! Verifies a run: says from the stores alone what landed.
//!
//! The generator writes a manifest of what it believes to have made. The verifier believes none of it: it scans the
//! topic, reads the Parquet files, the table, the dead letters and the offsets by itself, shares no code with the
//! programs it verifies, and weighs the equations that the pipeline promises:
//!
//! - I1: every event of the manifest is where its kind belongs, and nothing of the run is anywhere else;
//! - I2: Kafka and the raw lake hold the same valid events;
//! - I3: every record is a row, a dead letter, a repeat, expired or suppressed, and the group has counted it as that;
//! - I4: nothing is there twice;
//! - I5: the content of an event is the same everywhere;
//! - I6: the group's offsets stand at the ends of the partitions.
//!
//! An event of the run is known by the run tag and the index in its `UUIDv7`, a record that was sent broken on purpose
//! by its headers `run` and `index`. Other runs and other producers may share topic and table.
//!
//! What the fields of an event are is read from the JSON schema in docs, so that an added field is compared too.
//!
//! In the order of the flow: [`Run`] is the manifest's claim; [`Stores`] and [`Terms`] say where to look and what for;
//! [`verify()`] gathers and weighs; [`Report`] is what came out, and [`equation`] names its rows.

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
mod topic;
mod trace;
mod verify;

pub use database::Counts;
pub use error::Error;
pub use report::{Check, EXAMPLES, Expected, Report};
pub use run::{KafkaClaim, LakeClaim, Run};
pub use store::{LakeAt, S3Access};
pub use terms::{Stores, Terms};
pub use verify::{count, fetch_run, verify, verify_async};
