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
            let fix = if found.contains(CLOCKS_DIFFER) {
                "run 'timedatectl set-ntp true': this machine's clock and the store's differ by over 15 minutes"
            } else {
                "check --lake, and grant the privileges in docs/security.md"
            };
            lines.bad("list files", found, fix);
            return lines.lines;
        }
    };
    lines.good("list files", place(lake.url()));
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let key = format!("{PREFIX}{millis}.json");
    let wrote = write(&lake, &key, &mut lines).await;
    if wrote && let Err(error) = lake.remove(&key).await {
        let fix = format!("grant s3:DeleteObject on runs/*, and delete {key}");
        lines.warn("delete a file", error.to_string(), fix);
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
            let fix = "grant s3:PutObject to event-generator (docs/security.md); kafka-consumer only reads";
            lines.warn("write a file", error.to_string(), fix);
            return false;
        }
        Err(error) => {
            lines.bad("write a file", error.to_string(), "check that the store is available and has free space");
            return true;
        }
    }
    match put("{\"doctor\": 2}\n").await {
        Err(LakeError::Conflict { .. }) => {
            lines.good("conditional write", "honored");
        }
        Ok(Put::Written | Put::AlreadyThere) => lines.bad(
            "conditional write",
            "the store ignores If-None-Match: two runs with the same name would overwrite each other's files",
            "use a store that honors conditional writes (S3, MinIO, SeaweedFS 4, Ceph 19)",
        ),
        Err(error) => lines.bad("conditional write", error.to_string(), "fix the finding above"),
    }
    true
}
