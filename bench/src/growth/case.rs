//! Cases of the growth benchmark.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    /// Millions of rows in the table.
    Rows(u64),
    /// Number of consumers in the group.
    Consumers(usize),
    /// Bytes added to each record.
    Padding(u64),
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::Rows(millions) => format!("{millions}M rows in the table"),
            Self::Consumers(1) => "1 consumer".to_owned(),
            Self::Consumers(members) => format!("{members} consumers"),
            Self::Padding(0) => "no padding".to_owned(),
            Self::Padding(bytes) => format!("{bytes} B of padding"),
        })
    }
}
