//! Warnings about connections that a third party could read or answer.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::host::HostConfig;

/// Warnings that were given already, since sessions are opened again and again.
#[derive(Default)]
pub(crate) struct Exposure(Mutex<BTreeSet<(String, bool)>>);

impl Exposure {
    /// Returns true the first time for a host.
    pub(crate) fn is_new(&self, host: &HostConfig, encrypted: bool) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((host.to_string(), encrypted))
    }
}
