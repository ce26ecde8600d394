//! The data read from all stores.

use std::collections::HashMap;

use crate::Run;
use crate::database::OffsetRow;
use crate::lake::Files;
use crate::ledger::Ledger;
use crate::terms::Terms;
use crate::topic::Span;

/// Input of the equations: the run, the terms and the data read from the stores.
pub(crate) struct Evidence<'a> {
    pub(crate) run: &'a Run,
    pub(crate) terms: &'a Terms,
    pub(crate) ledger: Ledger,
    pub(crate) spans: HashMap<i32, Span>,
    pub(crate) offsets: HashMap<i32, OffsetRow>,
    pub(crate) files: Files,
    /// True if the table, the dead letters and the offsets were read.
    pub(crate) with_table: bool,
}
