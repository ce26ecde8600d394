//! Warnings about connections that somebody between could read or answer.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::host::Place;
use super::target::Protection;

/// What was warned of already, since sessions are opened again and again.
#[derive(Default)]
pub(super) struct Exposure(Mutex<BTreeSet<(String, bool)>>);

impl Protection {
    /// Says, before a password goes there, what protects it less than `verify-ca` would. Nobody stands between within
    /// one machine.
    pub(super) fn warn_of(&self, place: &Place, encrypted: bool) {
        if place.is_local() || (encrypted && self.verified) || !self.exposure.is_new(place, encrypted) {
            return;
        }
        let (host, sslmode) = (place.to_string(), self.mode.to_string());
        if encrypted {
            tracing::warn!(
                host,
                sslmode,
                "the server's certificate is not checked: another server could take its place"
            );
        } else {
            tracing::warn!(host, sslmode, "not encrypted: whoever is on the way can read password and data");
        }
    }
}

impl Exposure {
    fn is_new(&self, place: &Place, encrypted: bool) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((place.to_string(), encrypted))
    }
}
