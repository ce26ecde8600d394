//! Recognition of Parquet files below `raw/`, including those that other programs wrote.

use event_model::Hour;

use crate::keys::{Key, RAW_PREFIX};
use crate::store::Object;

/// File name extensions of Parquet files.
const EXTENSIONS: [&str; 4] = [".parquet", ".parq", ".pqt", ".pq"];
/// File name extensions of files compressed as a whole. No reader supports such Parquet files.
const COMPRESSED: [&str; 8] = [".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz", ".lz4", ".br"];
/// Size of the smallest Parquet file in bytes: two magic numbers and the length of the footer.
const SMALLEST_FILE: u64 = 12;

/// Kind of an object below `raw/`, derived from its name and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawObject {
    /// A file named by event-generator. It has the events of one hour.
    Own {
        /// Hour of the events.
        hour: Hour,
    },
    /// A Parquet file with another name, which does not reveal the hours of its events.
    Foreign,
    /// A file that only its content identifies as Parquet or not: see [`RawObject::is_parquet`].
    Unclear,
    /// Not data: a folder marker, or a hidden name such as `_SUCCESS`, `_delta_log/…` or `.part.crc`.
    Ignored,
}

impl RawObject {
    /// Number of bytes that [`RawObject::is_parquet`] needs.
    pub const MAGIC_BYTES: u64 = 4;

    /// Classifies an object listed below `raw/`.
    #[must_use]
    pub fn of(object: &Object) -> Self {
        if let Ok(Key::Raw { hour, .. }) = object.key.parse() {
            return Self::Own { hour };
        }
        let path = object.key.strip_prefix(RAW_PREFIX).unwrap_or(&object.key);
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        if name.is_empty() || path.split('/').any(is_hidden) {
            return Self::Ignored;
        }
        if has_parquet_extension(&name) {
            Self::Foreign
        } else if object.size < SMALLEST_FILE {
            Self::Ignored
        } else {
            Self::Unclear
        }
    }

    /// Returns true if a file that starts with these bytes is Parquet, encrypted or not.
    #[must_use]
    pub fn is_parquet(start: &[u8]) -> bool {
        start.starts_with(b"PAR1") || start.starts_with(b"PARE")
    }
}

/// Follows Hadoop, Spark and Hive: a leading `_` hides a name unless it is the name of a partition column.
fn is_hidden(part: &str) -> bool {
    part.starts_with('.') || (part.starts_with('_') && !part.contains('='))
}

fn has_parquet_extension(name: &str) -> bool {
    let ends_in = |name: &str, extensions: &[&str]| extensions.iter().any(|extension| name.ends_with(extension));
    let compressed = || {
        let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
        ends_in(name, &COMPRESSED) && ends_in(stem, &EXTENSIONS)
    };
    ends_in(name, &EXTENSIONS) || compressed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use event_model::Timestamp;

    use super::*;

    fn kind(key: &str, size: u64) -> RawObject {
        RawObject::of(&Object { key: key.to_owned(), size, modified: None })
    }

    #[test]
    fn own_names_tell_the_hour() {
        let hour = "2026-11-22T09:00:00Z".parse::<Timestamp>().unwrap().hour();
        for size in [0, 4000] {
            assert_eq!(
                kind("raw/event_date=2026-11-22/hour=09/r-00000007.parquet", size),
                RawObject::Own { hour },
                "{size}"
            );
        }
    }

    #[test]
    fn other_parquet_files_are_recognised_wherever_they_are() {
        for key in [
            "raw/event_date=2026-11-22/hour=09/part-0.parquet",
            "raw/event_date=2026-11-22/hour=09/part-00000-0b1c-c000.snappy.parquet",
            "raw/event_date=2026-11-22/hour=09/compacted.parquet",
            "raw/event_date=2026-11-22/hour=9/r-00000007.parquet",
            "raw/event_date=2026-11-22/r-00000007.parquet",
            "raw/event_date=2026-11-22/hour=09/event_type=rfq_sent/part-0.parquet",
            "raw/_day=22/part-0.parquet",
            "raw/part-0.PARQUET",
            "raw/a/b/c/d.parq",
            "raw/part-0.pq",
            "raw/part-0.parquet.gz",
            "raw//part-0.parquet",
        ] {
            for size in [0, 4000] {
                assert_eq!(kind(key, size), RawObject::Foreign, "{key} of {size} bytes");
            }
        }
    }

    #[test]
    fn only_content_decides_without_an_extension() {
        for key in
            ["raw/event_date=2026-11-22/hour=09/20261122_000000_00012_abcde", "raw/000000_0", "raw/a.parquet.bak"]
        {
            assert_eq!(kind(key, 4000), RawObject::Unclear, "{key}");
            assert_eq!(kind(key, 11), RawObject::Ignored, "{key}");
        }
        assert!(RawObject::is_parquet(b"PAR1\x15\x00") && RawObject::is_parquet(b"PARE"));
        assert!(!RawObject::is_parquet(b"PAR") && !RawObject::is_parquet(b"{\"a\": 1}"));
    }

    #[test]
    fn hidden_names_and_markers_are_ignored() {
        for key in [
            "raw/",
            "raw/event_date=2026-11-22/",
            "raw/_SUCCESS",
            "raw/_delta_log/00000000000000000010.checkpoint.parquet",
            "raw/event_date=2026-11-22/hour=09/_temporary/0/part-0.parquet",
            "raw/event_date=2026-11-22/hour=09/.part-0.parquet.crc",
            "raw/.hoodie/metadata/files.parquet",
        ] {
            assert_eq!(kind(key, 4000), RawObject::Ignored, "{key}");
        }
    }
}
