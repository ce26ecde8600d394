//! Traces: random walks of the model.

use std::collections::BTreeMap;

use anyhow::Context;
use ingest_protocol::attempts::InsertMode;
use stateright::Model;

use crate::Servers;
use crate::model::actions::{Action, End};
use crate::model::{Bounds, Fault, World};
use crate::player::Player;
use crate::support::random::Random;

/// Maximum number of steps of a trace.
const STEPS: usize = 80;

const BOUNDS: Bounds = Bounds {
    consumers: 2,
    partitions: 2,
    offsets: 4,
    changes: 8,
    faults: 6,
    kinds: &[Fault::Crash, Fault::NoAnswer, Fault::Kill, Fault::Unavailable, Fault::Recreate, Fault::Truncate],
    liveness: false,
};

/// Number of steps by kind.
pub(crate) type Coverage = BTreeMap<String, usize>;

/// Walks through the model and executes each step. In every second trace, each consumer begins with a partition. In
/// every tenth one, writers terminate the sessions that they wait for.
pub(crate) async fn walk(servers: &Servers, seed: u64, trace: i32) -> anyhow::Result<Coverage> {
    let mut random = Random(seed.wrapping_add(u64::from(trace.unsigned_abs()) << 32));
    let mut world = BOUNDS.init_states().remove(0);
    if trace % 2 == 1 {
        for action in [Action::Lose(0, 1), Action::Grant(1, 1)] {
            world = BOUNDS.next_state(&world, action).context("the second consumer has no partition")?;
        }
    }
    let mut player = Player::start(servers, trace, &world, trace % 10 == 0).await?;
    let (mut steps, mut coverage) = (Vec::new(), Coverage::new());
    while let Some(step) = next(&mut random, &player, &world).filter(|_| steps.len() < STEPS) {
        let kind = step.kind(&player, &world);
        steps.push(format!("{step:?}"));
        let outcome = match &step {
            Step::Wait(c) => player.wait(*c).await,
            Step::Take(action, after) => player.play(*action, &world, after).await,
        };
        outcome.with_context(|| format!("trace {trace} of seed {seed}, after {steps:#?}"))?;
        *coverage.entry(kind).or_default() += 1;
        if let Step::Take(_, after) = step {
            world = *after;
            anyhow::ensure!(world.violation.is_none(), "trace {trace}: {:?} after {steps:#?}", world.violation);
        }
    }
    Ok(coverage)
}

/// Step of a trace.
enum Step {
    /// An attempt begins, and waits for a lock.
    Wait(usize),
    /// An action, and the state of the model after it.
    Take(Action, Box<World>),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wait(c) => write!(f, "Wait({c})"),
            Self::Take(action, _) => write!(f, "{action:?}"),
        }
    }
}

/// Chooses the next step, or returns `None` at the end.
fn next(random: &mut Random, player: &Player<'_>, world: &World) -> Option<Step> {
    let take = |action| BOUNDS.next_state(world, action).map(|after| Step::Take(action, Box::new(after)));
    // An attempt that waits continues as soon as it can, before any other step.
    if let Some(step) = player.waiter().and_then(|c| take(Action::Attempt(c))) {
        return Some(step);
    }
    let mut actions = Vec::new();
    BOUNDS.actions(world, &mut actions);
    actions.retain(|action| is_possible(player, world, *action));
    // Waits are rare, and each is worth a step.
    let waits = |action: &&Action| matches!(action, Action::Attempt(_)) && take(**action).is_none();
    if let Some(Action::Attempt(c)) = actions.iter().find(waits).filter(|_| random.below(2) == 0) {
        return Some(Step::Wait(*c));
    }
    while !actions.is_empty() {
        let action = choose(random, &actions);
        match (take(action), action) {
            (Some(step), _) => return Some(step),
            (None, Action::Attempt(c)) => return Some(Step::Wait(c)),
            (None, _) => actions.retain(|one| *one != action),
        }
    }
    None
}

/// Returns true if real writers can take the step.
fn is_possible(player: &Player<'_>, world: &World, action: Action) -> bool {
    let waits = player.waiter().is_some();
    match action {
        // A transaction without rows has no statement between the compare-and-set and COMMIT.
        Action::End(c, End::Killed) => {
            world.transaction_of(c).is_some_and(|index| player.is_before_last_statement(index))
        }
        // A session that waits for longer than 3 s terminates the other one.
        Action::End(_, End::Abandoned) | Action::EndAbandoned(_, true) => !(waits && player.takes_over()),
        Action::End(..) | Action::EndAbandoned(..) => true,
        // A writer that owns no part of its batch needs no session.
        Action::Unavailable(c) => !waits && player.is_before_attempt(c),
        // An attempt that waits has locks that the model does not have yet.
        Action::Read(c, _) | Action::Close(c) => player.waiter() != Some(c),
        _ => !waits,
    }
}

/// Chooses an action: every other one is of a writer.
fn choose(random: &mut Random, actions: &[Action]) -> Action {
    let rank = |action: &Action| match action {
        Action::Attempt(_) | Action::End(..) | Action::EndAbandoned(..) => 0,
        Action::Grant(..) | Action::Revoke(..) | Action::Lose(..) => 1,
        Action::Crash(_) | Action::Unavailable(_) | Action::Recreate | Action::Truncate => 2,
        _ => 3,
    };
    loop {
        let wanted = random.one_of(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 3]);
        let of_rank: Vec<&Action> = actions.iter().filter(|action| rank(action) == wanted).collect();
        if !of_rank.is_empty() {
            return *random.one_of(&of_rank);
        }
    }
}

impl Step {
    /// Returns the kind of the step, with the outcome of an attempt.
    fn kind(&self, player: &Player<'_>, world: &World) -> String {
        let (action, after) = match self {
            Self::Wait(c) => return format!("Attempt: waits for an {}", awaited(*c, world)),
            Self::Take(action, after) => (action, after),
        };
        match action {
            Action::Attempt(c) => format!("Attempt: {}", outcome(*c, world, after)),
            Action::End(_, End::Killed) if player.takes_over() && player.waiter().is_some() => {
                "End(Killed) by a takeover".to_owned()
            }
            Action::EndAbandoned(_, false) if player.takes_over() && player.waiter().is_some() => {
                "EndAbandoned(false) by a takeover".to_owned()
            }
            Action::End(_, end) => format!("End({end:?})"),
            Action::EndAbandoned(_, commits) => format!("EndAbandoned({commits})"),
            other => format!("{other:?}").split('(').next().unwrap_or_default().to_owned(),
        }
    }
}

/// Describes the lock that an attempt waits for.
fn awaited(c: usize, world: &World) -> &'static str {
    let partitions = world.consumers[c].writing.iter().flat_map(|writing| writing.parts.keys().copied());
    if world.postgres.is_locked(partitions) { "offset" } else { "inserted ID" }
}

/// Describes the outcome of an attempt.
fn outcome(c: usize, before: &World, after: &World) -> &'static str {
    let (old, new) = (&before.consumers[c], &after.consumers[c]);
    if after.transaction_of(c).is_some() {
        return "inserts";
    }
    let (Some(was), Some(is)) = (&old.writing, &new.writing) else { return "nothing to write" };
    match is.attempts.mode() {
        _ if new.moved.len() > old.moved.len() => "offset moved",
        _ if is.parts.len() < was.parts.len() => "settled as committed",
        _ if is.refused != was.refused => "row refused in staged mode",
        InsertMode::Staged { chunked: false } if was.attempts.mode() == InsertMode::Copy => "unique violation",
        InsertMode::Staged { chunked: true } if was.attempts.mode() == InsertMode::Copy => "row refused in COPY",
        _ => "nothing to write",
    }
}
