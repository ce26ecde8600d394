//! A run without a lake.

use crate::program::{command, run};
use crate::servers::target;
use crate::verification::report;

#[tokio::test]
async fn the_manifest_is_on_the_host() {
    let target = target();
    let mut bare = command("--rate max --count 10k --no-lake --run-id bare --topic bare");
    bare.args(["--bootstrap-servers", &target.bootstrap_servers]).env("EVENT_GENERATOR_STATE_DIR", target.state.path());
    run(bare).expect_code(0);
    let text = std::fs::read(target.state.path().join("bare/manifest.json")).unwrap();
    let manifest = lake::Manifest::from_json("manifest.json", &text).unwrap();
    let report = report(&target, &manifest).await;
    assert!(report.holds() && manifest.lake.is_none(), "{report}");
}
