//! Statement parameters and identifiers.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use event_model::Timestamp;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// Microseconds from 1970-01-01 to 2000-01-01, from which PostgreSQL counts.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A timestamp as a `timestamptz`, exact to the microsecond in every year. Arithmetic in SQL is not exact: PostgreSQL
/// multiplies intervals as floating-point numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamptz(pub(crate) Timestamp);

impl ToSql for Timestamptz {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0.micros().saturating_sub(POSTGRES_EPOCH_MICROS));
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

/// Address of a version of a row (`tid`), as its six bytes in the binary format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowAddress([u8; 6]);

impl ToSql for RowAddress {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(TID);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for RowAddress {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(bytes.try_into()?))
    }

    accepts!(TID);
}

/// Converts a count to `bigint`. A larger value becomes the maximum.
pub(crate) fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Quotes an identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
