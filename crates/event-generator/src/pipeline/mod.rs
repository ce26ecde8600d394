//! What happens to an event, and in which order.
//!
//! ```text
//! settings -> makers -> dispatch -> Kafka           (records, in the order of the indices, when they are due)
//!              blocks      |
//!                          +-> tally -> manifest    (counts of what was handed out)
//!                          +-> state                (what is stored in both, for a run that is killed)
//!                          +-> lake sink -> raw     (segments, once all their events are handed out)
//!                                        -> quarantine
//! ```

pub mod block;
pub mod block_counts;
pub mod block_plan;
pub mod dispatch;
pub mod workers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use lake::{End, Lake, LakeError, Manifest};
use pipeline_runtime::progress::Progress;
use pipeline_runtime::shutdown;
use tokio::task::JoinHandle;

use crate::commands::run::config::Plan;
use crate::memory::MemoryLimit;
use crate::observability::endpoints::Site;
use crate::observability::lateness::Lateness;
use crate::observability::run_stats::Ledger;
use crate::pipeline::block_counts::{Made, Tally};
use crate::pipeline::block_plan::{Clock, Cut, Pace};
use crate::pipeline::dispatch::{Dispatch, DispatchError, Dispatched, Start};
use crate::pipeline::workers::Makers;
use crate::run_state::{Checkpoints, Keeper, RunFolder, RunState, Watched};
use crate::shutdown::Ending;
use crate::sinks::kafka::KafkaSink;
use crate::sinks::lake::LakeSink;

/// Where events go.
pub struct Sinks {
    /// To this topic.
    pub kafka: Option<(String, KafkaSink)>,
    /// Into this lake, which waits out an outage.
    pub lake: Option<Lake>,
}

/// What the machine gives, and shows.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Threads that make events.
    pub threads: u16,
    /// What it may take of the memory.
    pub memory: MemoryLimit,
    /// Whether a person watches.
    pub progress: bool,
}

/// A run that ended well.
#[derive(Debug)]
pub struct Ended {
    /// What was made and where it went.
    pub manifest: Manifest,
    /// Where the run is remembered on this host.
    pub folder: RunFolder,
    /// How late events were handed out.
    pub lateness: Lateness,
    /// From the first event made to the last one stored.
    pub elapsed: Duration,
}

/// How often a person sees something new, and how often the draft of the manifest is written.
const GLANCE: Duration = Duration::from_millis(250);
const GLANCES_BETWEEN_DRAFTS: u32 = 60;
/// A draft that can't be written soon is not worth waiting for.
const DRAFT_PATIENCE: Duration = Duration::from_secs(5);

/// The run as it stands, on this host.
#[derive(Debug)]
pub struct Memory {
    /// Its folder.
    pub folder: RunFolder,
    /// Its state: of a run that begins, or of one that is gone on with.
    pub state: RunState,
}

/// Runs a plan to its end, or to the one that is asked for.
pub async fn run(
    plan: &Plan,
    sinks: Sinks,
    memory: Memory,
    machine: Machine,
    clock: Clock,
    ending: &Ending,
    site: &Arc<Site>,
) -> anyhow::Result<Ended> {
    let begun = Instant::now();
    let Memory { folder, state } = memory;
    let source = Arc::clone(&plan.source);
    let segment_indices = state.destination.segment_indices;
    let start = Start {
        first: state.safe.next_index,
        owed: state.reserved,
        end: state.sealed.map_or(End::CountReached, |sealed| sealed.end),
        segment_indices,
    };
    let before = Made { next_index: start.first, counts: state.safe.counts.clone() };
    let tally = Arc::new(Tally::after(before));
    let checkpoints = Arc::new(Checkpoints::default());
    let mut ledger = Ledger {
        run: plan.run.clone(),
        source: Arc::clone(&source),
        started_at: state.started_at,
        resumes: state.resumes,
        tally: Arc::clone(&tally),
        kafka: None,
        lake: None,
    };

    let cut = Cut::new(plan.pace, source.settings().event_rate, plan.count)
        .for_larger(source.settings().pad)
        .in_segments(start.first, segment_indices);
    let records = sinks.kafka.is_some() || sinks.lake.is_none();
    let makers = Makers::start(&source, cut, machine.threads, records).context("no thread could be started")?;

    let kafka = sinks.kafka.map(|(topic, kafka)| {
        ledger.kafka = Some((topic, kafka.deliveries()));
        kafka
    });
    let (writing, feed) = match &sinks.lake {
        Some(lake) => {
            let (sink, feed) =
                LakeSink::new(lake.clone(), Arc::clone(&source), plan.run.clone(), &state.safe, machine.memory);
            ledger.lake = Some((lake.url().to_string(), segment_indices, sink.written()));
            (Some(tokio::spawn(sink.run())), Some(feed))
        }
        None => (None, None),
    };
    let watched = Watched {
        checkpoints: Arc::clone(&checkpoints),
        kafka: kafka.as_ref().map(KafkaSink::deliveries),
        lake: ledger.lake.as_ref().map(|(_, _, written)| Arc::clone(written)),
    };
    let keeper = Keeper::start(folder, state, plan.count, watched)?;
    let pace = plan.pace;
    let allowance = keeper.allowance();
    let ending_too = ending.clone();
    let dispatch = Dispatch {
        source,
        makers,
        pace,
        clock,
        kafka,
        lake: feed,
        tally,
        start,
        allowance,
        checkpoints,
        site: Arc::clone(site),
        ending: ending_too,
    };
    site.begin(ledger.clone(), pace);

    let watching =
        tokio::spawn(watch(ledger.clone(), sinks.lake, plan.count, machine.progress, pace, clock, Arc::clone(site)));
    let sending = tokio::task::spawn_blocking(|| dispatch.run());
    let sent = finish(sending, writing, ending, &ledger).await;
    watching.abort();
    // The progress line is taken away and no draft is written any more.
    let _ = watching.await;

    // Written once more, with what has been stored in the meantime; what went wrong with it comes first.
    let folder = keeper.end()?;
    let Dispatched { end, lateness, .. } = sent?;
    let manifest = ledger.close(end, clock.now()).map_err(|wrong| {
        anyhow!("the counts do not add up, please report this: {}. The manifest was not written", wrong.join("; "))
    })?;
    Ok(Ended { manifest, folder, lateness, elapsed: begun.elapsed() })
}

/// Waits until both sinks have everything, or the time to end is over.
async fn finish(
    sending: JoinHandle<Result<Dispatched, DispatchError>>,
    writing: Option<JoinHandle<Result<(), LakeError>>>,
    ending: &Ending,
    ledger: &Ledger,
) -> anyhow::Result<Dispatched> {
    shutdown::waiting_for("Kafka and the lake, to store the events made so far");
    let sent = sending.await.context("the sending thread broke down; please report this")?;
    let Some(mut writing) = writing else {
        return all_of(sent?, true, ledger);
    };
    if let Err(error) = sent {
        if let DispatchError::Lake = error {
            (&mut writing).await.context("the lake's task broke down; please report this")??;
        }
        writing.abort();
        return Err(error.into());
    }
    let written = tokio::select! {
        written = &mut writing => {
            written.context("the lake's task broke down; please report this")??;
            true
        }
        () = ending.until_over() => {
            writing.abort();
            false
        }
    };
    all_of(sent?, written, ledger)
}

/// Fails unless everything is where it should be.
fn all_of(sent: Dispatched, written: bool, ledger: &Ledger) -> anyhow::Result<Dispatched> {
    let written = ledger.lake.is_none() || (written && sent.stored);
    let mut missing = Vec::new();
    if sent.unacknowledged > 0 {
        missing.push(format!("Kafka has not acknowledged {} records", sent.unacknowledged));
    }
    if !written {
        let files = ledger.lake.as_ref().map(|(_, _, written)| written.files()).unwrap_or_default();
        let counts = ledger.tally.made().counts.outcomes;
        missing.push(format!(
            "the lake lacks {} of {} valid and {} of {} refused events",
            counts.valid.saturating_sub(files.raw.rows),
            counts.valid,
            counts.invalid.saturating_sub(files.quarantine.rows),
            counts.invalid
        ));
    }
    if missing.is_empty() && !sent.stored {
        missing.push("its end is not written down".to_owned());
    }
    if missing.is_empty() {
        return Ok(sent);
    }
    Err(anyhow!(
        "the run was ended before all was stored: {}. It has no manifest: the same events come again, the lake keeps \
         what it has, and the consumer counts what comes twice as duplicates",
        missing.join(", and ")
    ))
}

/// Shows how far it is, and keeps a draft of the manifest in the lake.
async fn watch(
    ledger: Ledger,
    lake: Option<Lake>,
    count: Option<u64>,
    show: bool,
    pace: Pace,
    clock: Clock,
    site: Arc<Site>,
) {
    let progress = Progress::new(show, count, "events");
    let mut glances = tokio::time::interval(GLANCE);
    if let Some(lake) = &lake {
        probe(lake, &ledger).await;
    }
    for number in (0..GLANCES_BETWEEN_DRAFTS).cycle() {
        glances.tick().await;
        site.look();
        let made = ledger.tally.next_index();
        progress.set(made);
        if show {
            progress.say(state(&ledger, made, pace, clock));
        }
        if let Some(lake) = lake.as_ref().filter(|_| number == 0) {
            let draft = ledger.draft();
            match tokio::time::timeout(DRAFT_PATIENCE, lake.put_draft(&draft)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "draft of the manifest not written"),
                Err(_) => tracing::warn!("draft of the manifest not written in time"),
            }
        }
    }
}

/// Says so if the lake is one where files can be overwritten.
async fn probe(lake: &Lake, ledger: &Ledger) {
    match tokio::time::timeout(DRAFT_PATIENCE, lake.put_draft_and_probe(&ledger.draft())).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => tracing::warn!(
            lake = %lake.url(),
            "the lake ignores If-None-Match: nothing keeps two processes of one run, or two runs of one name, from \
             overwriting each other's files"
        ),
        Ok(Err(error)) => tracing::warn!(%error, "could not see whether the lake heeds If-None-Match"),
        Err(_) => tracing::warn!("could not see in time whether the lake heeds If-None-Match"),
    }
}

/// In a few words, for the progress line.
fn state(ledger: &Ledger, made: u64, pace: Pace, clock: Clock) -> String {
    let mut words = Vec::new();
    if let Some((_, deliveries)) = &ledger.kafka {
        words.push(format!("acked {}", crate::count::grouped(deliveries.records())));
    }
    if let Some((_, _, written)) = &ledger.lake {
        words.push(format!("files {}", written.files().raw.files));
    }
    let behind = clock.micros().saturating_sub(ledger.source.due(made).micros()) / 1_000_000;
    if pace != Pace::Max && behind > 0 {
        words.push(format!("{behind} s behind"));
    }
    words.join(", ")
}
