//! The background task of a run: progress line, stall detection and drafts of the manifest.

use std::sync::Arc;
use std::time::Duration;

use lake::{FirstDraft, Lake, Manifest};
use pipeline_runtime::progress::Progress;
use pipeline_runtime::units::grouped;

use super::draft_schedule::DraftSchedule;
use super::endpoints::HttpEndpoints;
use super::run_stats::RunStats;
use crate::clock::{Clock, Pace};

/// Interval of the progress line.
const UPDATE_INTERVAL: Duration = Duration::from_millis(250);
/// Deadline for writing a draft.
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

/// Drafts of the manifest in the lake.
struct Drafts {
    schedule: DraftSchedule,
    /// Last draft that this process wrote.
    last: Option<Manifest>,
}

impl Monitor {
    pub(crate) async fn run(self) {
        let progress = Progress::new(self.show_progress, self.count, "events");
        let mut updates = tokio::time::interval(UPDATE_INTERVAL);
        let mut drafts = Drafts { schedule: DraftSchedule::after(self.age()), last: None };
        if let Some(lake) = &self.lake {
            self.write_first_draft(lake, &mut drafts).await;
        }
        loop {
            updates.tick().await;
            self.endpoints.update_stalls();
            let sent = self.stats.counts.next_index();
            progress.set(sent);
            if self.show_progress {
                progress.say(self.progress_text(sent));
            }
            if let Some(lake) = self.lake.as_ref().filter(|_| drafts.schedule.is_due(self.age())) {
                self.write_draft(lake, &mut drafts).await;
            }
        }
    }

    /// Returns the time since the start of the run, in this or an earlier process.
    fn age(&self) -> Duration {
        let micros = self.clock.micros().saturating_sub(self.stats.started_at.micros());
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Writes a draft, unless nothing changed since the last one.
    async fn write_draft(&self, lake: &Lake, drafts: &mut Drafts) {
        let draft = self.stats.draft_manifest();
        if drafts.last.as_ref() == Some(&draft) {
            drafts.schedule.record_success(self.age());
            return;
        }
        match tokio::time::timeout(DRAFT_TIMEOUT, lake.put_draft(&draft)).await {
            Ok(Ok(())) => {
                drafts.schedule.record_success(self.age());
                drafts.last = Some(draft);
                return;
            }
            Ok(Err(error)) => tracing::warn!(%error, "draft manifest not written"),
            Err(_) => tracing::warn!("draft manifest not written before the deadline"),
        }
        drafts.schedule.record_failure(self.age());
    }

    /// Writes the first draft of a run. Warns if the lake allows files to be overwritten.
    async fn write_first_draft(&self, lake: &Lake, drafts: &mut Drafts) {
        let draft = self.stats.draft_manifest();
        let written = tokio::time::timeout(DRAFT_TIMEOUT, lake.put_first_draft(&draft)).await;
        if !matches!(written, Ok(Ok(_))) {
            drafts.schedule.record_failure(self.age());
        }
        match written {
            Ok(Ok(FirstDraft::Written)) => drafts.last = Some(draft),
            // A new run replaces the draft of an abandoned one.
            Ok(Ok(FirstDraft::Exists)) if self.stats.resumes == 0 => drafts.schedule.skip_ahead(),
            Ok(Ok(FirstDraft::Exists)) => {}
            Ok(Ok(FirstDraft::Unconditional)) => tracing::warn!(
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
