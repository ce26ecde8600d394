#![expect(unsafe_code, reason = "calls of a C library")]

use std::ffi::CStr;
use std::{ptr, slice};

use rdkafka::bindings as sys;
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Name as sent by the producer, up to its first NUL byte. Kafka does not require UTF-8.
    pub name: &'a [u8],
    /// Value; `None` if it is null.
    pub value: Option<&'a [u8]>,
}

/// Returns the headers of a record in order.
///
/// `rdkafka`'s own function panics if the name of a header is not UTF-8.
#[must_use]
pub fn headers<'a>(record: &'a BorrowedMessage<'_>) -> Vec<Header<'a>> {
    let mut list = ptr::null_mut();
    // SAFETY: the message is valid while it is borrowed. It owns the list.
    let error = unsafe { sys::rd_kafka_message_headers(record.ptr(), &raw mut list) };
    if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Vec::new();
    }
    // SAFETY: the list lives as long as the message, which outlives the result.
    (0..).map_while(|index| unsafe { header(list, index) }).collect()
}

/// Returns the header at an index, or `None` past the end.
///
/// # Safety
/// The list must be valid for the lifetime of the result.
unsafe fn header<'a>(list: *const sys::rd_kafka_headers_t, index: usize) -> Option<Header<'a>> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the caller's list is valid. The three results point into it if the call succeeds.
    let error = unsafe { sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut size) };
    if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    // SAFETY: librdkafka terminates names with NUL, and a value that is not null has `size` bytes.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes();
        let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size));
        Some(Header { name, value })
    }
}
