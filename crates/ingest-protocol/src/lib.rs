//! Decisions of the sink as state machines.
//!
//! The machines neither read a clock nor perform I/O. Each takes an input, changes its state and returns effects, which
//! `kafka-consumer` executes. No machine runs for each record.
//!
//! ```text
//!   group ──► Assignment ──► own, release ──► Ownership ──► Attempts ──► transaction ──► PostgreSQL
//!                 ▲  ▲                                          │                            │
//!                 │  └───────────── moved, committed ◄──────────┴─────── settlement ◄────────┤
//!                 └───────────────── positions ◄──────────── continuity ◄────────────────────┘
//! ```
//!
//! `tests/model` explores the states of two consumers that run these machines against a model of Kafka and PostgreSQL.
//! `tests/conformance` of `kafka-consumer` executes traces of that model in a real PostgreSQL.

pub mod assignment;
pub mod attempts;
pub mod continuity;
pub mod mutants;
pub mod ownership;
pub mod position;
pub mod settlement;
