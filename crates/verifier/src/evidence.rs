//! Everything that was read from the stores.

use std::collections::HashMap;

use crate::Run;
use crate::database::OffsetRow;
use crate::lake::Files;
use crate::ledger::Ledger;
use crate::terms::Terms;
use crate::topic::Span;

/// Everything that was read about a run.
pub(crate) struct Evidence<'a> {
    pub(crate) run: &'a Run,
    pub(crate) terms: &'a Terms,
    pub(crate) ledger: Ledger,
    pub(crate) spans: HashMap<i32, Span>,
    pub(crate) offsets: HashMap<i32, OffsetRow>,
    pub(crate) files: Files,
    /// Whether PostgreSQL was asked.
    pub(crate) with_table: bool,
}
