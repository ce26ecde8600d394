//! Queues between the reading thread and the writers: one open batch and one waiting batch for each writer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ingest_protocol::position::Position;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::ingest::batch::open::{Limits, OpenBatch};
use crate::ingest::messages::Command;

/// Interval between two looks at a writer that has no room for its next batch.
const BUSY_WRITER: Duration = Duration::from_millis(5);

/// Queues of all writers. A partition always belongs to the same writer, so that its records stay in order.
pub(crate) struct WriterQueues {
    writers: Vec<WriterQueue>,
    limits: Limits,
    runtime: Handle,
}

/// Queue of one writer: the batch that is being filled, and the commands that wait for the writer.
struct WriterQueue {
    open: Option<OpenBatch>,
    waiting: VecDeque<Command>,
    writer: mpsc::Sender<Command>,
}

impl WriterQueues {
    pub(crate) fn new(writers: Vec<mpsc::Sender<Command>>, limits: Limits, runtime: Handle) -> Self {
        let line = |writer| WriterQueue { open: None, waiting: VecDeque::new(), writer };
        Self { writers: writers.into_iter().map(line).collect(), limits, runtime }
    }

    fn line(&mut self, partition: i32) -> &mut WriterQueue {
        let queue = usize::try_from(partition).unwrap_or(0) % self.writers.len();
        &mut self.writers[queue]
    }

    /// Returns the batch for the partition's next record.
    pub(crate) fn batch_for(&mut self, partition: i32) -> &mut OpenBatch {
        self.line(partition).open.get_or_insert_with(|| OpenBatch::new(Instant::now()))
    }

    /// Closes the partition's batch if its last record made it full.
    pub(crate) fn filled(&mut self, partition: i32) {
        let limits = self.limits;
        let line = self.line(partition);
        if line.open.as_ref().is_some_and(|batch| batch.is_full(&limits)) {
            line.close();
            line.try_hand_over();
        }
    }

    /// Closes the batches whose interval has elapsed and whose writers have room for them. Others would only wait for
    /// earlier batches, so they continue to fill.
    pub(crate) fn close_due(&mut self, now: Instant) {
        for line in self.writers.iter_mut().filter(|line| line.has_room()) {
            if line.open.as_ref().is_some_and(|batch| batch.due(&self.limits) <= now) {
                line.close();
            }
        }
    }

    /// Closes the batches whose writers have room for them.
    pub(crate) fn close_for_idle(&mut self) {
        self.writers.iter_mut().filter(|line| line.has_room()).for_each(WriterQueue::close);
    }

    pub(crate) fn close_all(&mut self) {
        self.writers.iter_mut().for_each(WriterQueue::close);
    }

    /// Returns the time until the next batch can be due, or `Duration::MAX` if none is open.
    pub(crate) fn until_due(&self, now: Instant) -> Duration {
        let due = |line: &WriterQueue| {
            let left = line.open.as_ref()?.due(&self.limits).saturating_duration_since(now);
            Some(if line.has_room() { left } else { left.max(BUSY_WRITER) })
        };
        self.writers.iter().filter_map(due).min().unwrap_or(Duration::MAX)
    }

    /// Returns true if any writer still has a queued command.
    pub(crate) fn is_stalled(&self) -> bool {
        self.writers.iter().any(|line| !line.waiting.is_empty())
    }

    /// Hands over queued commands without waiting.
    pub(crate) fn try_hand_over(&mut self) {
        self.writers.iter_mut().for_each(WriterQueue::try_hand_over);
    }

    /// Hands over all queued commands, waiting up to `timeout`. Returns true if none is left.
    pub(crate) fn wait(&mut self, timeout: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + timeout;
        let writers = &mut self.writers;
        self.runtime.block_on(async {
            for line in writers {
                while let Some(command) = line.waiting.pop_front() {
                    match tokio::time::timeout_at(deadline, line.writer.reserve()).await {
                        Ok(Ok(permit)) => permit.send(command),
                        // The writer ended with an error, which its task returns.
                        Ok(Err(_)) => {}
                        Err(_) => {
                            line.waiting.push_front(command);
                            return false;
                        }
                    }
                }
            }
            true
        })
    }

    /// Hands over all queued commands, without a deadline: the writers themselves give up after a shutdown.
    pub(crate) fn hand_over_waiting(&mut self) {
        while !self.wait(Duration::from_secs(1)) {}
    }

    /// Transfers a partition to its writer.
    pub(crate) fn own(&mut self, partition: i32, epoch: u64, position: Position) {
        let line = self.line(partition);
        line.close();
        line.waiting.push_back(Command::Own { partition, epoch, position });
        line.try_hand_over();
    }

    /// Makes the writers release partitions, after all commands queued before. Each answer arrives once the writer has
    /// no records of the partitions in flight.
    pub(crate) fn release(&mut self, partitions: &[i32]) -> Vec<oneshot::Receiver<()>> {
        let mut answers = Vec::new();
        for line in &mut self.writers {
            let (done, answer) = oneshot::channel();
            line.waiting.push_back(Command::Release { partitions: partitions.to_vec(), done });
            line.try_hand_over();
            answers.push(answer);
        }
        answers
    }

    /// Drops the partition's records from the open batch.
    pub(crate) fn drop_partition(&mut self, partition: i32) {
        if let Some(batch) = &mut self.line(partition).open {
            batch.drop_partition(partition);
        }
    }

    /// Closes the command channels. The writers end after the commands that were handed over.
    pub(crate) fn end(&mut self) {
        self.writers.clear();
    }
}

impl WriterQueue {
    /// Returns true if a batch would not wait behind another one.
    fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.writer.capacity() > 0
    }

    fn close(&mut self) {
        if let Some(batch) = self.open.take().filter(|batch| !batch.is_empty()) {
            self.waiting.push_back(Command::Write(batch.close()));
        }
    }

    fn try_hand_over(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            match self.writer.try_send(command) {
                Ok(()) | Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full(command)) => {
                    self.waiting.push_front(command);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn a_due_batch_fills_further_while_its_writer_is_busy() {
        let (writer, mut inbox) = mpsc::channel(1);
        let limits = Limits { rows: 1_000, bytes: 1_000_000, interval: Duration::from_millis(100) };
        let mut queues = WriterQueues::new(vec![writer], limits, Handle::current());
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let read = |queues: &mut WriterQueues, next_offset| queues.batch_for(0).pass(0, 1, next_offset);
        let mut received = || match inbox.try_recv() {
            Ok(Command::Write(batch)) => Some(batch.parts[&0].next_offset),
            _ => None,
        };
        assert_eq!(queues.until_due(start), Duration::MAX);
        read(&mut queues, 1);
        assert!(queues.until_due(start) <= Duration::from_secs(1));
        queues.close_due(at(200));
        queues.try_hand_over();
        read(&mut queues, 2);
        queues.close_due(at(400));
        queues.close_for_idle();
        assert_eq!(queues.until_due(at(400)), BUSY_WRITER, "the first batch is still queued");
        assert!(!queues.is_stalled(), "reading continues");
        read(&mut queues, 3);
        assert_eq!(received(), Some(1));
        assert_eq!(queues.until_due(at(400)), Duration::ZERO);
        queues.close_due(at(400));
        queues.try_hand_over();
        assert_eq!(received(), Some(3), "both in one batch");
    }
}
