//! Dead-letter limit: a flood of rejected records is a fault of the producer or the table, and stops the consumer.

use std::fmt;

use crate::postgres::bigint;

/// Maximum number of dead letters among consecutive records of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetterLimit {
    /// Maximum number of dead letters in the window.
    pub(crate) maximum: u64,
    /// Number of consecutive records of the group, over all partitions.
    pub(crate) window: u64,
    /// Number of dead letters beyond the limit that this process accepts.
    pub(crate) allowance: u64,
}

impl DeadLetterLimit {
    /// Returns the indices of the new dead letters that exceed the limit. `earlier` and `new` hold positions in the
    /// group's sequence of records, in ascending order.
    pub(crate) fn excess(self, earlier: &[i64], new: &[i64]) -> Vec<usize> {
        let all: Vec<i64> = earlier.iter().chain(new).copied().collect();
        let window = bigint(self.window);
        let mut start = 0;
        let mut excess = Vec::new();
        for (end, position) in all.iter().enumerate() {
            while all[start] <= position - window {
                start += 1;
            }
            let within = (end - start + 1) as u64;
            if end >= earlier.len() && within > self.maximum {
                excess.push(end - earlier.len());
            }
        }
        excess
    }
}

/// The dead letter that exceeds the limit.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterLimitExceeded {
    pub(crate) limit: DeadLetterLimit,
    /// Partition of its record.
    pub(crate) partition: i32,
    /// Offset of its record.
    pub(crate) offset: i64,
    /// Reason of the rejection.
    pub(crate) reason: String,
}

impl fmt::Display for DeadLetterLimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, partition, offset, reason } = self;
        write!(
            f,
            "dead-letter limit exceeded: more than {} of the last {} records were rejected, the latest at offset {offset} \
             of partition {partition}: {reason}; its batch was rolled back; list the others with `kafka-consumer \
             dead-letters list`, fix the producer or the table, or allow N more with --allow-dead-letters N",
            limit.maximum, limit.window
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_the_maximum_and_no_more() {
        let limit = DeadLetterLimit { maximum: 2, window: 10, allowance: 0 };
        assert_eq!(limit.excess(&[], &[0, 1]), Vec::<usize>::new());
        assert_eq!(limit.excess(&[], &[0, 1, 9]), [2]);
        assert_eq!(limit.excess(&[], &[0, 1, 10]), Vec::<usize>::new());
        assert_eq!(limit.excess(&[0, 1], &[9, 11]), [0]);
        assert_eq!(limit.excess(&[0, 1], &[11, 12, 13]), [2]);
    }
}
