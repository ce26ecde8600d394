//! The background task of a run: progress line, stall detection and drafts of the manifest.

use std::sync::Arc;
use std::time::Duration;

use lake::Lake;
use pipeline_runtime::progress::Progress;
use pipeline_runtime::units::grouped;

use super::endpoints::HttpEndpoints;
use super::run_stats::RunStats;
use crate::clock::{Clock, Pace};

/// Interval of the progress line.
const UPDATE_INTERVAL: Duration = Duration::from_millis(250);
/// Number of updates between two drafts.
const UPDATES_BETWEEN_DRAFTS: u32 = 60;
/// Deadline for writing a draft. The next one follows soon.
const DRAFT_TIMEOUT: Duration = Duration::from_secs(5);

/// Watches a run until its task is aborted.
pub(crate) struct Monitor {
    pub(crate) stats: RunStats,
    pub(crate) lake: Option<Lake>,
    /// Number of events of the run, if it has an end.
    pub(crate) count: Option<u64>,
    pub(crate) show_progress: bool,
    pub(crate) pace: Pace,
    pub(crate) clock: Clock,
    pub(crate) endpoints: Arc<HttpEndpoints>,
}

impl Monitor {
    pub(crate) async fn run(self) {
        let progress = Progress::new(self.show_progress, self.count, "events");
        let mut updates = tokio::time::interval(UPDATE_INTERVAL);
        if let Some(lake) = &self.lake {
            self.probe(lake).await;
        }
        for number in (0..UPDATES_BETWEEN_DRAFTS).cycle() {
            updates.tick().await;
            self.endpoints.update_stalls();
            let sent = self.stats.counts.next_index();
            progress.set(sent);
            if self.show_progress {
                progress.say(self.progress_text(sent));
            }
            if let Some(lake) = self.lake.as_ref().filter(|_| number == 0) {
                self.write_draft(lake).await;
            }
        }
    }

    async fn write_draft(&self, lake: &Lake) {
        let draft = self.stats.draft_manifest();
        match tokio::time::timeout(DRAFT_TIMEOUT, lake.put_draft(&draft)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "draft manifest not written"),
            Err(_) => tracing::warn!("draft manifest not written before the deadline"),
        }
    }

    /// Warns if the lake allows files to be overwritten.
    async fn probe(&self, lake: &Lake) {
        let draft = self.stats.draft_manifest();
        match tokio::time::timeout(DRAFT_TIMEOUT, lake.put_draft_and_probe(&draft)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => tracing::warn!(
                lake = %lake.url(),
                "lake ignores If-None-Match: two processes of one run, or two runs with one name, may overwrite each \
                 other's files"
            ),
            Ok(Err(error)) => tracing::warn!(%error, "lake not checked for If-None-Match"),
            Err(_) => tracing::warn!("lake not checked for If-None-Match before the deadline"),
        }
    }

    fn progress_text(&self, sent: u64) -> String {
        let mut parts = Vec::new();
        if let Some(kafka) = &self.stats.kafka {
            parts.push(format!("acked {}", grouped(kafka.deliveries.records())));
        }
        if let Some(lake) = &self.stats.lake {
            parts.push(format!("files {}", lake.progress.files().raw.files));
        }
        let behind = self.clock.micros().saturating_sub(self.stats.source.due(sent).micros()) / 1_000_000;
        if self.pace != Pace::Max && behind > 0 {
            parts.push(format!("{behind} s behind"));
        }
        parts.join(", ")
    }
}
