//! Threads that make blocks, whose results come back in the order of the blocks.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use thiserror::Error;
use workload::Source;

use crate::failpoint::{BEFORE_BLOCK, pass};
use crate::pipeline::block::Block;
use crate::pipeline::block_plan::Cut;

/// Blocks that a thread may be ahead.
const AHEAD: usize = 4;

/// Worker threads. Thread n of N makes blocks n, n + N, n + 2N, …, so that taking from one after the other gives all of
/// them in order. They end when this is dropped.
#[derive(Debug)]
pub struct Makers {
    cut: Cut,
    lanes: Vec<Receiver<Block>>,
    next: u64,
}

/// A thread that makes blocks is gone, and has said why on its own.
#[derive(Debug, Error)]
#[error("a thread that makes events broke down at block {0}; please report this with the message above")]
pub struct MakerGone(u64);

impl Makers {
    /// Starts `threads` threads. Fails if the system has no more.
    pub fn start(source: &Arc<Source>, cut: Cut, threads: u16, records: bool) -> io::Result<Self> {
        let mut lanes = Vec::with_capacity(threads.into());
        for lane in 0..threads {
            let (blocks, made) = sync_channel(AHEAD);
            let source = Arc::clone(source);
            let own = (u64::from(lane)..).step_by(threads.into());
            thread::Builder::new().name(format!("make-{lane}")).spawn(move || {
                make(&source, own.map_while(|number| cut.block(number)), records, &blocks);
            })?;
            lanes.push(made);
        }
        Ok(Self { cut, lanes, next: 0 })
    }

    /// The next block, none after the last. Waits until it is made.
    pub fn next_block(&mut self) -> Result<Option<Block>, MakerGone> {
        let number = self.next;
        if self.cut.block(number).is_none() {
            return Ok(None);
        }
        self.next += 1;
        let lane = usize::try_from(number % self.lanes.len() as u64).unwrap_or(0);
        self.lanes[lane].recv().map(Some).map_err(|_| MakerGone(number))
    }
}

fn make(
    source: &Source,
    ranges: impl Iterator<Item = std::ops::Range<u64>>,
    records: bool,
    blocks: &SyncSender<Block>,
) {
    for range in ranges {
        pass(BEFORE_BLOCK);
        if blocks.send(Block::make(source, range, records)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::*;
    use crate::pipeline::block_counts::tests::source;
    use crate::pipeline::block_plan::Pace;

    fn all(threads: u16) -> Vec<u8> {
        let source = Arc::new(source(&["invalid=5%", "corrupt=5%", "duplicate=5%"]));
        let cut = Cut::new(Pace::Max, "1/s".parse().unwrap(), Some(20_000));
        let mut makers = Makers::start(&source, cut, threads, true).unwrap();
        let mut bytes = Vec::new();
        let mut next = 0;
        while let Some(block) = makers.next_block().unwrap() {
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
        let one = all(1);
        assert!(!one.is_empty());
        assert!(one == all(2) && one == all(7));
    }
}
