//! A place that one of our programs has: it is started there again whenever it has ended, and each end must be an honest one.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::plan::Who;
use crate::program::{Program, signal};
use crate::report::Report;

/// A program that was asked to ends within 10 s; the rest is for a busy machine.
const ORDERLY_END: Duration = Duration::from_secs(15);
/// After so much time without getting to its failpoint it is killed anyhow.
const FAILPOINT_TIMEOUT: Duration = Duration::from_secs(45);
/// Deadline for noticing that the topic is another one.
const NOTICE: Duration = Duration::from_secs(45);
/// Between an end and the next start.
const BREATH: Duration = Duration::from_millis(500);

/// What the program's end will have been caused by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    Nothing,
    Killed,
    Terminated(Instant),
    /// The topic under its feet was deleted and recreated: it must stop and name the reason.
    Recreated(Instant),
    /// Dies at a place; when it was asked to end in order to get there.
    Failpoint(Armed, Option<Instant>),
}

/// A place where a program will die.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Armed {
    pub(crate) point: &'static str,
    /// At which pass.
    pub(crate) pass: u32,
    /// The fault's row in the report.
    pub(crate) kind: String,
}

/// A program's place.
pub(crate) struct Seat {
    pub(crate) who: Who,
    pub(crate) program: Option<Program>,
    pub(crate) cause: Cause,
    /// Whether somebody should sit there.
    pub(crate) wanted: bool,
    /// It goes on with a run whose end is decided, and ends there.
    pub(crate) ends_by_itself: bool,
    /// For the next start.
    pub(crate) next_failpoint: Option<Armed>,
    next_start: Instant,
    starts: u32,
    logs: PathBuf,
}

/// How a program ended.
pub(crate) struct End {
    /// With exit code 0.
    pub(crate) finished: bool,
    /// Whether it had been asked to.
    pub(crate) asked: bool,
}

impl Seat {
    pub(crate) fn new(who: Who, wanted: bool, logs: PathBuf) -> Self {
        let cause = Cause::Nothing;
        let next_start = Instant::now();
        let program = None;
        Self { who, program, cause, wanted, ends_by_itself: false, next_failpoint: None, next_start, starts: 0, logs }
    }

    pub(crate) fn name(&self) -> &'static str {
        if self.who == Who::Generator { "event-generator" } else { "kafka-consumer" }
    }

    /// Whether it runs and nothing is being done to it.
    pub(crate) fn is_free(&self) -> bool {
        self.program.is_some() && self.cause == Cause::Nothing
    }

    /// Whether it came so far that an outage would be waited out.
    pub(crate) fn works(&self) -> bool {
        self.program.as_ref().is_some_and(has_started)
    }

    /// Whether a program should be started here now.
    pub(crate) fn is_vacant(&self) -> bool {
        self.wanted && self.program.is_none() && Instant::now() >= self.next_start
    }

    pub(crate) fn start(&mut self, mut command: Command) -> anyhow::Result<()> {
        self.starts += 1;
        self.cause = Cause::Nothing;
        if let Some(armed) = self.next_failpoint.take() {
            command.env("FAILPOINTS", format!("{}=kill@{}", armed.point, armed.pass));
            self.cause = Cause::Failpoint(armed, None);
        }
        let log = self.logs.join(format!("{}-{:03}.log", self.who, self.starts));
        self.program = Some(Program::start(command, log)?);
        Ok(())
    }

    /// Looks whether the program has ended and whether it did so honestly. `troubled`: what it needs was not all there of late.
    pub(crate) fn look(&mut self, troubled: bool, report: &mut Report) -> anyhow::Result<Option<End>> {
        let name = self.name();
        let Some(program) = &mut self.program else { return Ok(None) };
        let status = program.ended()?;
        report.peak(name, program.peak);
        let Some(status) = status else {
            self.is_late(report)?;
            return Ok(None);
        };
        let cause = std::mem::replace(&mut self.cause, Cause::Nothing);
        let is_through = self.ends_by_itself && status.success();
        if !is_through && let Some(wrong) = wrong_end(program, status, &cause, troubled, report) {
            let (log, words) = (program.log().display(), program.last_words());
            report.find(format!("{} ended with {status}, {wrong} ({log}): {words}", self.who));
        }
        self.program = None;
        self.next_start = Instant::now() + BREATH;
        let asked = matches!(cause, Cause::Terminated(_));
        if let (Cause::Failpoint(armed, None), Some(1)) = (cause, status.code()) {
            // It found no servers; the next one may come as far.
            self.next_failpoint = Some(armed);
        }
        Ok(Some(End { finished: status.success(), asked }))
    }

    /// Asks the program to end, unless it was killed and only has to be reaped.
    pub(crate) fn terminate(&mut self) -> anyhow::Result<()> {
        let Some(program) = self.program.as_ref().filter(|_| self.cause != Cause::Killed) else { return Ok(()) };
        signal(program.pid(), "TERM")?;
        match &mut self.cause {
            Cause::Failpoint(.., asked) => *asked = Some(Instant::now()),
            cause => *cause = Cause::Terminated(Instant::now()),
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let Some(program) = &self.program else { return Ok(()) };
        signal(program.pid(), "KILL")?;
        self.cause = Cause::Killed;
        Ok(())
    }

    /// One that was asked to end and does not is killed after a while, and one that never comes to its failpoint, too.
    fn is_late(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let Some(program) = &self.program else { return Ok(()) };
        match self.cause {
            Cause::Terminated(since) | Cause::Failpoint(.., Some(since)) if since.elapsed() > ORDERLY_END => {
                let log = program.log().display();
                report.find(format!("{} has not ended {ORDERLY_END:?} after SIGTERM ({log})", self.who));
                self.kill()
            }
            Cause::Recreated(since) if since.elapsed() > NOTICE => {
                let log = program.log().display();
                report.find(format!("{} runs on {NOTICE:?} after the topic was recreated ({log})", self.who));
                self.kill()
            }
            Cause::Failpoint(.., None) if program.begun.elapsed() > FAILPOINT_TIMEOUT => self.kill(),
            _ => Ok(()),
        }
    }
}

/// What is wrong with an end, if anything.
fn wrong_end(
    program: &Program,
    status: ExitStatus,
    cause: &Cause,
    troubled: bool,
    report: &mut Report,
) -> Option<&'static str> {
    let says_why = || !program.last_words().starts_with("(nothing)");
    match (cause, status.code(), status.signal()) {
        (Cause::Failpoint(armed, _), _, Some(9)) if program.said(&format!("failpoint {}", armed.point)) => {
            report.proved(armed.kind.clone());
            None
        }
        (Cause::Killed, _, Some(9)) | (Cause::Terminated(_) | Cause::Failpoint(.., Some(_)), Some(0), _) => None,
        (Cause::Terminated(_) | Cause::Failpoint(.., Some(_)), Some(1), _) if troubled && says_why() => None,
        (Cause::Terminated(_), ..) => Some("though it was to end in order"),
        (Cause::Recreated(_), Some(1), _) if program.said("recreated") => None,
        (Cause::Recreated(_), ..) => Some("though the topic was recreated"),
        // One that finds no servers at its start says so and ends.
        (_, Some(1), _) if troubled && !has_started(program) && says_why() => None,
        (Cause::Killed, ..) => Some("though it was killed"),
        _ => Some("which nobody asked for"),
    }
}

/// Whether it came so far that an outage is to be waited out.
fn has_started(program: &Program) -> bool {
    program.said("\"run started\"") || program.said("\"partitions assigned\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_program_is_not_asked_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut seat = Seat::new(Who::Generator, true, folder.path().to_owned());
        let mut command = Command::new("sleep");
        command.arg("60");
        seat.start(command).unwrap();
        seat.kill().unwrap();
        seat.terminate().unwrap();
        assert_eq!(seat.cause, Cause::Killed);
    }
}
