//! Lists of partitions in log lines.

use std::fmt;

/// Shows partitions in ascending order as ranges, such as `[0-5, 7]`.
pub(crate) struct PartitionList(Vec<i32>);

impl PartitionList {
    pub(crate) fn of(partitions: &[i32]) -> Self {
        let mut sorted = partitions.to_vec();
        sorted.sort_unstable();
        Self(sorted)
    }
}

impl fmt::Display for PartitionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, range) in self.0.chunk_by(|one, next| one + 1 == *next).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            match range {
                [first, .., last] => write!(f, "{separator}{first}-{last}")?,
                one => write!(f, "{separator}{}", one[0])?,
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbors_form_a_range() {
        let text = |partitions: &[i32]| PartitionList::of(partitions).to_string();
        assert_eq!(text(&[]), "[]");
        assert_eq!(text(&[7]), "[7]");
        assert_eq!(text(&[4, 0, 1, 7, 3]), "[0-1, 3-4, 7]");
        assert_eq!(text(&(0..2_000).collect::<Vec<_>>()), "[0-1999]");
    }
}
