#![expect(unsafe_code, reason = "calls of a C library")]

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{IsError, KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};

/// Returns the offset after the last record or transaction marker that the application received from a partition, or
/// [`Offset::Invalid`] if it received none.
///
/// `rdkafka`'s own function copies the positions of all assigned partitions.
///
/// # Errors
/// `UnknownPartition` if the topic has no such partition.
pub fn position<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> KafkaResult<Offset> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(topic, partition);
    // SAFETY: the client and the list are valid during the call, which writes to the list.
    let error = unsafe { sys::rd_kafka_position(client.native_ptr(), list.ptr()) };
    if error.is_error() {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    list.elements().first().map_or(Ok(Offset::Invalid), |one| one.error().map(|()| one.offset()))
}
