//! A run without a lake.

use crate::program::{command, run};
use crate::servers::target;
use crate::verification::report;

#[tokio::test]
async fn the_manifest_is_on_the_host() {
    let target = target();
    let bare = || {
        let mut bare = command("--rate max --count 10k --no-lake --run-id bare --topic bare");
        bare.args(["--bootstrap-servers", &target.bootstrap_servers]);
        bare.env("EVENT_GENERATOR_STATE_DIR", target.state.path());
        bare
    };
    run(bare()).expect_code(0);
    let file = target.state.path().join("bare/manifest.json");
    let text = std::fs::read(&file).unwrap();
    let manifest = lake::Manifest::from_json("manifest.json", &text).unwrap();
    let report = report(&target, &manifest).await;
    assert!(report.holds() && manifest.lake.is_none(), "{report}");
    // Another start would replace the manifest with that of other events.
    run(bare()).expect_error(2, &["bare/manifest.json records 10000 events", "--republish"]);
    assert_eq!(std::fs::read(&file).unwrap(), text);
}
