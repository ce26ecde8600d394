//! COPY of encoded rows into the table.

use std::error::Error;

use bytes::{Bytes, BytesMut};
use event_model::{COPY_COLUMNS, COPY_HEADER, COPY_TRAILER, FIELDS};
use futures_util::SinkExt;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Statement, Transaction};

use crate::failpoint;
use crate::ingest::batch::rows::Row;
use crate::postgres::{Phase, PhaseError};

/// Returns the statement that copies rows into the table.
pub(crate) fn copy_statement() -> String {
    format!("COPY staging.product_events_raw ({}) FROM STDIN (FORMAT binary)", *COPY_COLUMNS)
}

/// Returns the statement that inserts one row, given as [`copy_values`].
pub(crate) fn insert_statement() -> String {
    let values: Vec<String> = (1..=FIELDS.len()).map(|number| format!("${number}")).collect();
    format!("INSERT INTO staging.product_events_raw ({}) VALUES ({})", *COPY_COLUMNS, values.join(", "))
}

/// Value of a column in PostgreSQL's binary format, which COPY and statement parameters share.
#[derive(Debug)]
pub(crate) struct Encoded<'a>(&'a [u8]);

impl ToSql for Encoded<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Splits an encoded row into its values, each of which follows its length.
pub(crate) fn copy_values(row: &[u8]) -> Vec<Encoded<'_>> {
    let mut rest = row.get(2..).unwrap_or_default();
    let mut values = Vec::with_capacity(FIELDS.len());
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0).min(after.len());
        let (value, others) = after.split_at(length);
        values.push(Encoded(value));
        rest = others;
    }
    values
}

/// Size of a COPY message, in bytes. PostgreSQL receives a whole message before it processes the first row.
const MESSAGE: usize = 64 * 1024;

/// Sends rows as one COPY. Returns the number of inserted rows.
pub(crate) async fn copy(
    transaction: &Transaction<'_>,
    statement: &Statement,
    mut rows: Bytes,
) -> Result<u64, PhaseError> {
    if rows.is_empty() {
        return Ok(0);
    }
    // The server checks privileges and columns before it accepts rows, so such an error belongs to the statement.
    let mut sink = Box::pin(transaction.copy_in::<_, Bytes>(statement).await?);
    let sending = async {
        sink.feed(Bytes::from_static(COPY_HEADER)).await?;
        while !rows.is_empty() {
            sink.feed(rows.split_to(rows.len().min(MESSAGE))).await?;
        }
        failpoint::pass(failpoint::DURING_COPY);
        sink.feed(Bytes::from_static(COPY_TRAILER)).await?;
        sink.as_mut().finish().await
    };
    sending.await.map_err(|error| PhaseError { error, phase: Phase::Rows })
}

/// Concatenates encoded rows for COPY.
pub(crate) fn bytes_of(rows: &[Row<'_>]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(rows.iter().map(|row| row.bytes.len()).sum());
    for row in rows {
        bytes.extend_from_slice(row.bytes);
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use event_model::{EventType, ProductEvent, RequiredFields, Timestamp};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_encoded_row_has_the_values_of_the_fields() {
        let event = ProductEvent::new(RequiredFields {
            event_id: Uuid::from_u128(7),
            event_timestamp: Timestamp::from_micros(946_684_800_000_001),
            event_type: EventType::RfqSent,
            user_id: 1,
            account_id: 2,
            product_id: 3,
            category: Cow::Borrowed("tools"),
            experiment_id: Cow::Borrowed(""),
        });
        let mut row = Vec::new();
        event.write_copy_row(&mut row);
        let values = copy_values(&row);
        assert_eq!(values.len(), FIELDS.len());
        let of = |name: &str| values[FIELDS.iter().position(|field| field.name == name).unwrap()].0;
        assert_eq!(of("event_id"), Uuid::from_u128(7).as_bytes());
        assert_eq!(of("event_timestamp"), 1_i64.to_be_bytes());
        assert_eq!(
            (of("account_id"), of("category"), of("experiment_id")),
            (&2_i32.to_be_bytes()[..], &b"tools"[..], &b""[..])
        );
        assert!(copy_values(&[]).is_empty());
    }
}
