//! A consumer: the state machines, and what executes their effects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ingest_protocol::assignment::{Assignment, Effect, Input, SeekOutcome};
use ingest_protocol::attempts::Attempts;
use ingest_protocol::ownership::Ownership;
use ingest_protocol::position::{Position, RecordPosition};

use super::kafka;

/// Part of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Part {
    pub(crate) epoch: u64,
    pub(crate) version: u8,
    pub(crate) next_offset: i64,
    pub(crate) last: Option<RecordPosition>,
    pub(crate) entries: Vec<i64>,
}

pub(crate) type Parts = BTreeMap<i32, Part>;

/// Command of the source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Command {
    Own { partition: i32, epoch: u64, position: Position },
    Release { partitions: Vec<i32>, awaited: bool },
    Write(Parts),
}

/// Batch that the writer writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writing {
    pub(crate) parts: Parts,
    pub(crate) attempts: Attempts,
    pub(crate) refused: BTreeSet<(i32, i64)>,
}

/// Answer that the source waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wait {
    Nothing,
    /// The positions are not read yet.
    Positions(Vec<i32>),
    /// The positions are read, and may be outdated when they arrive.
    Loaded(BTreeMap<i32, Position>),
    Writers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SessionState {
    Closed,
    Open,
    /// The session was terminated or abandoned.
    Dead,
}

/// Next offset that a client fetches, and the version of the topic that it reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fetch {
    pub(crate) next_offset: i64,
    pub(crate) version: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Consumer {
    /// Incremented with each start of the process.
    pub(crate) life: u8,
    /// The process ended because the topic is another one.
    pub(crate) stopped: bool,
    /// The operator allowed a recreated topic.
    pub(crate) allows_new_topic: bool,
    /// Partitions that the group assigned.
    pub(crate) granted: BTreeSet<i32>,
    pub(crate) assignment: Assignment,
    pub(crate) wait: Wait,
    /// Version of the topic that the positions were checked against last.
    pub(crate) located: u8,
    /// Number of partitions that were owned so far. Only the properties use it.
    pub(crate) owned: u8,
    pub(crate) fetches: BTreeMap<i32, Fetch>,
    /// Epoch and next offset of each reader.
    pub(crate) readers: BTreeMap<i32, (u64, i64)>,
    pub(crate) open: Parts,
    pub(crate) queue: VecDeque<Command>,
    pub(crate) writer: Ownership,
    /// Epochs that the writer was told last, and the number of the command. Only the properties use it.
    pub(crate) told: BTreeMap<i32, (u64, u8)>,
    pub(crate) writing: Option<Writing>,
    pub(crate) session: SessionState,
    /// Partitions and epochs of the reports about moved offsets.
    pub(crate) moved: VecDeque<(i32, u64)>,
}

impl Consumer {
    pub(crate) fn new(life: u8, allows_new_topic: bool) -> Self {
        Self {
            life,
            stopped: false,
            allows_new_topic,
            granted: BTreeSet::new(),
            assignment: Assignment::default(),
            wait: Wait::Nothing,
            located: 0,
            owned: 0,
            fetches: BTreeMap::new(),
            readers: BTreeMap::new(),
            open: Parts::new(),
            queue: VecDeque::new(),
            writer: Ownership::default(),
            told: BTreeMap::new(),
            writing: None,
            session: SessionState::Closed,
            moved: VecDeque::new(),
        }
    }

    /// Passes an input to the assignment and executes the effects.
    pub(crate) fn step(&mut self, input: Input, seek_fails: bool) {
        let mut effects = Vec::new();
        self.assignment.step(input, &mut effects);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if let Some(outcome) = self.execute(effect, seek_fails) {
                let mut later = Vec::new();
                self.assignment.step(Input::Sought(outcome), &mut later);
                effects.extend(later);
            }
        }
        self.run_commands();
    }

    fn execute(&mut self, effect: Effect, seek_fails: bool) -> Option<SeekOutcome> {
        match effect {
            Effect::Load(partitions) => self.wait = Wait::Positions(partitions),
            Effect::StopReading(partition) => drop(self.readers.remove(&partition)),
            Effect::DropRecords(partition) => drop(self.open.remove(&partition)),
            Effect::CloseBatches => self.close(),
            Effect::Release { partitions, awaited } => {
                self.queue.push_back(Command::Release { partitions, awaited });
                if awaited {
                    self.wait = Wait::Writers;
                }
            }
            Effect::Own { partition, epoch, position } => {
                self.readers.insert(partition, (epoch, position.next_offset));
                self.queue.push_back(Command::Own { partition, epoch, position });
            }
            Effect::Assign(offsets) => {
                for (partition, next_offset) in offsets {
                    // A record that arrives before the partition has a reader is outside of its queue, and lost.
                    let outside = i64::from(!self.readers.contains_key(&partition));
                    let fetch = Fetch { next_offset: next_offset + outside, version: self.located };
                    self.fetches.insert(partition, fetch);
                }
            }
            Effect::Seek { partition, next_offset } => match self.fetches.get_mut(&partition) {
                None => return Some(SeekOutcome::Unassigned),
                Some(_) if seek_fails => return Some(SeekOutcome::Failed),
                Some(fetch) => {
                    *fetch = Fetch { next_offset, version: self.located };
                    return Some(SeekOutcome::Done);
                }
            },
            Effect::Unassign { partitions, .. } => {
                self.fetches.retain(|partition, _| !partitions.contains(partition));
            }
        }
        None
    }

    /// Closes the open batch and hands it over.
    pub(crate) fn close(&mut self) {
        let parts = std::mem::take(&mut self.open);
        if !parts.is_empty() {
            self.queue.push_back(Command::Write(parts));
        }
    }

    /// Lets an idle writer execute its commands up to the next batch. Their order with steps of others does not matter.
    pub(crate) fn run_commands(&mut self) {
        while self.writing.is_none() {
            match self.queue.pop_front() {
                None => return,
                Some(Command::Own { partition, epoch, position }) => {
                    self.writer.own(partition, epoch, position);
                    self.owned += 1;
                    self.told.insert(partition, (epoch, self.owned));
                }
                Some(Command::Release { partitions, .. }) => {
                    for partition in partitions {
                        self.writer.release(partition);
                        self.told.remove(&partition);
                    }
                }
                Some(Command::Write(parts)) => {
                    self.writing = Some(Writing { parts, attempts: Attempts::default(), refused: BTreeSet::new() });
                }
            }
        }
    }

    /// Returns true if the writers have answered the release that the source waits for.
    pub(crate) fn has_released(&self) -> bool {
        let is_awaited = |command: &Command| matches!(command, Command::Release { awaited: true, .. });
        self.wait == Wait::Writers && !self.queue.iter().any(is_awaited)
    }

    /// Reads the next entry of a partition.
    pub(crate) fn read(&mut self, partition: i32) {
        let (Some(fetch), Some((epoch, next))) = (self.fetches.get_mut(&partition), self.readers.get_mut(&partition))
        else {
            return;
        };
        let offset = fetch.next_offset;
        fetch.next_offset += 1;
        if offset < *next {
            return;
        }
        *next = offset + 1;
        let (epoch, version) = (*epoch, fetch.version);
        let new = || Part { epoch, version, next_offset: 0, last: None, entries: Vec::new() };
        let part = self.open.entry(partition).or_insert_with(new);
        part.next_offset = part.next_offset.max(offset + 1);
        part.entries.push(offset);
        part.last = kafka::position(version, partition, offset).or(part.last);
    }

    /// Returns true if nothing is left to do for the records that were read.
    pub(crate) fn is_idle(&self) -> bool {
        self.assignment.is_settled()
            && self.wait == Wait::Nothing
            && self.open.is_empty()
            && self.queue.is_empty()
            && self.writing.is_none()
            && self.moved.is_empty()
    }
}
