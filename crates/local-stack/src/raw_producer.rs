//! A producer that sends records no client library sends: any timestamp, and header names of any bytes. It encodes
//! Kafka's protocol itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// Deadline for the broker's answer to one record, and for the election of a leader.
const ANSWER: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);
/// Error codes of a partition without a leader: unknown topic or partition, leader not available, not leader.
const NO_LEADER: [i16; 3] = [UNKNOWN_PARTITION, 5, 6];
const UNKNOWN_PARTITION: i16 = 3;

/// Polynomial of CRC-32C in reversed bit order.
const CASTAGNOLI: u32 = 0x82f6_3b78;

/// A record as encoded on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawRecord {
    /// Partition.
    pub partition: i32,
    /// Timestamp; Kafka expects milliseconds since 1970.
    pub timestamp: i64,
    /// Key, if any.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Vec<u8>,
    /// Names and values of the headers.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A connection to the only broker of a cluster.
pub struct RawProducer<'a> {
    broker: TcpStream,
    topic: &'a str,
}

impl<'a> RawProducer<'a> {
    /// Connects to a broker at `HOST:PORT`.
    pub fn connect(address: &str, topic: &'a str) -> anyhow::Result<Self> {
        let broker = TcpStream::connect(address).with_context(|| format!("cannot connect to Kafka at {address}"))?;
        broker.set_nodelay(true)?;
        broker.set_read_timeout(Some(ANSWER))?;
        Ok(Self { broker, topic })
    }

    /// Sends a record and returns its offset once it is acknowledged. Retries while the partition has no leader.
    pub fn send(&mut self, record: &RawRecord) -> anyhow::Result<i64> {
        let deadline = Instant::now() + ANSWER;
        loop {
            let (code, offset) = self.attempt(record)?;
            if code == 0 {
                return Ok(offset);
            }
            let may_retry = NO_LEADER.contains(&code) && Instant::now() < deadline;
            let RawRecord { partition, timestamp, .. } = record;
            ensure!(
                code != UNKNOWN_PARTITION || may_retry,
                "cannot send a record: Kafka has no partition {partition} of topic {}; start event-generator, which \
                 creates the topic, or choose another partition",
                self.topic,
            );
            ensure!(may_retry, "Kafka rejected a record with timestamp {timestamp}: error code {code}");
            sleep(PAUSE);
        }
    }

    /// Sends a record once. Returns the broker's error code and the record's offset.
    fn attempt(&mut self, record: &RawRecord) -> anyhow::Result<(i16, i64)> {
        let request = produce_request(self.topic, record);
        self.broker.write_all(&[length(&request).to_be_bytes().as_slice(), &request].concat())?;
        let mut size = [0; 4];
        self.broker.read_exact(&mut size).context("no response from Kafka to a record")?;
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(size))?];
        self.broker.read_exact(&mut answer)?;
        // Correlation ID, number of topics, name, number of partitions and partition ID come first.
        let (_, rest) = answer.split_at_checked(18 + self.topic.len()).context("truncated response from Kafka")?;
        let (code, rest) = rest.split_first_chunk().context("truncated response from Kafka")?;
        let (offset, _) = rest.split_first_chunk().context("truncated response from Kafka")?;
        Ok((i16::from_be_bytes(*code), i64::from_be_bytes(*offset)))
    }
}

/// Encodes a Produce request, version 3, with acks from all in-sync replicas.
fn produce_request(topic: &str, record: &RawRecord) -> Vec<u8> {
    let batch = batch(record);
    // API key, version, correlation ID, no client ID.
    let mut request = vec![0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff];
    // No transactional ID, acks -1, a timeout of 30 s, one topic.
    request.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0x75, 0x30, 0, 0, 0, 1]);
    request.extend(u16::try_from(topic.len()).unwrap_or(u16::MAX).to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend(record.partition.to_be_bytes());
    request.extend(length(&batch).to_be_bytes());
    request.extend(batch);
    request
}

/// Encodes a record batch of format 2 with one record.
fn batch(record: &RawRecord) -> Vec<u8> {
    // No attributes, and 0 as the offset of the last record within the batch.
    let mut fields = vec![0; 6];
    fields.extend(record.timestamp.to_be_bytes());
    fields.extend(record.timestamp.to_be_bytes());
    // No producer ID, epoch or sequence.
    fields.extend([0xff; 14]);
    fields.extend(1_i32.to_be_bytes());
    let body = body(record);
    varint(&mut fields, body.len());
    fields.extend(body);

    let mut batch = vec![0; 8];
    batch.extend((length(&fields) + 9).to_be_bytes());
    batch.extend([0xff, 0xff, 0xff, 0xff, 2]);
    batch.extend(crc32c(&fields).to_be_bytes());
    batch.extend(fields);
    batch
}

fn body(record: &RawRecord) -> Vec<u8> {
    // No attributes, no timestamp delta, no offset delta.
    let mut body = vec![0; 3];
    match &record.key {
        Some(key) => field(&mut body, key),
        // -1, zigzag-encoded.
        None => body.push(1),
    }
    field(&mut body, &record.value);
    varint(&mut body, record.headers.len());
    for part in record.headers.iter().flat_map(|(name, value)| [name, value]) {
        field(&mut body, part);
    }
    body
}

/// Appends the length of the bytes, then the bytes.
fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len());
    out.extend(bytes);
}

/// Appends a non-negative number as a zigzag-encoded varint.
fn varint(out: &mut Vec<u8>, number: usize) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ CASTAGNOLI } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_and_numbers_are_kafkas() {
        // Check value of CRC-32C.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let encoded = |number| {
            let mut out = Vec::new();
            varint(&mut out, number);
            out
        };
        assert_eq!([0, 63, 64, 300].map(encoded), [vec![0], vec![126], vec![128, 1], vec![216, 4]]);
    }
}
