//! Transitions of the assignment, as scripts of inputs and the effects that they must have.

use std::collections::BTreeMap;

use ingest_protocol::assignment::Input::{
    Assigned, ClientReplaced, Loaded, Lost, Moved, Released, Revoked, Sought, Uncertain,
};
use ingest_protocol::assignment::{Assignment, Effect, Input, SeekOutcome};
use ingest_protocol::position::Position;

fn at(next_offset: i64) -> Position {
    Position { next_offset, incarnation: 0, last: None, lettered_up_to: 0 }
}

fn loaded(positions: &[(i32, i64)]) -> Input {
    Loaded(positions.iter().map(|(partition, next)| (*partition, at(*next))).collect::<BTreeMap<_, _>>())
}

fn moved(partition: i32, epoch: u64) -> Input {
    Moved { partition, epoch }
}

fn load(partitions: &[i32]) -> Effect {
    Effect::Load(partitions.to_vec())
}

fn own(partition: i32, epoch: u64, next_offset: i64) -> [Effect; 2] {
    [Effect::DropRecords(partition), Effect::Own { partition, epoch, position: at(next_offset) }]
}

fn assign(offsets: &[(i32, i64)]) -> [Effect; 1] {
    [Effect::Assign(offsets.to_vec())]
}

fn release(partitions: &[i32]) -> Vec<Effect> {
    let mut effects: Vec<Effect> = partitions.iter().map(|one| Effect::StopReading(*one)).collect();
    effects.push(Effect::CloseBatches);
    effects.push(Effect::Release { partitions: partitions.to_vec(), awaited: true });
    effects
}

fn lose(partitions: &[i32]) -> Vec<Effect> {
    let mut effects: Vec<Effect> = partitions.iter().map(|one| Effect::StopReading(*one)).collect();
    effects.extend(partitions.iter().map(|one| Effect::DropRecords(*one)));
    effects.push(Effect::Release { partitions: partitions.to_vec(), awaited: false });
    effects
}

fn unassign(partitions: &[i32], lost: bool) -> Effect {
    Effect::Unassign { partitions: partitions.to_vec(), lost }
}

fn seek(partition: i32, next_offset: i64) -> Effect {
    Effect::Seek { partition, next_offset }
}

fn dropped(partition: i32) -> [Effect; 2] {
    [Effect::StopReading(partition), Effect::DropRecords(partition)]
}

/// Runs a script: each input with the effects that it must have.
#[derive(Default)]
struct Script(Assignment);

impl Script {
    /// Returns a consumer that reads partitions 0 and 1 from offsets 5 and 7, under epochs 1 and 2.
    fn reading() -> Self {
        let mut script = Self::default();
        script.then(Assigned(vec![0, 1]), [load(&[0, 1])]);
        let expected = [&own(0, 1, 5)[..], &own(1, 2, 7), &assign(&[(0, 5), (1, 7)])].concat();
        script.then(loaded(&[(0, 5), (1, 7)]), expected);
        script.reads(&[(0, 1), (1, 2)]);
        script
    }

    fn then(&mut self, input: Input, expected: impl IntoIterator<Item = Effect>) {
        let mut effects = Vec::new();
        let described = format!("{input:?}");
        self.0.step(input, &mut effects);
        assert_eq!(effects, expected.into_iter().collect::<Vec<_>>(), "{described}");
    }

    /// Checks that nothing is pending and that exactly these partitions are read, under these epochs.
    fn reads(&self, expected: &[(i32, u64)]) {
        let read: Vec<(i32, u64)> = self.0.partitions().filter_map(|one| Some((one, self.0.epoch(one)?))).collect();
        assert_eq!(read, expected);
        assert!(self.0.is_settled(), "{:?}", self.0);
    }
}

#[test]
fn an_empty_assignment_is_answered() {
    let mut script = Script::default();
    script.then(Assigned(vec![]), [load(&[])]);
    script.then(loaded(&[]), assign(&[]));
    script.reads(&[]);
}

#[test]
fn partitions_are_added_and_removed() {
    let mut script = Script::reading();
    script.then(Assigned(vec![2]), [load(&[2])]);
    script.then(loaded(&[(2, 0)]), [&own(2, 3, 0)[..], &assign(&[(2, 0)])].concat());
    script.then(Revoked(vec![0]), release(&[0]));
    script.then(Released, [unassign(&[0], false)]);
    script.reads(&[(1, 2), (2, 3)]);
}

#[test]
fn a_partition_that_is_assigned_twice_gets_a_new_epoch_and_loses_its_open_records() {
    let mut script = Script::reading();
    script.then(Assigned(vec![0]), [load(&[0])]);
    script.then(loaded(&[(0, 6)]), [&own(0, 3, 6)[..], &assign(&[(0, 6)])].concat());
    script.reads(&[(0, 3), (1, 2)]);
}

#[test]
fn a_revocation_waits_until_the_positions_are_loaded() {
    let mut script = Script::default();
    script.then(Assigned(vec![0]), [load(&[0])]);
    script.then(Revoked(vec![0]), []);
    script.then(loaded(&[(0, 5)]), [&own(0, 1, 5)[..], &assign(&[(0, 5)]), &release(&[0])].concat());
    script.then(Released, [unassign(&[0], false)]);
    script.reads(&[]);
}

#[test]
fn a_loss_waits_until_the_positions_are_loaded() {
    let mut script = Script::default();
    script.then(Assigned(vec![0]), [load(&[0])]);
    script.then(Lost(vec![0]), []);
    let expected = [&own(0, 1, 5)[..], &assign(&[(0, 5)]), &lose(&[0]), &[unassign(&[0], true)]].concat();
    script.then(loaded(&[(0, 5)]), expected);
    script.reads(&[]);
}

#[test]
fn a_loss_does_not_wait_for_the_writers() {
    let mut script = Script::reading();
    script.then(Lost(vec![0, 1]), [&lose(&[0, 1])[..], &[unassign(&[0, 1], true)]].concat());
    script.reads(&[]);
}

#[test]
fn a_loss_while_another_partition_is_released_follows_the_release() {
    let mut script = Script::reading();
    script.then(Revoked(vec![0]), release(&[0]));
    script.then(Lost(vec![1]), []);
    let expected = [&[unassign(&[0], false)], &lose(&[1])[..], &[unassign(&[1], true)]].concat();
    script.then(Released, expected);
    script.reads(&[]);
}

#[test]
fn the_same_partition_is_lost_while_it_is_released() {
    let mut script = Script::reading();
    script.then(Revoked(vec![0]), release(&[0]));
    script.then(Lost(vec![0]), []);
    script.then(Released, [&[unassign(&[0], false)], &lose(&[0])[..], &[unassign(&[0], true)]].concat());
    script.reads(&[(1, 2)]);
}

#[test]
fn a_moved_partition_is_read_again_from_its_offset() {
    let mut script = Script::reading();
    script.then(moved(0, 1), [&dropped(0)[..], &[load(&[0])]].concat());
    script.then(loaded(&[(0, 9)]), [seek(0, 9)]);
    script.then(Sought(SeekOutcome::Done), own(0, 3, 9));
    script.reads(&[(0, 3), (1, 2)]);
}

#[test]
fn a_report_of_an_earlier_assignment_is_ignored() {
    let mut script = Script::reading();
    script.then(moved(0, 2), []);
    script.then(moved(3, 1), []);
    script.reads(&[(0, 1), (1, 2)]);
}

#[test]
fn a_failed_seek_is_repeated_with_a_new_position() {
    let mut script = Script::reading();
    script.then(moved(0, 1), [&dropped(0)[..], &[load(&[0])]].concat());
    script.then(loaded(&[(0, 9)]), [seek(0, 9)]);
    script.then(Sought(SeekOutcome::Failed), [load(&[0])]);
    script.then(loaded(&[(0, 10)]), [seek(0, 10)]);
    script.then(Sought(SeekOutcome::Done), own(0, 3, 10));
    script.reads(&[(0, 3), (1, 2)]);
}

#[test]
fn a_seek_in_a_partition_that_is_no_longer_assigned_ends() {
    let mut script = Script::reading();
    script.then(moved(0, 1), [&dropped(0)[..], &[load(&[0])]].concat());
    script.then(Revoked(vec![0]), []);
    script.then(loaded(&[(0, 9)]), [seek(0, 9)]);
    script.then(Sought(SeekOutcome::Unassigned), release(&[0]));
    script.then(Released, [unassign(&[0], false)]);
    script.reads(&[(1, 2)]);
}

#[test]
fn a_revoked_partition_is_not_sought() {
    let mut script = Script::reading();
    script.then(moved(0, 1), [&dropped(0)[..], &[load(&[0])]].concat());
    script.then(moved(1, 2), dropped(1));
    script.then(Revoked(vec![1]), []);
    script.then(loaded(&[(0, 9)]), [seek(0, 9)]);
    script.then(Sought(SeekOutcome::Done), [&own(0, 3, 9)[..], &release(&[1])].concat());
    script.then(Released, [unassign(&[1], false)]);
    script.reads(&[(0, 3)]);
}

#[test]
fn uncertain_positions_are_loaded_after_the_writers_have_released_them() {
    let mut script = Script::reading();
    script.then(Uncertain, release(&[0, 1]));
    script.then(Released, [load(&[0, 1])]);
    script.then(loaded(&[(0, 5), (1, 7)]), [seek(0, 5)]);
    script.then(Sought(SeekOutcome::Done), [&own(0, 3, 5)[..], &[seek(1, 7)]].concat());
    script.then(Sought(SeekOutcome::Failed), [load(&[1])]);
    script.then(loaded(&[(1, 8)]), [seek(1, 8)]);
    script.then(Sought(SeekOutcome::Done), own(1, 4, 8));
    script.reads(&[(0, 3), (1, 4)]);
}

#[test]
fn uncertainty_waits_for_the_changes_of_the_group() {
    let mut script = Script::reading();
    script.then(Revoked(vec![0]), release(&[0]));
    script.then(Uncertain, []);
    script.then(Lost(vec![1]), []);
    let expected = [&[unassign(&[0], false)], &lose(&[1])[..], &[unassign(&[1], true)], &release(&[])].concat();
    script.then(Released, expected);
    script.then(Released, []);
    script.reads(&[]);
}

#[test]
fn a_replaced_client_drops_all_partitions_and_continues_the_epochs() {
    let mut script = Script::reading();
    script.then(ClientReplaced, lose(&[0, 1]));
    script.reads(&[]);
    script.then(Assigned(vec![0]), [load(&[0])]);
    script.then(loaded(&[(0, 5)]), [&own(0, 3, 5)[..], &assign(&[(0, 5)])].concat());
    script.reads(&[(0, 3)]);
}

/// Returns the states in which a client may be replaced, the process may stop, or an outdated answer may arrive.
fn states() -> Vec<(&'static str, Assignment)> {
    let after = |inputs: Vec<Input>| {
        let mut script = Script::reading();
        for input in inputs {
            script.0.step(input, &mut Vec::new());
        }
        script.0
    };
    vec![
        ("new", Assignment::default()),
        ("reading", after(vec![])),
        ("assigning", after(vec![Assigned(vec![2])])),
        ("changes queued", after(vec![Assigned(vec![2]), Revoked(vec![0]), Lost(vec![1])])),
        ("releasing", after(vec![Revoked(vec![0])])),
        ("checking", after(vec![Uncertain])),
        ("locating", after(vec![moved(0, 1), moved(1, 2)])),
        ("seeking", after(vec![moved(0, 1), loaded(&[(0, 9)])])),
    ]
}

#[test]
fn a_client_can_be_replaced_in_each_state() {
    for (name, mut state) in states() {
        let mut effects = Vec::new();
        state.step(ClientReplaced, &mut effects);
        assert!(state.is_settled() && state.partitions().next().is_none(), "{name}: {state:?}");
        let started = effects.iter().any(|effect| {
            matches!(effect, Effect::Load(_) | Effect::Assign(_) | Effect::Unassign { .. } | Effect::Own { .. })
        });
        assert!(!started, "{name}: {effects:?}");
    }
}

#[test]
fn only_a_consumer_without_pending_changes_is_settled() {
    for (name, state) in states() {
        assert_eq!(state.is_settled(), ["new", "reading"].contains(&name), "{name}: a shutdown finds {state:?}");
    }
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    for (name, state) in states() {
        for answer in [loaded(&[(0, 90), (1, 91)]), Released, Sought(SeekOutcome::Done)] {
            let awaited = match answer {
                Loaded(_) => ["assigning", "changes queued", "locating"].contains(&name),
                Released => ["releasing", "checking"].contains(&name),
                _ => name == "seeking",
            };
            let (mut after, mut effects) = (state.clone(), Vec::new());
            after.step(answer.clone(), &mut effects);
            assert_eq!(after != state, awaited, "{name}: {answer:?}");
            assert_eq!(!effects.is_empty(), awaited, "{name}: {answer:?} {effects:?}");
        }
    }
}
