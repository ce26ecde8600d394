//! Selects the lake files of a rebuild.

use std::collections::BTreeSet;
use std::time::SystemTime;

use anyhow::anyhow;
use futures_util::{StreamExt, TryStreamExt, stream};
use lake::{Lake, LakeError, Object, RAW_PREFIX, RawObject};
use pipeline_runtime::lake::with_hint;

use crate::commands::rebuild::outcome::HourRange;

/// Maximum number of files without an extension whose first bytes are fetched concurrently.
const AT_ONCE: usize = 8;
/// Lists the Parquet files that may hold events of the hours, in the order of their keys.
///
/// Only the names that event-generator gives determine the hour. Every other file is read for its events, because a
/// program that rewrites files may put any hour into any folder.
pub(crate) async fn list(lake: &Lake, hours: HourRange) -> anyhow::Result<Vec<Object>> {
    let objects = lake.list(RAW_PREFIX).await.map_err(with_hint)?;
    let mut found = false;
    let (mut files, mut unclear) = (Vec::new(), Vec::new());
    for object in objects {
        match RawObject::of(&object) {
            RawObject::Own { hour } if !hours.hold(hour) => found = true,
            RawObject::Own { .. } | RawObject::Foreign => files.push(object),
            RawObject::Unclear => unclear.push(object),
            RawObject::Ignored => {}
        }
    }
    let checked =
        stream::iter(unclear).map(|object| async { anyhow::Ok(is_parquet(lake, &object).await?.then_some(object)) });
    let parquet: Vec<Option<Object>> = checked.buffered(AT_ONCE).try_collect().await?;
    files.extend(parquet.into_iter().flatten());
    files.sort_unstable();
    if files.is_empty() && !found {
        return Err(anyhow!("no Parquet files under {RAW_PREFIX} in {}; correct --lake", lake.url()));
    }
    Ok(files)
}

/// Returns true if a file is Parquet, or if it cannot be fetched and therefore has to be reported.
async fn is_parquet(lake: &Lake, object: &Object) -> anyhow::Result<bool> {
    match lake.get_start(&object.key, RawObject::MAGIC_BYTES).await {
        Ok(start) => Ok(start.is_some_and(|start| RawObject::is_parquet(&start))),
        Err(error) if concerns_one_file(&error) => Ok(true),
        Err(error) => Err(with_hint(error)),
    }
}

/// Returns true if an error leaves the other files readable.
pub(crate) fn concerns_one_file(error: &LakeError) -> bool {
    use LakeError::{BadFile, Denied, Io, Key, Refused};
    matches!(error, BadFile { .. } | Denied { .. } | Io { .. } | Key { .. } | Refused { .. })
}

/// Returns the files to load. Omits those that an earlier attempt loaded, unless they changed after it began.
pub(crate) fn remaining(files: Vec<Object>, done: &BTreeSet<String>, began: SystemTime) -> Vec<String> {
    let changed = |file: &Object| file.modified.is_some_and(|modified| modified > began);
    let left = files.into_iter().filter(|file| !done.contains(&file.key) || changed(file));
    left.map(|file| file.key).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_is_read_again_if_it_changed_after_the_beginning() {
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let file = |key: &str, modified: Option<u64>| Object {
            key: key.to_owned(),
            size: 1,
            modified: modified.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        };
        let files = vec![
            file("new", Some(1)),
            file("done", Some(999)),
            file("at once", Some(1_000)),
            file("changed", Some(1_001)),
            file("unknown", None),
        ];
        let done = ["done", "at once", "changed", "unknown"].map(str::to_owned).into();
        assert_eq!(remaining(files, &done, began), ["new", "changed"]);
    }
}
