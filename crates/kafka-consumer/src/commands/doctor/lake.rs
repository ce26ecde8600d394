//! Checks the lake: connection, privileges and support for conditional writes.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lake::{ContentHash, Lake, LakeError, Put};
use pipeline_runtime::lake::LakeArgs;

use crate::commands::doctor::finding::{Finding, Findings, place};

/// Prefix of the test file's key. It has the form of a manifest's key, but only a run of that name would read it.
const PREFIX: &str = "runs/doctor-";

/// Error code of S3 for a request whose signing time differs too much from the server's clock.
const CLOCKS_DIFFER: &str = "RequestTimeTooSkewed";

pub(crate) async fn examine(args: &LakeArgs) -> Vec<Finding> {
    let mut lines = Findings::of("lake");
    let lake = match args.open().await {
        Ok(lake) => lake,
        Err(error) => {
            let found = format!("{error:#}");
            let mend = if found.contains(CLOCKS_DIFFER) {
                "set this machine's clock (timedatectl set-ntp true): the store's is more than 15 minutes away"
            } else {
                "see docs/security.md for the rights, and --lake"
            };
            lines.bad("open and list it", found, mend);
            return lines.lines;
        }
    };
    lines.good("open and list it", place(lake.url()));
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let key = format!("{PREFIX}{millis}.json");
    let wrote = write(&lake, &key, &mut lines).await;
    if wrote && let Err(error) = lake.remove(&key).await {
        let mend = format!("give s3:DeleteObject on runs/*, and remove {key}");
        lines.warn("remove a file", error.to_string(), mend);
    }
    lines.lines
}

/// Writes two different files under the same key; the store must reject the second. Returns true if a file may exist.
async fn write(lake: &Lake, key: &str, lines: &mut Findings) -> bool {
    let put = async |text: &'static str| {
        lake.put_new(key, Bytes::from_static(text.as_bytes()), ContentHash::of_bytes(text.as_bytes())).await
    };
    match put("{\"doctor\": 1}\n").await {
        Ok(_) => lines.good("write a file", key.to_owned()),
        Err(error @ LakeError::Denied { .. }) => {
            let mend =
                "nothing for a consumer, which only reads there; event-generator needs s3:PutObject (docs/security.md)";
            lines.warn("write a file", error.to_string(), mend);
            return false;
        }
        Err(error) => {
            lines.bad("write a file", error.to_string(), "see that the store is well and has room");
            return true;
        }
    }
    match put("{\"doctor\": 2}\n").await {
        Err(LakeError::Conflict { .. }) => {
            lines.good("write it once more, where there is none", "refused, as it must be");
        }
        Ok(Put::Written | Put::AlreadyThere) => lines.bad(
            "write it once more, where there is none",
            "the store takes it: it ignores If-None-Match, so two runs of one name would overwrite each other's files",
            "use a store that honours conditional writes (S3, MinIO, SeaweedFS 4, Ceph 19)",
        ),
        Err(error) => lines.bad("write it once more, where there is none", error.to_string(), "see the line above"),
    }
    true
}
