//! Ends all faults and waits until the pipeline has recovered and is idle.

use std::time::{Duration, Instant};

use crate::plan::Who;
use crate::seat::Seat;
use crate::world::World;

/// Deadline for the programs to reconnect and catch up. A writer waits 90 s for an answer that was swallowed, then
/// retries each transient error of the owner's triggers five times with backoff before it rejects a row.
const RECOVERY: Duration = Duration::from_secs(150);
/// Deadline for loading all remaining records.
pub(crate) const CATCH_UP: Duration = Duration::from_mins(2);
/// Interval between two queries of the lag.
const LOOK: Duration = Duration::from_secs(1);
const END_OF_A_PROGRAM: Duration = Duration::from_secs(30);
/// Maximum number of attempts to end the generator's run. In each but the last, the generator may exit with code 1
/// because of an outage.
const ATTEMPTS: u32 = 4;

impl World {
    /// Ends all faults, waits until the pipeline is idle and stops the programs.
    pub(crate) fn heal(&mut self) -> anyhow::Result<()> {
        self.tell("healing");
        self.rest()?;
        self.end_of_the_members()
    }

    /// Ends all faults and the generator's run. Returns true once the consumers have read everything.
    pub(crate) fn rest(&mut self) -> anyhow::Result<bool> {
        self.healing = true;
        self.lasting.iter_mut().for_each(|one| one.until = Instant::now());
        for seat in &mut self.seats {
            seat.next_failpoint = None;
            if !seat.is_free() {
                seat.kill()?;
            }
        }
        self.recover()?;
        self.end_of_the_generator()?;
        let began = Instant::now();
        let caught_up =
            self.pass_until(CATCH_UP, |world| world.environment.behind().is_ok_and(|behind| behind == 0))?;
        self.tell(&format!(
            "caught up: {caught_up}, {:.1} s after the end of the generator",
            began.elapsed().as_secs_f64()
        ));
        let left = self.environment.behind()?;
        let said = (!caught_up).then(|| format!("{left} records behind"));
        self.report.hold(&format!("caught up within {} s", CATCH_UP.as_secs()), said);
        Ok(caught_up)
    }

    /// Waits until all faults are undone and the programs have recovered without help.
    fn recover(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut next_look = began;
        let recovered = self.pass_until(RECOVERY, |world| {
            if Instant::now() < next_look || !world.lasting.is_empty() || !world.seats.iter().all(Seat::is_settled) {
                return false;
            }
            next_look = Instant::now() + LOOK;
            world.environment.behind().is_ok_and(|behind| behind < world.environment.in_flight())
        })?;
        self.tell(&format!("recovered: {recovered}, after {:.1} s", began.elapsed().as_secs_f64()));
        let said = (!recovered).then(|| format!("{:?} records behind", self.environment.behind()));
        self.report.hold(&format!("recovered within {} s", RECOVERY.as_secs()), said);
        // Until then a program may still exit with code 1 because of an outage.
        self.pass_until(RECOVERY, |world| !world.seats.iter().any(|seat| world.is_troubled(seat.who)))?;
        Ok(())
    }

    fn end_of_the_generator(&mut self) -> anyhow::Result<()> {
        for _ in 0..ATTEMPTS {
            self.seats[0].wanted = true;
            self.pass_until(END_OF_A_PROGRAM, |world| world.seats[0].is_settled() && world.has_open_run())?;
            self.seats[0].wanted = false;
            self.seats[0].terminate()?;
            self.pass_until(END_OF_A_PROGRAM, |world| world.seats[0].program.is_none())?;
            if !self.has_open_run() {
                break;
            }
        }
        let open = self.has_open_run().then(|| "its run is not finished".to_owned());
        self.report.hold("generator shuts down", open);
        Ok(())
    }

    fn end_of_the_members(&mut self) -> anyhow::Result<()> {
        let before = self.report.findings.len();
        for seat in &mut self.seats {
            seat.wanted = false;
            seat.terminate()?;
        }
        let ended = self.pass_until(END_OF_A_PROGRAM, |world| world.seats.iter().all(|seat| seat.program.is_none()))?;
        let honest = ended && self.report.findings.len() == before;
        self.report.hold("consumers shut down", (!honest).then(|| "see the findings above".to_owned()));
        Ok(())
    }
}

impl Seat {
    /// Returns true if the program works undisturbed, or if no consumer is wanted here.
    fn is_settled(&self) -> bool {
        match &self.program {
            Some(_) => self.is_free() && self.works(),
            None => !self.wanted && self.who != Who::Generator,
        }
    }
}
