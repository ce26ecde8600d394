//! Each dependency, right and setting: what was tried, what came back, how to mend it.

use crate::commands::doctor::config::DoctorConfig;
use crate::commands::doctor::finding::Finding;
use crate::commands::doctor::{kafka, lake, machine, postgres};

/// Looks at everything. What is away is one of the findings.
pub(crate) async fn run(settings: &DoctorConfig) -> Vec<Finding> {
    let lake = async {
        match &settings.lake {
            Some(lake) => lake::examine(lake).await,
            None => Vec::new(),
        }
    };
    let (kafka, warehouse, lake) = tokio::join!(kafka::examine(settings), postgres::examine(settings), lake);
    let (kafka, positions) = kafka;
    let mut lines = kafka;
    lines.extend(warehouse.lines);
    // Where both answered: what retention will take before it is read.
    lines.extend(kafka::retention_against_lag(&positions, &warehouse.offsets));
    lines.extend(lake);
    lines.extend(machine::examine(settings, warehouse.clock_ahead));
    lines
}
