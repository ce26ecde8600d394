//! Deterministic workload model: defines every event of a run.
//!
//! An event is a pure function of the [`Settings`] of its run and its index. Any part of a run can therefore be
//! generated separately, by any number of threads, on any machine and after any restart. The crate reads no clock, file
//! or socket, and no floating-point number influences an event.
//!
//! In the order of the flow:
//!
//! - [`Settings`] define a run ([`World`], [`EventRate`], [`Faults`]) and determine its [`RunTag`].
//! - [`Source::new`] creates the users and products once.
//! - [`Source::make`] returns event i, with its [`Fault`] if it has one.
//! - [`decode_event_id`] extracts the run tag and the index from an event ID.

mod alias;
mod behaviour;
mod corruption;
mod decimal;
mod describe;
mod effect;
mod event_id;
mod fault;
mod invalid_kind;
mod keyed_rng;
mod padding;
mod population;
mod rate;
mod session;
mod settings;
mod shape;
mod share;
mod source;
mod world;

#[cfg(test)]
mod fuzz;

pub use corruption::Corruption;
pub use describe::{Description, Group, TypeCounts};
pub use effect::{Effect, EffectError, Effects, ExperimentEffect};
pub use event_id::{MAX_INDEX, ParseRunTagError, RunTag, decode_event_id, event_id};
pub use fault::{BURST_EVENTS, FAR_MOST, Fault, FaultKind, FaultShare, Faults, FaultsError};
pub use invalid_kind::InvalidKind;
pub use rate::{EventRate, ParseRateError};
pub use settings::{MAX_PADDING, Settings, SettingsError};
pub use shape::{DAILY, ParseShapeError, Shape};
pub use share::{ParseShareError, Share};
pub use source::{Generated, Source};
pub use world::{DEFAULT_WORLD_SEED, MAX_PEOPLE_OR_PRODUCTS, World, WorldError};
