//! Three consumers that leave and join while they share a topic.

use std::thread;
use std::time::{Duration, Instant};

use super::stage::{Stage, TOPIC_OF_SIXTEEN};
use crate::programs::committed;
use crate::run::Run;
use crate::watched::Watched;

const MEMBERS: usize = 3;
/// Interval between two changes of the group's membership.
const TURN: Duration = Duration::from_secs(3);
/// Interval between two counts of the committed records.
const LOOK: Duration = Duration::from_millis(20);

/// Reads the topic to its end. The time runs from the first committed record to the last, as for a single consumer.
pub(crate) fn consume(stage: &Stage, group: &str) -> Run {
    let mut members: [Option<Watched>; MEMBERS] = [None, None, None];
    let mut gone = Vec::new();
    members[0] = Some(start(stage, group));
    members[1] = Some(start(stage, group));
    let (mut first_row, mut next_turn, mut turn) = (None, Instant::now() + TURN, MEMBERS - 1);
    let rows = loop {
        let rows = committed(&stage.environment.stack, group);
        if rows > 0 && first_row.is_none() {
            first_row = Some((Instant::now(), rows));
            next_turn = Instant::now() + TURN;
        }
        if rows >= stage.events {
            break rows;
        }
        if Instant::now() >= next_turn {
            let place = turn % MEMBERS;
            match members[place].take() {
                Some(member) => gone.push(member.stop()),
                None => members[place] = Some(start(stage, group)),
            }
            turn += 1;
            next_turn += TURN;
        }
        thread::sleep(LOOK);
    };
    let (began, before) = first_row.expect("rows");
    let elapsed = began.elapsed();
    gone.extend(members.into_iter().flatten().map(Watched::stop));
    eprintln!("    {turn} membership changes, {} members in total", gone.len());
    Run {
        items: rows - before,
        elapsed,
        cpu_seconds: gone.iter().map(|one| one.cpu_seconds).sum(),
        server_cpu_seconds: 0.0,
        peak_memory_kib: gone.iter().map(|one| one.peak_memory_kib).max().unwrap_or(0),
    }
}

fn start(stage: &Stage, group: &str) -> Watched {
    Watched::start(&mut stage.live_consumer(group, TOPIC_OF_SIXTEEN))
}
