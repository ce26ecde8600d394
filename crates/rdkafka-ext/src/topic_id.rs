#![expect(unsafe_code, reason = "calls of a C library")]

use std::ffi::CString;
use std::time::Duration;
use std::{ptr, slice};

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{IsError, KafkaError, KafkaResult, RDKafkaErrorCode};
use uuid::Uuid;

/// Returns the ID that the cluster assigned to the topic on creation (KIP-516).
///
/// A topic that is deleted and recreated gets a new ID. Returns `None` if the broker has no topic IDs (Kafka before
/// 2.8). Sends one metadata request and blocks until the response or for at most `timeout`.
///
/// # Errors
/// `UnknownTopicOrPartition` if the topic does not exist, `OperationTimedOut` if there is no response.
pub fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> KafkaResult<Option<Uuid>> {
    let name = CString::new(topic).map_err(|_| failed(RDKafkaErrorCode::InvalidTopic))?;
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut names = [name.as_ptr()];
    // SAFETY: the client outlives the call. Each handle is created here, used only while it is valid and destroyed
    // once; the event is destroyed after everything has been read from it. librdkafka copies the names and the options.
    unsafe {
        let rk = client.native_ptr();
        let queue = sys::rd_kafka_queue_new(rk);
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let options = sys::rd_kafka_AdminOptions_new(rk, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        sys::rd_kafka_DescribeTopics(rk, topics, options, queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
        let event = sys::rd_kafka_queue_poll(queue, millis);
        let found = if event.is_null() { Err(failed(RDKafkaErrorCode::OperationTimedOut)) } else { id_of(event) };
        sys::rd_kafka_event_destroy(event);
        sys::rd_kafka_queue_destroy(queue);
        found
    }
}

/// Reads the ID from the response for a single topic.
///
/// # Safety
/// The event must be valid.
unsafe fn id_of(event: *mut sys::rd_kafka_event_t) -> KafkaResult<Option<Uuid>> {
    // SAFETY: the caller passes a valid event, and everything that it owns is valid.
    unsafe {
        let error = sys::rd_kafka_event_error(event);
        if error.is_error() {
            return Err(failed(error.into()));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = if result.is_null() {
            ptr::null_mut()
        } else {
            sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count)
        };
        if topics.is_null() || count == 0 {
            return Err(failed(RDKafkaErrorCode::UnknownTopicOrPartition));
        }
        let topic = slice::from_raw_parts(topics, count)[0];
        let error = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(topic));
        if error.is_error() {
            return Err(failed(error.into()));
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let halves = [sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id)];
        let id = Uuid::from_u64_pair(halves[0].cast_unsigned(), halves[1].cast_unsigned());
        Ok((!id.is_nil()).then_some(id))
    }
}

fn failed(code: RDKafkaErrorCode) -> KafkaError {
    KafkaError::MetadataFetch(code)
}
