//! A connection that is cut, half open, slow and late: which faults there are, and that of the lake's.

use std::time::{Duration, Instant};

use local_stack::proxy::Way;
use local_stack::{Proxy, S3};

use crate::program::{Running, publish};
use crate::servers::{Place, place};
use crate::stores::{objects_in, read_lake};

/// Until something goes through again after a fault: a client may wait long for an answer that went nowhere.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// How long each fault lasts.
const FAULT: Duration = Duration::from_secs(12);

/// One after the other; after each one what `progress` counts must grow again.
pub(crate) async fn suffer(proxy: &Proxy, progress: impl AsyncFn() -> i64) {
    for way in [Way::Closed, Way::Throttled(1_000), Way::Delayed(Duration::from_secs(2)), Way::HalfOpen] {
        let before = proxy.seen();
        proxy.set(way);
        if way == Way::Closed {
            proxy.cut();
        }
        tokio::time::sleep(FAULT).await;
        let after = proxy.seen();
        match way {
            Way::Closed => assert!(after.accepted > before.accepted, "it did not try to come back: {after:?}"),
            Way::HalfOpen => assert!(after.swallowed > before.swallowed, "{after:?}"),
            _ => assert!(after.passed > before.passed, "{after:?}"),
        }
        proxy.set(Way::Open);
        let (healed, seen) = (Instant::now(), progress().await);
        while progress().await <= seen {
            assert!(healed.elapsed() < PATIENCE, "nothing goes through after {way:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        eprintln!("{way:?}: on after {:?}", healed.elapsed());
    }
}

#[tokio::test]
#[ignore = "fault"]
async fn the_connection_to_the_lake() {
    let s3 = S3::ephemeral().unwrap();
    let proxy = Proxy::to(s3.port()).unwrap();
    let place = Place { s3: s3.access(), ..place() };
    let mut behind = place.clone();
    behind.s3.endpoint = format!("http://127.0.0.1:{}", proxy.port());
    // So dense that a segment is full, and a file due, every ten seconds.
    let mut running = Running::start(publish(&behind, "--rate 50k/s --duration 90s --no-kafka"));
    running.wait_for("run started");
    suffer(&proxy, async || objects_in(&place).await).await;
    running.wait().expect_code(0);
    let files = read_lake(&place).await;
    assert_eq!((files.raw_rows, files.raw.len()), (4_500_000, 4_500_000));
}
