//! Faults of a connection: cut, half open, slow, delayed; and the connection to the lake with each.

use std::time::{Duration, Instant};

use local_stack::proxy::ProxyMode;
use local_stack::{Proxy, S3};

use crate::program::{Running, publish};
use crate::servers::{Target, target};
use crate::stores::{objects_in, read_lake};

/// Time for a recovery. A client may wait long for a response that was lost.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(2);
/// Duration of each fault.
const FAULT: Duration = Duration::from_secs(12);

/// Injects each fault in turn. After each of them `progress` must grow again.
pub(crate) async fn inject_faults(proxy: &Proxy, progress: impl AsyncFn() -> i64) {
    for way in [
        ProxyMode::Closed,
        ProxyMode::Throttled(1_000),
        ProxyMode::Delayed(Duration::from_secs(2)),
        ProxyMode::HalfOpen,
    ] {
        let before = proxy.seen();
        proxy.set(way);
        if way == ProxyMode::Closed {
            proxy.cut();
        }
        tokio::time::sleep(FAULT).await;
        let after = proxy.seen();
        match way {
            ProxyMode::Closed => assert!(after.accepted > before.accepted, "no new connection: {after:?}"),
            ProxyMode::HalfOpen => assert!(after.swallowed > before.swallowed, "{after:?}"),
            _ => assert!(after.passed > before.passed, "{after:?}"),
        }
        proxy.set(ProxyMode::Open);
        let (healed, seen) = (Instant::now(), progress().await);
        while progress().await <= seen {
            assert!(healed.elapsed() < TIMEOUT, "no progress after {way:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        eprintln!("{way:?}: recovered after {:?}", healed.elapsed());
    }
}

#[tokio::test]
#[ignore = "fault"]
async fn the_connection_to_the_lake() {
    let s3 = S3::ephemeral().unwrap();
    let proxy = Proxy::to(s3.port()).unwrap();
    let target = Target { s3: s3.access(), ..target() };
    let mut behind = target.clone();
    behind.s3.endpoint = format!("http://127.0.0.1:{}", proxy.port());
    // At this rate a segment is complete every ten seconds.
    let mut running = Running::start(publish(&behind, "--rate 50k/s --duration 90s --no-kafka"));
    running.wait_for("run started");
    inject_faults(&proxy, async || objects_in(&target).await).await;
    running.wait().expect_code(0);
    let files = read_lake(&target).await;
    assert_eq!((files.raw_rows, files.raw.len()), (4_500_000, 4_500_000));
}
