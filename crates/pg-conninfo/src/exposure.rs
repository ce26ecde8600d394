//! Warnings about connections that a third party could read or intercept.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::host::HostConfig;

/// Warnings that were already logged, so that reopened sessions do not repeat them.
#[derive(Default)]
pub(crate) struct Exposure(Mutex<BTreeSet<(String, bool)>>);

impl Exposure {
    /// Returns true on the first call for a host and a value of `encrypted`.
    pub(crate) fn is_new(&self, host: &HostConfig, encrypted: bool) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((host.to_string(), encrypted))
    }
}
