//! Which event is number i.
//!
//! An event is a pure function of the [`Settings`] of its run and of its index, so any part of a
//! run can be made alone, by any number of threads, on any machine, after any restart. Nothing in
//! here reads a clock, a file or a socket, and no floating point number decides anything.
//!
//! In the order of the flow: [`Settings`] say what a run is ([`World`], [`EventRate`], [`Faults`])
//! and give it its [`RunTag`]; [`Source::new`] peoples the world once; [`Source::make`] gives event
//! i, sound or with the [`Fault`] that falls on it; [`decode_event_id`] reads run and index back from an
//! event id.

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
pub use world::{MAX_PEOPLE_OR_PRODUCTS, World, WorldError};
