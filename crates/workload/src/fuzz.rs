//! Fuzz target: the settings that are texts.

use crate::{Effect, EventRate, ExperimentEffect, FaultShare, RunTag, Shape, Share};

#[test]
fn settings() {
    fuzz::check("settings", |input: &[u8]| {
        let Ok(text) = str::from_utf8(input) else { return };
        fuzz::reads_back::<Effect>(text);
        fuzz::reads_back::<EventRate>(text);
        fuzz::reads_back::<FaultShare>(text);
        fuzz::reads_back::<RunTag>(text);
        fuzz::reads_back::<Shape>(text);
        fuzz::reads_back::<Share>(text);
        let _ = text.parse::<ExperimentEffect>();
        if let Ok(rate) = text.parse::<EventRate>() {
            assert!(rate.due(0) == 0 && rate.events_within(0) == 0 && rate.due(u64::MAX) > 0);
        }
    });
}
