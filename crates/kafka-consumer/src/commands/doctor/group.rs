//! Checks the group: its members, the brokers' limits for them, and whether the topic is the one that it has read.

use std::collections::BTreeMap;
use std::time::Duration;

use pipeline_runtime::kafka::{Connection, broker_configuration};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::task;

use crate::commands::doctor::config::DoctorConfig;
use crate::commands::doctor::finding::{Finding, Findings};
use crate::ingest::offsets::resume::{DataLossPolicy, Resume, ResumeError};
use crate::kafka::client::KafkaClient;
use crate::kafka::context::Context;
use crate::kafka::record_lookup::RecordLookup;
use crate::kafka::start_offset::StartOffset;
use crate::postgres;

/// Timeout for the description of the group.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Present members of a group.
struct Members {
    count: usize,
    /// Assignment strategy, or the protocol of another kind of client.
    protocol: String,
    protocol_type: String,
}

/// Finds what would keep a consumer from joining the group.
pub(crate) async fn examine(settings: &DoctorConfig) -> Vec<Finding> {
    let mut lines = Findings::of("kafka");
    let (config, group) = (settings.client.clone(), settings.group_topic.group.clone());
    let limits = broker_configuration(&config, &settings.group_topic.topic).await.unwrap_or_default();
    let session = settings.client.get("session.timeout.ms").and_then(|text| text.parse().ok());
    check_session(session, &limits, &mut lines);
    let asked = task::spawn_blocking(move || members(&config, &group)).await;
    if let Ok(Some(members)) = asked {
        let strategies = settings.client.get("partition.assignment.strategy").unwrap_or_default();
        check_members(&members, strategies, &limits, &mut lines);
    }
    lines.lines
}

fn members(config: &ClientConfig, group: &str) -> Option<Members> {
    let client: BaseConsumer<Context> = BaseConsumer::from_config_and_context(config, Context::default()).ok()?;
    let groups = client.fetch_group_list(Some(group), TIMEOUT).ok()?;
    let found = groups.groups().iter().find(|one| one.name() == group && !one.members().is_empty())?;
    let (protocol, protocol_type) = (found.protocol().to_owned(), found.protocol_type().to_owned());
    Some(Members { count: found.members().len(), protocol, protocol_type })
}

fn check_session(session: Option<u64>, limits: &BTreeMap<String, String>, lines: &mut Findings) {
    let limit = |name: &str| limits.get(name).and_then(|text| text.parse::<u64>().ok());
    let (minimum, maximum) = (limit("group.min.session.timeout.ms"), limit("group.max.session.timeout.ms"));
    let (Some(session), Some(minimum), Some(maximum)) = (session, minimum, maximum) else { return };
    if (minimum..=maximum).contains(&session) {
        lines.good("session.timeout.ms", format!("{session} ms"));
    } else {
        lines.bad(
            "session.timeout.ms",
            format!("{session} ms, but the brokers permit {minimum} to {maximum}"),
            format!("run with -X session.timeout.ms={}", session.clamp(minimum, maximum)),
        );
    }
}

fn check_members(members: &Members, strategies: &str, limits: &BTreeMap<String, String>, lines: &mut Findings) {
    let Members { count, protocol, protocol_type } = members;
    let maximum = limits.get("group.max.size").and_then(|text| text.parse::<usize>().ok());
    if protocol_type != "consumer" {
        let found = format!("its members are no consumers ({protocol_type})");
        lines.bad("group members", found, "use another --group-id");
    } else if !protocol.is_empty() && !strategies.split(',').any(|one| one.trim() == protocol) {
        let found = format!("its members use the assignment strategy {protocol}, this consumer uses {strategies}");
        let fix = format!("stop them, or run with -X partition.assignment.strategy={protocol}");
        lines.bad("group members", found, fix);
    } else if maximum.is_some_and(|maximum| *count >= maximum) {
        let found = format!("{count}, as many as the brokers permit (group.max.size)");
        lines.bad("group members", found, "stop one of them, or raise group.max.size");
    } else {
        lines.good("group members", count.to_string());
    }
}

/// Finds a topic that is not the one that the group has read. PostgreSQL has its ID and the fingerprints of its records.
pub(crate) async fn examine_identity(settings: &DoctorConfig) -> Vec<Finding> {
    let mut lines = Findings::of("kafka");
    let connection = Connection::default();
    let Ok(kafka) = KafkaClient::new(&settings.client, None, &connection) else { return lines.lines };
    let resume = Resume {
        target: settings.target.named("event-pipeline doctor"),
        group_topic: settings.group_topic.clone(),
        kafka,
        record_lookup: RecordLookup::new(&settings.client, &settings.group_topic.topic, &connection),
        identity: std::sync::Arc::default(),
        accept: DataLossPolicy::default(),
        start: StartOffset::Earliest,
    };
    let Ok(client) = postgres::connect(&resume.target).await else { return lines.lines };
    match resume.verify(&client).await {
        Ok(_) => lines.good("topic identity", "the topic is the one that the group has read"),
        Err(error @ (ResumeError::Recreated { .. } | ResumeError::Renewed { .. })) => lines.bad(
            "topic identity",
            error.to_string(),
            "run with --allow-recreated-topic, or move the group with 'kafka-consumer offsets set \
             --allow-recreated-topic'",
        ),
        // The other checks report the error.
        Err(error) => tracing::debug!(%error, "topic identity not checked"),
    }
    lines.lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::commands::doctor::finding::Severity;

    fn limits(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_session_timeout_outside_the_limits_is_bad() {
        let limits = limits(&[("group.min.session.timeout.ms", "10000"), ("group.max.session.timeout.ms", "1800000")]);
        let of = |session| {
            let mut lines = Findings::of("kafka");
            check_session(session, &limits, &mut lines);
            lines.lines.first().map(|line| (line.severity, line.to_string()))
        };
        let (severity, text) = of(Some(6_000)).unwrap();
        assert_eq!((severity, text.contains("-X session.timeout.ms=10000")), (Severity::Bad, true), "{text}");
        assert_eq!(of(Some(10_000)).unwrap().0, Severity::Good);
        assert!(of(None).is_none());
    }

    #[test]
    fn members_of_another_kind_are_bad() {
        let of = |count, protocol: &str, protocol_type: &str| {
            let mut lines = Findings::of("kafka");
            let (protocol, protocol_type) = (protocol.to_owned(), protocol_type.to_owned());
            let limits = limits(&[("group.max.size", "3")]);
            check_members(&Members { count, protocol, protocol_type }, "cooperative-sticky", &limits, &mut lines);
            (lines.lines[0].severity, lines.lines[0].to_string())
        };
        assert_eq!(of(2, "cooperative-sticky", "consumer").0, Severity::Good);
        assert_eq!(of(2, "", "consumer").0, Severity::Good, "a rebalance");
        assert!(of(2, "range", "consumer").1.contains("-X partition.assignment.strategy=range"));
        assert!(of(2, "x", "connect").1.contains("no consumers"));
        assert!(of(3, "cooperative-sticky", "consumer").1.contains("group.max.size"));
    }
}
