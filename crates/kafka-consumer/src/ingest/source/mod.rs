//! Source: reads records on a dedicated thread, validates them and fills the writers' batches.

mod assignment;
mod caught_up;
pub(crate) mod config;
mod end_of_run;
pub(crate) mod finish;
mod group_refusals;
mod partition_list;
mod partition_reader;
mod rejoin;
mod turns;
mod writer_queues;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use event_model::{Timestamp, Window};
use ingest_protocol::assignment::Input;
use ingest_protocol::position::RecordPosition;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use tokio::sync::mpsc;

use crate::dead_letter::{DeadLetter, record_time};
use crate::failpoint::{READING, pass};
use crate::ingest::memory_budget::PartitionQueues;
use crate::ingest::messages::{Command, Report};
use crate::ingest::offsets::resume::{Resume, ResumeError};
use crate::ingest::source::assignment::{Assignment, Surroundings};
use crate::ingest::source::config::SourceConfig;
use crate::ingest::source::end_of_run::EndCondition;
use crate::ingest::source::finish::{FinishedSource, Interrupted, commit};
use crate::ingest::source::group_refusals::{Consequence, GroupRefusals};
use crate::ingest::source::partition_reader::PollOutcome;
use crate::ingest::source::rejoin::RejoinPolicy;
use crate::ingest::source::writer_queues::WriterQueues;
use crate::kafka::context::Context;
use crate::kafka::{client, fingerprint};
use crate::observability::timing;

/// Maximum number of records from one partition before the partition furthest behind is selected again.
const RECORDS_IN_A_ROW: u32 = 64;
/// Maximum number of such turns between two calls of [`Source::service_events`].
const POLLS_BETWEEN_EVENTS: u32 = 8;
/// Maximum wait for a record if none is available.
const IDLE_WAIT: Duration = Duration::from_millis(20);
/// The same if nothing but a record or a change of the group can happen.
const QUIET_WAIT: Duration = Duration::from_millis(100);
/// Maximum wait for a full writer before the partitions are paused. A longer wait indicates an outage.
const BACK_PRESSURE: Duration = Duration::from_secs(2);
/// Interval between commits to Kafka's group, for lag monitoring.
const BETWEEN_COMMITS: Duration = Duration::from_secs(1);
/// Timeout for leaving the group. Without an answer the membership lasts until the session expires.
pub(crate) const FAREWELL: Duration = Duration::from_secs(3);
/// Interval between two looks for new credentials while Kafka refuses the present ones.
const BETWEEN_CREDENTIALS: Duration = Duration::from_secs(1);
const FENCED: &str =
    "another consumer with this --group-instance-id has taken over the partitions; stop it, or use another ID";

/// Reads the topic until the run is caught up (with `--until-caught-up`) or a shutdown is requested.
pub(crate) struct Source {
    setting: SourceConfig,
    kafka: Arc<BaseConsumer<Context>>,
    rejoin: RejoinPolicy,
    refusals: GroupRefusals,
    credentials_checked: Instant,
    assignment: Assignment,
    writers: WriterQueues,
    reports: mpsc::UnboundedReceiver<Report>,
    committed: BTreeMap<i32, i64>,
    last_commit: Instant,
    end: EndCondition,
}

impl Source {
    /// Returns a source without a subscription.
    #[must_use]
    pub(crate) fn new(
        setting: SourceConfig,
        writers: Vec<mpsc::Sender<Command>>,
        reports: mpsc::UnboundedReceiver<Report>,
    ) -> Self {
        let writers = WriterQueues::new(writers, setting.limits, setting.runtime.clone());
        let last_commit = Instant::now();
        let assignment = Assignment::default();
        let committed = BTreeMap::new();
        let kafka = setting.resume.kafka.current();
        Self {
            setting,
            kafka,
            rejoin: RejoinPolicy::default(),
            refusals: GroupRefusals::default(),
            credentials_checked: last_commit,
            assignment,
            writers,
            reports,
            committed,
            last_commit,
            end: EndCondition::default(),
        }
    }

    /// Reads until the end of the run. On success, all records read were handed to the writers, or dropped because
    /// another consumer has the partition.
    pub(crate) fn run(mut self) -> anyhow::Result<FinishedSource> {
        self.kafka.subscribe(&[&self.setting.resume.group_topic.topic]).context("cannot subscribe to the topic")?;
        let ended = self.read();
        match &ended {
            Ok(_) => {
                self.writers.close_all();
                self.writers.hand_over_waiting();
            }
            // In-flight records may belong to the new topic and must not be committed at offsets of the former one.
            Err(error) if error.downcast_ref().is_some_and(ResumeError::is_another_topic) => {
                self.setting.give_up.cancel();
            }
            Err(_) => {}
        }
        self.writers.end();
        let Self { kafka, reports, committed, setting, assignment, .. } = self;
        let settled = assignment.is_settled();
        let interrupted = Interrupted { progress: assignment.into_caught_up(), settled };
        let stopped = setting.until_caught_up && matches!(ended, Ok(false));
        let finish = FinishedSource {
            kafka,
            reports,
            committed,
            topic: setting.resume.group_topic.topic,
            interrupted: stopped.then_some(interrupted),
        };
        match ended {
            Ok(_) => Ok(finish),
            Err(error) => {
                // Other members take over the partitions at once, instead of after the session timeout.
                let left = finish.leave(FAREWELL);
                tracing::debug!(left, "group left after an error");
                Err(error)
            }
        }
    }

    /// Returns true once the run is caught up, or false if a shutdown was requested.
    fn read(&mut self) -> anyhow::Result<bool> {
        while !self.setting.shutdown.is_requested() {
            self.service_events()?;
            if self.setting.until_caught_up && self.is_done()? {
                return Ok(true);
            }
            if self.writers.is_stalled() {
                self.wait_for_writers()?;
                continue;
            }
            self.resume()?;
            self.recheck_queues();
            let mut turns = 0;
            while turns < POLLS_BETWEEN_EVENTS && !self.writers.is_stalled() && self.poll_next()? {
                turns += 1;
            }
            if turns == 0 {
                self.idle()?;
            }
        }
        Ok(false)
    }

    /// Passes an input to the assignment.
    fn step(&mut self, input: Input) -> anyhow::Result<()> {
        let (assignment, mut around) = self.assignment();
        assignment.step(input, &mut around)
    }

    /// Returns the assignment and the parts that it changes.
    fn assignment(&mut self) -> (&mut Assignment, Surroundings<'_>) {
        let Self { assignment, kafka, setting, writers, .. } = self;
        (assignment, Surroundings { kafka, setting, writers })
    }

    /// Returns true if a run with `--until-caught-up` may end.
    fn is_done(&mut self) -> anyhow::Result<bool> {
        let done = self.end.is_reached(&mut self.assignment, &self.setting);
        if !done {
            self.end.check_open_transactions(&mut self.assignment, &self.setting)?;
        }
        Ok(done)
    }

    /// Fails if the topic was recreated, even with `--allow-recreated-topic`: librdkafka refuses to seek in a partition
    /// that was deleted, so only a new process can read the topic from its beginning.
    fn check_identity(&self) -> anyhow::Result<()> {
        let resume = &self.setting.resume;
        if resume.identity.is_recreated() { Err(resume.recreated_error().into()) } else { Ok(()) }
    }

    /// Fails if Kafka or PostgreSQL has refused the login for too long. Replaces the client once its credentials were
    /// replaced.
    fn check_logins(&mut self) -> anyhow::Result<()> {
        self.setting.health.check_logins(self.setting.login_grace)?;
        let kafka = &self.setting.resume.kafka;
        if kafka.connection().refusal().is_none() || self.credentials_checked.elapsed() < BETWEEN_CREDENTIALS {
            return Ok(());
        }
        self.credentials_checked = Instant::now();
        if kafka.has_new_credentials() {
            tracing::info!("kafka credentials replaced, logging in again");
            self.replace_client()?;
        }
        Ok(())
    }

    /// Waits for the next record. Once all queues are empty, closes the batches of idle writers.
    fn idle(&mut self) -> anyhow::Result<()> {
        let due = self.writers.until_due(Instant::now());
        let is_quiet = due == Duration::MAX && self.assignment.is_at_rest() && !self.setting.until_caught_up;
        let wait = due.min(if is_quiet { QUIET_WAIT } else { IDLE_WAIT });
        match self.setting.queues {
            PartitionQueues::Separate => thread::park_timeout(wait),
            PartitionQueues::Shared => self.serve_group(wait)?,
        }
        self.recheck_queues();
        if !self.poll_next()? {
            self.writers.close_for_idle();
            self.assignment.starve(Instant::now());
        }
        Ok(())
    }

    /// Makes all partitions eligible for polling again.
    fn recheck_queues(&mut self) {
        if self.setting.queues == PartitionQueues::Separate {
            self.assignment.recheck_idle();
        }
    }

    /// Handles everything except records: reports of the writers, group events, assignment and due batches.
    fn service_events(&mut self) -> anyhow::Result<()> {
        pass(READING);
        self.setting.health.round();
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Report::Committed { offsets } => {
                    for (partition, next) in &offsets {
                        self.assignment.caught_up().committed(*partition, *next);
                    }
                    self.committed.extend(offsets);
                }
                Report::Moved { partition, epoch } => self.step(Input::Moved { partition, epoch })?,
                Report::Failed => bail!("a writer failed"),
            }
        }
        self.check_identity()?;
        self.check_logins()?;
        self.serve_group(Duration::ZERO)?;
        let (assignment, mut around) = self.assignment();
        assignment.advance(&mut around)?;
        assignment.change_turns(&around)?;
        self.writers.close_due(Instant::now());
        self.writers.try_hand_over();
        if self.last_commit.elapsed() >= BETWEEN_COMMITS {
            self.tell_group();
            let Self { assignment, setting, .. } = self;
            assignment.begin_turns(setting.queues, |partition| setting.ends.of(partition));
        }
        Ok(())
    }

    /// Takes up to [`RECORDS_IN_A_ROW`] records from the partition whose events are furthest behind, and continues with
    /// the next partition if that queue runs empty. Returns false once all queues are empty.
    fn poll_next(&mut self) -> anyhow::Result<bool> {
        if self.setting.queues == PartitionQueues::Shared {
            return self.poll_main_queue();
        }
        // The clock is read once per turn.
        let window = self.setting.window.at(timing::now());
        while let Some(partition) = self.assignment.furthest_behind() {
            let writers = &mut self.writers;
            let taken = partition.take(RECORDS_IN_A_ROW, |epoch, record| {
                let time = take(&window, epoch, writers, record);
                (time, !writers.is_stalled())
            });
            match taken {
                PollOutcome::Nothing => {}
                PollOutcome::Records => return Ok(true),
                PollOutcome::Event(KafkaError::PartitionEOF(partition)) => {
                    self.at_end(partition);
                    return Ok(true);
                }
                PollOutcome::Event(error) => {
                    self.check_error(error)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Takes up to [`RECORDS_IN_A_ROW`] records and events from the main queue. Returns false if it is empty.
    fn poll_main_queue(&mut self) -> anyhow::Result<bool> {
        let window = self.setting.window.at(timing::now());
        for taken in 0..RECORDS_IN_A_ROW {
            if !self.poll_once(Duration::ZERO, &window)? {
                return Ok(taken > 0);
            }
            if self.writers.is_stalled() {
                break;
            }
        }
        Ok(true)
    }

    /// Polls the main queue, which serves group events and errors. It has the records of the partitions that have no
    /// queue of their own.
    fn serve_group(&mut self, wait: Duration) -> anyhow::Result<()> {
        let window = self.setting.window.at(timing::now());
        self.poll_once(wait, &window).map(drop)
    }

    fn poll_once(&mut self, wait: Duration, window: &Window) -> anyhow::Result<bool> {
        let stray = match self.kafka.poll(wait) {
            None => return Ok(false),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.at_end(partition);
                false
            }
            Some(Err(error)) => {
                self.check_error(error)?;
                false
            }
            Some(Ok(record)) if self.setting.queues == PartitionQueues::Shared => {
                // Records of a partition that is being released or sought are dropped. They are read again.
                if let Some(epoch) = self.assignment.accept(record.partition(), record.offset()) {
                    take(window, epoch, &mut self.writers, &record);
                }
                false
            }
            Some(Ok(record)) => {
                let (partition, offset) = (record.partition(), record.offset());
                tracing::warn!(partition, offset, "record outside of its partition queue");
                true
            }
        };
        if stray {
            self.step(Input::Uncertain)?;
        }
        Ok(true)
    }

    /// Handles the end of a partition. Moves its offset past trailing entries that are not delivered as records, such
    /// as transaction markers.
    fn at_end(&mut self, partition: i32) {
        // It may arrive in the main queue while the partition is being released or sought.
        if !self.assignment.has(partition) {
            return;
        }
        let topic = &self.setting.resume.group_topic.topic;
        if let Ok(Offset::Offset(next)) = rdkafka_ext::position(self.kafka.client(), topic, partition)
            && let Some(epoch) = self.assignment.read_up_to(partition, next)
        {
            self.writers.batch_for(partition).pass(partition, epoch, next);
        }
        self.assignment.at_end(partition);
    }

    /// Handles an error of librdkafka. Fails on permanent errors; others are logged, because librdkafka recovers from
    /// them.
    fn check_error(&mut self, error: KafkaError) -> anyhow::Result<()> {
        use RDKafkaErrorCode as Code;
        let topic = &self.setting.resume.group_topic.topic;
        match error.rdkafka_error_code() {
            Some(Code::FencedInstanceId) => self.fenced(error),
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                tracing::warn!(%error, topic, "next records deleted from kafka");
                self.step(Input::Uncertain)
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                tracing::warn!(%error, topic, "topic unavailable");
                Ok(())
            }
            Some(Code::GroupAuthorizationFailed) => {
                let group = &self.setting.resume.group_topic.group;
                Err(error).with_context(|| format!("cannot join group {group}; grant the Kafka user READ on it"))
            }
            Some(Code::TopicAuthorizationFailed) => {
                Err(error).with_context(|| format!("cannot read topic {topic}; grant the Kafka user READ on it"))
            }
            Some(Code::Fatal) => Err(error).with_context(|| format!("cannot read topic {topic}")),
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                Err(error).context("the Kafka client failed")
            }
            // The connection reports them.
            Some(
                Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::Resolve
                | Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::SSL,
            ) => Ok(()),
            code => self.check_refusal(code, error),
        }
    }

    /// Fails if the group refuses this member for good. Logs any other error.
    fn check_refusal(&mut self, code: Option<RDKafkaErrorCode>, error: KafkaError) -> anyhow::Result<()> {
        let Resume { group_topic, kafka, .. } = &self.setting.resume;
        let refusal = code.and_then(|code| Some((code, group_refusals::describe(code, group_topic, kafka)?)));
        let Some((code, reason)) = refusal else {
            tracing::warn!(%error, "kafka error");
            return Ok(());
        };
        match self.refusals.note(code, Instant::now()) {
            Consequence::End => return Err(error).context(reason),
            Consequence::Warn => {
                tracing::warn!(reason, "group refuses this consumer, retrying");
                self.setting.health.waiting(Some(reason));
            }
            Consequence::Wait => {}
        }
        Ok(())
    }

    /// Replaces a fenced client with a new member of the group, or fails. librdkafka cannot use a fenced client again.
    fn fenced(&mut self, error: KafkaError) -> anyhow::Result<()> {
        if !self.rejoin.is_due(Instant::now(), self.kafka.context().last_trouble()) {
            return Err(error).context(FENCED);
        }
        tracing::warn!(%error, "fenced static member rejoined the group");
        self.replace_client()
    }

    /// Replaces the client with a new member of the group.
    fn replace_client(&mut self) -> anyhow::Result<()> {
        self.step(Input::ClientReplaced)?;
        let kafka = self.setting.resume.kafka.renew().context("cannot create a new Kafka client")?;
        client::retire(std::mem::replace(&mut self.kafka, kafka));
        self.kafka.subscribe(&[&self.setting.resume.group_topic.topic]).context("cannot subscribe to the topic")
    }

    /// Waits for a full writer. A long wait pauses the partitions, so that polling continues and the group sees a live
    /// member. Pausing discards prefetched records, so it is reserved for outages.
    fn wait_for_writers(&mut self) -> anyhow::Result<()> {
        if !self.assignment.is_paused() {
            if self.writers.wait(BACK_PRESSURE) {
                return Ok(());
            }
            self.assignment.pause(&self.kafka)?;
            tracing::warn!("reading paused, postgres accepts no batches");
        }
        self.serve_group(Duration::from_millis(100))
    }

    fn resume(&mut self) -> anyhow::Result<()> {
        if self.assignment.resume(&self.kafka)? {
            tracing::info!("reading resumed");
        }
        Ok(())
    }

    fn tell_group(&mut self) {
        self.last_commit = Instant::now();
        self.committed.retain(|partition, _| self.assignment.has(*partition));
        commit(&self.kafka, &self.setting.resume.group_topic.topic, &mut self.committed, CommitMode::Async);
    }
}

/// Validates a record and adds it to its batch. Returns the event's timestamp, or `None` if the record is rejected.
fn take(window: &Window, epoch: u64, writers: &mut WriterQueues, record: &BorrowedMessage<'_>) -> Option<Timestamp> {
    let partition = record.partition();
    let mark = RecordPosition { offset: record.offset(), fingerprint: fingerprint::of(record) };
    let record_time = record_time(record);
    let batch = writers.batch_for(partition);
    let time = match event_model::parse(record.payload(), record_time, *window) {
        Ok(event) => {
            batch.add_row(partition, epoch, mark, record_time, &event);
            Some(event.event_timestamp)
        }
        Err(rejection) => {
            let letter = DeadLetter::refused(record, record_time, &rejection);
            batch.add_dead_letter(partition, epoch, mark, letter);
            None
        }
    };
    writers.filled(partition);
    time
}
