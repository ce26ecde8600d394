//! Recreates the topic while the consumers run.

use std::time::{Duration, Instant};

use crate::environment::{GROUP, TOPIC};
use crate::foreign::{Event, Outcome};
use crate::plan::Who;
use crate::seat::Cause;
use crate::world::World;

/// Deadline for all consumers to exit, longer than the one of each seat.
const ALL_ENDED: Duration = Duration::from_mins(2);
/// Number of records per partition that the new topic has when the consumers first see it.
const WAITING: usize = 50;

impl World {
    /// Recreates the topic once all records are read and verified, since they are lost with it.
    ///
    /// Each consumer must stop with exit code 1 and name the reason. The flag must then accept the new topic. Returns
    /// true if all of that happened.
    pub(crate) fn recreate_topic(&mut self, partitions: i32, kind: String) -> anyhow::Result<bool> {
        let is_at_rest = self.rest()?;
        let recreated = is_at_rest && self.recreate_at_rest(partitions, kind)?;
        self.seat(Who::Generator).wanted = true;
        self.healing = false;
        Ok(recreated)
    }

    fn recreate_at_rest(&mut self, partitions: i32, kind: String) -> anyhow::Result<bool> {
        self.verify_topic(false)?;
        self.tell(&format!("recreating the topic with {partitions} partitions"));
        let members: Vec<Who> =
            self.seats.iter().filter(|seat| seat.wanted && seat.who != Who::Generator).map(|seat| seat.who).collect();
        for who in &members {
            self.seat(*who).wanted = false;
            self.seat(*who).cause = Cause::Recreated(Instant::now());
        }
        let before = self.report.findings.len();
        self.environment.delete_topic()?;
        self.environment.create_topic(partitions)?;
        // Valid records only: those committed before the consumer notices are read again, and only rows count as
        // duplicates then.
        let waiting = (0..partitions).flat_map(|partition| {
            (0..WAITING).map(move |_| {
                let event = Event::plain();
                let record = event.record(partition);
                (event, record, Outcome::Row)
            })
        });
        self.send(waiting.collect(), kind, true)?;
        let ended = self.pass_until(ALL_ENDED, |world| world.seats.iter().all(|seat| seat.program.is_none()))?;
        let honest = ended && self.report.findings.len() == before;
        self.report
            .hold("consumers stop if the topic is recreated", (!honest).then(|| "see the findings above".to_owned()));

        self.counted = Some(verifier::count(&self.stores()?, GROUP, TOPIC)?);
        let log = self.logs.join(format!("allow-recreated-topic-{}.log", self.began.elapsed().as_secs()));
        let mut accept = self.environment.consumer("run", "event_writer", false);
        accept.args(["--until-caught-up", "--allow-recreated-topic", "--log-format", "json", "--http-addr", "off"]);
        // A static member stays in the group when it exits. Its successor gets the partitions at once.
        accept.args(["--group-instance-id", "first"]);
        let said = crate::verification::finish(accept, &log)?;
        let accepted = said.is_none();
        self.report.hold("run --until-caught-up --allow-recreated-topic exits with 0", said);
        for who in members {
            self.seat(who).wanted = true;
        }
        Ok(honest && accepted)
    }
}
