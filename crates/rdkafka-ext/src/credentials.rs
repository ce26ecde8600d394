#![expect(unsafe_code, reason = "calls of a C library")]

use std::ffi::CString;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};

/// Replaces the user and the password that a client uses for SASL mechanisms PLAIN and SCRAM.
///
/// The client uses them the next time that it logs in, and at once if it waits to reconnect. Open connections and queued
/// records stay. Returns false if a value contains a NUL byte.
#[must_use]
pub fn set_sasl_credentials<C: ClientContext>(client: &Client<C>, user: &str, password: &str) -> bool {
    let (Ok(user), Ok(password)) = (CString::new(user), CString::new(password)) else { return false };
    // SAFETY: the client outlives the call, which copies the strings. The error, if any, is destroyed once.
    unsafe {
        let error = sys::rd_kafka_sasl_set_credentials(client.native_ptr(), user.as_ptr(), password.as_ptr());
        let accepted = error.is_null();
        if !accepted {
            sys::rd_kafka_error_destroy(error);
        }
        accepted
    }
}
