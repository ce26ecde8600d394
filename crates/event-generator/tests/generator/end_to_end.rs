//! Runs against real servers: the stores hold what the manifest counts.

use std::collections::{BTreeMap, BTreeSet};

use lake::{End, Manifest};
use workload::{Fault, FaultKind, RunTag, Settings, Source};

use crate::program::{command, publish, run};
use crate::servers::target;
use crate::stores::{read_lake, read_topic};

const FAULTS: &str =
    "--fault invalid=1%,corrupt=0.5%,duplicate=2%,oversize=0.1%,late=1%,out-of-order=1%,hot-key=1%,burst=2%";

fn source_of(manifest: &Manifest) -> Source {
    let settings: Settings = serde_json::from_value(manifest.settings.clone()).unwrap();
    Source::new(settings).unwrap()
}

#[tokio::test]
async fn every_event_is_where_the_manifest_says() {
    let target = target();
    let done = run(publish(&target, &format!("--rate max --count 200k {FAULTS}"))).expect_code(0);
    let files = read_lake(&target).await;
    assert_eq!(files.manifests.len(), 1, "the draft is gone");
    let manifest = &files.manifests[0];
    let source = source_of(manifest);
    let topic = read_topic(&target, source.run_tag());

    // Expected contents, from the source alone.
    let faults: Vec<Option<Fault>> = (0..200_000).map(|index| source.make(index).fault).collect();
    let of = |wanted: fn(Option<Fault>) -> bool| -> BTreeSet<u64> {
        (0..).zip(&faults).filter(|(_, fault)| wanted(**fault)).map(|(index, _)| index).collect()
    };
    let invalid = of(|fault| matches!(fault, Some(Fault::Invalid(_))));
    let corrupt = of(|fault| matches!(fault, Some(Fault::Corrupt(_) | Fault::Oversize(_))));
    let kind = |wanted| faults.iter().flatten().filter(|fault| fault.kind() == wanted).count() as u64;
    let valid: BTreeSet<u64> = (0..200_000).filter(|i| !invalid.contains(i) && !corrupt.contains(i)).collect();
    let mut times: BTreeMap<u64, u64> = valid.iter().map(|index| (*index, 1)).collect();
    for (index, fault) in (0..).zip(&faults) {
        match fault {
            Some(Fault::Duplicate) => *times.get_mut(&index).unwrap() += 1,
            Some(Fault::FarDuplicate(back)) => *times.get_mut(&(index - back)).unwrap() += 1,
            _ => {}
        }
    }
    let copies = kind(FaultKind::Duplicate);

    assert_eq!(
        topic.events.iter().map(|(index, times)| (*index, u64::from(*times))).collect::<BTreeMap<_, _>>(),
        times
    );
    assert_eq!(topic.corrupt.iter().copied().collect::<BTreeSet<_>>(), corrupt);
    assert_eq!(topic.records, (valid.len() + corrupt.len()) as u64 + copies);
    assert_eq!(topic.end_offsets.len(), 6);
    assert!(topic.in_order);
    let headers = [("run".to_owned(), source.run_tag().to_string()), ("schema".to_owned(), "1".to_owned())];
    assert_eq!(topic.headers, headers);
    assert_eq!(files.raw, valid);
    assert_eq!(files.raw_rows, valid.len() as u64);
    assert_eq!(files.quarantine.iter().map(|row| row.event_index).collect::<BTreeSet<_>>(), invalid);
    for row in &files.quarantine {
        let Some(Fault::Invalid(kind)) = faults[usize::try_from(row.event_index).unwrap()] else { panic!() };
        assert_eq!(row.reason_codes, [kind.reason().code()]);
        assert_eq!(row.fields, [kind.field()]);
    }

    let kafka = manifest.kafka.as_ref().unwrap();
    assert_eq!((kafka.records, &kafka.end_offsets), (topic.records, &topic.end_offsets));
    assert_eq!((manifest.end, manifest.next_index), (Some(End::CountReached), 200_000));
    assert_eq!(manifest.counts.outcomes.valid, valid.len() as u64);
    assert_eq!(manifest.counts.outcomes.invalid, invalid.len() as u64);
    assert_eq!(manifest.counts.outcomes.corrupt, corrupt.len() as u64);
    let counted = &manifest.counts.faults;
    for (kind_of, counted) in [
        (FaultKind::Invalid, counted.invalid),
        (FaultKind::Corrupt, counted.corrupt),
        (FaultKind::Duplicate, counted.duplicate),
        (FaultKind::Oversize, counted.oversize),
        (FaultKind::Late, counted.late),
        (FaultKind::OutOfOrder, counted.out_of_order),
        (FaultKind::HotKey, counted.hot_key),
        (FaultKind::Burst, counted.burst),
    ] {
        assert!(counted > 0 && counted == kind(kind_of), "{kind_of}: {counted}");
    }
    assert_eq!(manifest.discrepancies(), Vec::<String>::new());

    let ended = done.line("run ended");
    assert_eq!(ended["events"], 200_000);
    assert_eq!(ended["records_acknowledged"], topic.records);
    assert_eq!(ended["raw_rows"], files.raw_rows);
    assert_eq!(ended["run"], manifest.run.id.as_str());
    assert_eq!(done.line("run started")["seed"], manifest.settings["seed"]);
}

#[tokio::test]
async fn the_same_settings_are_the_same_run() {
    let (one, from) = (target(), (now_micros() / 3_600_000_000 - 2) * 3_600_000_000);
    let other = one.with_other_lake();
    let from = event_model::Timestamp::from_micros(from + 3_540_000_000).to_string();
    let flags = format!("--rate max --count 60k --seed 7 --from {from} {FAULTS}");
    run(publish(&one, &format!("{flags} --threads 1"))).expect_code(0);
    run(publish(&other, &format!("{flags} --threads 3"))).expect_code(0);
    let (a, b) = (read_lake(&one).await, read_lake(&other).await);
    let files = |files: &crate::stores::Files| -> Vec<(String, u64)> {
        let data = files.objects.iter().filter(|(key, _)| !key.starts_with("runs/"));
        data.map(|(key, size)| (key.clone(), *size)).collect()
    };
    assert_eq!(files(&a), files(&b));
    let two =
        "two segments, raw and quarantine: the first in two hours, and late events of the second in the hour before";
    assert_eq!(files(&a).len(), 7, "{two}");
    assert_eq!(a.manifests[0].counts, b.manifests[0].counts);
    assert_eq!(a.manifests[0].settings, b.manifests[0].settings);
    assert_eq!(a.manifests[0].run, b.manifests[0].run);

    // A finished run is published again only on request.
    let run_id = a.manifests[0].run.id.as_str().to_owned();
    let tag: RunTag = run_id.parse().unwrap();
    let sent = read_topic(&one, tag).records;
    run(publish(&one, &flags)).expect_error(2, &[&run_id, "finished", "--republish"]);
    assert_eq!(read_topic(&one, tag).records, sent);
    run(publish(&one, &format!("{flags} --republish"))).expect_code(0);
    assert_eq!(read_topic(&one, tag).records, sent / 2 * 3);
    let again = read_lake(&one).await;
    assert_eq!(files(&again), files(&a));
    assert_eq!(again.manifests[0].counts, a.manifests[0].counts);

    // A sample is reproducible.
    let sample = run(command(&format!("sample -n 3 --seed 7 --from {from}"))).expect_code(0);
    assert_eq!(sample.stdout.lines().count(), 3);
    let again = run(command(&format!("sample -n 3 --seed 7 --from {from}"))).expect_code(0);
    assert_eq!(sample.stdout, again.stdout);
}

fn now_micros() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_micros()).unwrap()
}

#[tokio::test]
async fn a_live_run_keeps_its_schedule() {
    let target = target();
    let done = run(publish(&target, "--rate 500/s --duration 3s --fault invalid=5% --no-headers")).expect_code(0);
    let ended = done.line("run ended");
    assert_eq!(ended["events"], 1_500);
    let seconds = ended["elapsed_seconds"].as_f64().unwrap();
    assert!((2.9..20.0).contains(&seconds), "{seconds}");
    assert!(ended["lateness_p99_micros"].is_u64(), "{ended}");
    let manifest = &read_lake(&target).await.manifests[0];
    let topic = read_topic(&target, source_of(manifest).run_tag());
    assert_eq!(topic.records, manifest.counts.outcomes.valid);
    assert_eq!(topic.headers, []);
}

/// Backfills an hour, then follows for ten seconds.
#[tokio::test]
async fn a_backfill_goes_live_without_a_gap() {
    let target = target();
    let begun = now_micros();
    let [from, to] =
        [begun - 3_600_000_000, begun + 10_000_000].map(|at| event_model::Timestamp::from_micros(at).to_string());
    let flags = format!("--rate max --event-rate 20/s --from {from} --follow --to {to}");
    let done = run(publish(&target, &flags)).expect_code(0);
    assert!(now_micros() >= begun + 9_900_000, "the last event is not due earlier");
    let ended = done.line("run ended");
    assert_eq!(ended["events"], 3_610 * 20);
    assert!(ended["lateness_max_micros"].as_u64().unwrap() < 3_000_000_000, "a backfilled event is not late: {ended}");
    let files = read_lake(&target).await;
    let topic = read_topic(&target, source_of(&files.manifests[0]).run_tag());
    assert!(topic.events.into_iter().eq((0..3_610 * 20).map(|index| (index, 1))));
    assert_eq!(files.raw_rows, 3_610 * 20);
}

#[tokio::test]
async fn each_sink_can_do_without_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut only_lake = command("--rate max --count 50k --no-kafka --run-id alone --lake");
    only_lake.arg(format!("file://{}", folder.path().display()));
    let ended = run(only_lake).expect_code(0).line("run ended");
    assert_eq!((&ended["raw_rows"], &ended["records_acknowledged"]), (&50_000.into(), &serde_json::Value::Null));
    assert!(folder.path().join("runs/alone.json").is_file());

    let target = target();
    let mut only_kafka = command("--rate max --count 50k --no-lake");
    only_kafka.args(["--bootstrap-servers", &target.bootstrap_servers, "--topic", &target.topic]);
    let ended = run(only_kafka).expect_code(0).line("run ended");
    assert_eq!((&ended["raw_rows"], &ended["records_acknowledged"]), (&serde_json::Value::Null, &50_000.into()));
}
