//! Examines dependencies, privileges and settings.

use crate::commands::doctor::config::DoctorConfig;
use crate::commands::doctor::finding::Finding;
use crate::commands::doctor::{group, kafka, lake, machine, postgres};

/// Runs all checks. An unavailable dependency is a finding, not an error.
pub(crate) async fn run(settings: &DoctorConfig) -> Vec<Finding> {
    let lake = async {
        match &settings.lake {
            Some(lake) => lake::examine(lake).await,
            None => Vec::new(),
        }
    };
    let (kafka, warehouse, lake) = tokio::join!(kafka::examine(settings), postgres::examine(settings), lake);
    let (kafka, watermarks) = kafka;
    let mut lines = kafka;
    if !watermarks.is_empty() {
        lines.extend(group::examine(settings).await);
        if !warehouse.offsets.is_empty() {
            lines.extend(group::examine_identity(settings).await);
        }
    }
    lines.extend(warehouse.lines);
    // Adds nothing unless both Kafka and PostgreSQL answered.
    lines.extend(kafka::retention_against_lag(&watermarks, &warehouse.offsets));
    lines.extend(lake);
    lines.extend(machine::examine(settings, warehouse.clock_ahead));
    lines
}
