//! Warnings about connections that a third party could read or answer.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::host::HostConfig;
use crate::tls::Protection;

/// Warnings that were given already, since sessions are opened again and again.
#[derive(Default)]
pub(crate) struct Exposure(Mutex<BTreeSet<(String, bool)>>);

impl Protection {
    /// Warns, before a password goes to a host, of a protection weaker than that of `verify-ca`. Within one machine there is
    /// no third party.
    pub(crate) fn warn_of(&self, host: &HostConfig, encrypted: bool) {
        if host.is_local() || (encrypted && self.verified) || !self.exposure.is_new(host, encrypted) {
            return;
        }
        let (host, sslmode) = (host.to_string(), self.mode.to_string());
        if encrypted {
            tracing::warn!(host, sslmode, "server certificate is not checked: another server could take its place");
        } else {
            tracing::warn!(host, sslmode, "connection is not encrypted: password and data can be read on the way");
        }
    }
}

impl Exposure {
    fn is_new(&self, host: &HostConfig, encrypted: bool) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((host.to_string(), encrypted))
    }
}
