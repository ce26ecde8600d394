//! Counters, health and metrics of a running consumer, and the HTTP endpoints that serve them.

pub(crate) mod counters;
pub(crate) mod endpoints;
pub(crate) mod group_totals;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod lag;
mod metrics;
mod page;
pub(crate) mod record_counts;
pub(crate) mod timing;
