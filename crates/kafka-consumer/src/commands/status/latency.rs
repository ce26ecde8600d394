//! Asks a running consumer for its latency.

use std::time::Duration;

use pipeline_runtime::http::{self, HttpAddr};
use serde::{Deserialize, Serialize};

use crate::kafka::group_topic::GroupTopic;
use crate::observability::history::Quantiles;

const TIMEOUT: Duration = Duration::from_secs(2);

/// Latency over the last minute in seconds, as measured by one running consumer of the group.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Time from a record's timestamp to its commit.
    pub(crate) ingest_latency: Quantiles,
    /// Time from an event's timestamp to its commit.
    pub(crate) event_latency: Quantiles,
}

/// Part of the running consumer's state.
#[derive(Deserialize)]
struct State {
    group: String,
    topic: String,
    #[serde(flatten)]
    latency: Latency,
}

impl Latency {
    /// Asks the consumer at an address. `None` if no consumer answers, or if it belongs to another group or topic.
    pub(crate) async fn ask(http: &HttpAddr, group_topic: &GroupTopic) -> Option<Self> {
        let HttpAddr::At(address) = http else { return None };
        // The page's history is not needed: `since` excludes all of it.
        let path = format!("/state?since={}", i64::MAX);
        let answer = http::get(address, &path, TIMEOUT)
            .await
            .inspect_err(|error| tracing::debug!(%error, "latency unavailable"));
        let (_, body) = answer.ok().filter(|(status, _)| *status == 200)?;
        let state: State = serde_json::from_str(&body).ok()?;
        (state.group == group_topic.group && state.topic == group_topic.topic).then_some(state.latency)
    }
}
