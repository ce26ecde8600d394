//! Threads that generate blocks, returned in the order of their numbers.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use thiserror::Error;
use workload::Source;

use super::block::Block;
use super::block_plan::BlockPlan;
use crate::failpoint::{BEFORE_BLOCK, pass};

/// Maximum number of finished blocks per thread.
const BLOCKS_AHEAD: usize = 4;

/// Worker threads. Thread n of N generates blocks n, n + N, n + 2N, …, so receiving from the threads in turn yields all
/// blocks in order. Dropping this ends the threads.
#[derive(Debug)]
pub(super) struct Workers {
    plan: BlockPlan,
    receivers: Vec<Receiver<Block>>,
    next: u64,
}

/// A worker thread panicked.
#[derive(Debug, Error)]
#[error("a worker thread panicked at block {0}; report it with the message above")]
pub(crate) struct WorkerGone(u64);

impl Workers {
    /// Starts the threads. Without `records` they only validate and count events.
    pub(super) fn start(source: &Arc<Source>, plan: BlockPlan, threads: u16, records: bool) -> io::Result<Self> {
        let mut receivers = Vec::with_capacity(threads.into());
        for worker in 0..threads {
            let (blocks, receiver) = sync_channel(BLOCKS_AHEAD);
            let source = Arc::clone(source);
            let numbers = (u64::from(worker)..).step_by(threads.into());
            thread::Builder::new().name(format!("worker-{worker}")).spawn(move || {
                generate(&source, numbers.map_while(|number| plan.block(number)), records, &blocks);
            })?;
            receivers.push(receiver);
        }
        Ok(Self { plan, receivers, next: 0 })
    }

    /// Waits for the next block. Returns `None` after the last one.
    pub(super) fn next_block(&mut self) -> Result<Option<Block>, WorkerGone> {
        let number = self.next;
        if self.plan.block(number).is_none() {
            return Ok(None);
        }
        self.next += 1;
        let worker = usize::try_from(number % self.receivers.len() as u64).unwrap_or(0);
        self.receivers[worker].recv().map(Some).map_err(|_| WorkerGone(number))
    }
}

fn generate(source: &Source, ranges: impl Iterator<Item = Range<u64>>, records: bool, blocks: &SyncSender<Block>) {
    for range in ranges {
        pass(BEFORE_BLOCK);
        if blocks.send(Block::generate(source, range, records)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::clock::Pace;
    use crate::test_source::source;

    fn all_bytes(threads: u16) -> Vec<u8> {
        let source = Arc::new(source(&["invalid=5%", "corrupt=5%", "duplicate=5%"]));
        let plan = BlockPlan::new(Pace::Max, "1/s".parse().unwrap(), Some(20_000));
        let mut workers = Workers::start(&source, plan, threads, true).unwrap();
        let mut bytes = Vec::new();
        let mut next = 0;
        while let Some(block) = workers.next_block().unwrap() {
            assert_eq!(block.range.start, next);
            next = block.range.end;
            for record in &block.records {
                bytes.extend_from_slice(block.key(record));
                bytes.extend_from_slice(block.value(record));
            }
        }
        assert_eq!(next, 20_000);
        bytes
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let one = all_bytes(1);
        assert!(!one.is_empty());
        assert!(one == all_bytes(2) && one == all_bytes(7));
    }
}
