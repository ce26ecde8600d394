//! The queue of complete segments from the dispatcher to the lake.

use std::ops::Range;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// A range of indices whose events share the files of one upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(super) number: u64,
    pub(super) range: Range<u64>,
}

/// The dispatcher's end of the queue.
#[derive(Debug)]
pub(crate) struct SegmentFeed {
    segments: Sender<Segment>,
    segment_indices: u64,
    next_segment: u64,
}

/// Result of sending segments to the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendStatus {
    /// All complete segments are sent.
    Sent,
    /// The queue is full; try again later.
    Full,
    /// The lake failed, and its task returns the error.
    Closed,
}

impl SegmentFeed {
    /// Creates a feed that starts at a segment, and the receiver of its segments.
    pub(super) fn new(segment_indices: u64, next_segment: u64) -> (Self, Receiver<Segment>) {
        let (segments, receiver) = channel(1);
        (Self { segments, segment_indices, next_segment }, receiver)
    }

    /// Sends the segments that lie completely before `next_index`.
    pub(crate) fn advance(&mut self, next_index: u64) -> SendStatus {
        while let Some(end) = self.end_of_next().filter(|end| *end <= next_index) {
            match self.send(end) {
                SendStatus::Sent => {}
                other => return other,
            }
        }
        if self.is_closed() { SendStatus::Closed } else { SendStatus::Sent }
    }

    /// Sends the remaining segments of a run that ends before `next_index`. The last one may be shorter.
    pub(crate) fn finish(&mut self, next_index: u64) -> SendStatus {
        match self.advance(next_index) {
            SendStatus::Sent if self.next_segment * self.segment_indices < next_index => self.send(next_index),
            other => other,
        }
    }

    /// Returns true if the lake failed.
    pub(crate) fn is_closed(&self) -> bool {
        self.segments.is_closed()
    }

    fn end_of_next(&self) -> Option<u64> {
        self.next_segment.checked_add(1)?.checked_mul(self.segment_indices)
    }

    fn send(&mut self, end: u64) -> SendStatus {
        let segment = Segment { number: self.next_segment, range: self.next_segment * self.segment_indices..end };
        match self.segments.try_send(segment) {
            Ok(()) => {
                self.next_segment += 1;
                SendStatus::Sent
            }
            Err(TrySendError::Full(_)) => SendStatus::Full,
            Err(TrySendError::Closed(_)) => SendStatus::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn segments_are_sent_once_and_in_order() {
        let (segments, mut received) = channel(2);
        let mut feed = SegmentFeed { segments, segment_indices: 100, next_segment: 0 };
        assert_eq!(feed.advance(99), SendStatus::Sent);
        assert_eq!(feed.advance(350), SendStatus::Full);
        assert_eq!(received.try_recv().unwrap(), Segment { number: 0, range: 0..100 });
        assert_eq!(feed.advance(350), SendStatus::Sent);
        assert_eq!(feed.finish(350), SendStatus::Full);
        assert_eq!(received.try_recv().unwrap(), Segment { number: 1, range: 100..200 });
        assert_eq!(feed.finish(350), SendStatus::Sent);
        assert_eq!(feed.finish(350), SendStatus::Sent);
        assert_eq!(received.try_recv().unwrap(), Segment { number: 2, range: 200..300 });
        assert_eq!(received.try_recv().unwrap(), Segment { number: 3, range: 300..350 });
        drop(received);
        assert_eq!(feed.advance(350), SendStatus::Closed);
    }
}
