//! The latency that a running consumer tells.

use std::time::Duration;

use pipeline_runtime::http::{self, HttpAddr};
use serde::{Deserialize, Serialize};

use crate::kafka::group_topic::GroupTopic;
use crate::observability::history::Quantiles;

const PATIENCE: Duration = Duration::from_secs(2);

/// The last minute's latency in seconds, of one running consumer of the group.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// From a record's timestamp to its commit.
    pub(crate) ingest_latency: Quantiles,
    /// From an event's timestamp to its commit.
    pub(crate) event_latency: Quantiles,
}

/// What is read of the running consumer's state.
#[derive(Deserialize)]
struct State {
    group: String,
    topic: String,
    #[serde(flatten)]
    latency: Latency,
}

impl Latency {
    /// Asks whoever serves there; none where nobody does, or somebody with another group or topic.
    pub(crate) async fn ask(http: &HttpAddr, group_topic: &GroupTopic) -> Option<Self> {
        let HttpAddr::At(address) = http else { return None };
        // Only what is now: the seconds of the past are not looked at.
        let path = format!("/state?since={}", i64::MAX);
        let answer =
            http::get(address, &path, PATIENCE).await.inspect_err(|error| tracing::debug!(%error, "no latency"));
        let (_, body) = answer.ok().filter(|(status, _)| *status == 200)?;
        let state: State = serde_json::from_str(&body).ok()?;
        (state.group == group_topic.group && state.topic == group_topic.topic).then_some(state.latency)
    }
}
