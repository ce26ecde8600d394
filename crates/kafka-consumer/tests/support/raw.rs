//! Records that no client library sends: any timestamp, and header names of any bytes. Speaks Kafka's protocol itself.

use std::io::{Read, Write};
use std::net::TcpStream;

use local_stack::Stack;

const TOPIC: &[u8] = b"product-events";

/// A record as its bytes are sent.
#[derive(Clone, Copy, Default)]
pub(crate) struct RawRecord<'a> {
    pub(crate) partition: i32,
    pub(crate) timestamp: i64,
    pub(crate) value: &'a [u8],
    pub(crate) headers: &'a [(&'a [u8], &'a [u8])],
}

/// Sends records one by one. The broker must take each.
pub(crate) fn produce_raw(stack: &Stack, records: &[RawRecord<'_>]) {
    let mut broker = TcpStream::connect(stack.bootstrap_servers()).unwrap();
    for record in records {
        let request = produce_request(record);
        broker.write_all(&u32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
        broker.write_all(&request).unwrap();
        let mut length = [0; 4];
        broker.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        broker.read_exact(&mut answer).unwrap();
        // Correlation id, number of topics, name, number of partitions, partition, and then the error code.
        let at = 4 + 4 + 2 + TOPIC.len() + 4 + 4;
        assert_eq!(answer[at..at + 2], [0, 0], "the broker refused {} with an error code", record.timestamp);
    }
}

/// Produce, version 3, acknowledged by the leader.
fn produce_request(record: &RawRecord<'_>) -> Vec<u8> {
    let batch = batch(record);
    let mut request = Vec::new();
    request.extend([0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff]);
    request.extend([0xff, 0xff, 0, 1, 0, 0, 0x75, 0x30, 0, 0, 0, 1]);
    request.extend(u16::try_from(TOPIC.len()).unwrap().to_be_bytes());
    request.extend(TOPIC);
    request.extend(1_i32.to_be_bytes());
    request.extend(record.partition.to_be_bytes());
    request.extend(u32::try_from(batch.len()).unwrap().to_be_bytes());
    request.extend(batch);
    request
}

/// A record batch of format 2 with one record.
fn batch(record: &RawRecord<'_>) -> Vec<u8> {
    let mut fields = Vec::new();
    fields.extend([0; 6]);
    fields.extend(record.timestamp.to_be_bytes());
    fields.extend(record.timestamp.to_be_bytes());
    fields.extend([0xff; 14]);
    fields.extend(1_i32.to_be_bytes());
    let body = body(record);
    varint(&mut fields, body.len());
    fields.extend(body);

    let mut batch = vec![0; 8];
    batch.extend(u32::try_from(fields.len() + 9).unwrap().to_be_bytes());
    batch.extend([0xff, 0xff, 0xff, 0xff, 2]);
    batch.extend(crc32c(&fields).to_be_bytes());
    batch.extend(fields);
    batch
}

fn body(record: &RawRecord<'_>) -> Vec<u8> {
    // No attributes, no timestamp delta, no offset delta, and no key (length -1).
    let mut body = vec![0, 0, 0, 1];
    varint(&mut body, record.value.len());
    body.extend(record.value);
    varint(&mut body, record.headers.len());
    for part in record.headers.iter().flat_map(|(name, value)| [name, value]) {
        varint(&mut body, part.len());
        body.extend(*part);
    }
    body
}

/// A number that is not negative, zigzag-encoded.
fn varint(out: &mut Vec<u8>, number: usize) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap());
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
