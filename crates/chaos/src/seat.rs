//! A slot for one program: restarts the program whenever it exits and checks the cause of each exit.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::plan::Who;
use crate::program::{Program, signal};
use crate::report::Report;

/// A program exits within 10 s of SIGTERM; the rest allows for a busy machine.
const ORDERLY_END: Duration = Duration::from_secs(15);
/// Deadline for reaching the failpoint, after which the program is killed.
const FAILPOINT_TIMEOUT: Duration = Duration::from_secs(45);
/// Deadline for detecting that the topic was recreated.
const NOTICE: Duration = Duration::from_secs(45);
/// Pause between an exit and the next start.
const BREATH: Duration = Duration::from_millis(500);

/// Expected cause of the program's exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    Nothing,
    Killed,
    Terminated(Instant),
    /// The topic was deleted and recreated: the program must stop and name the reason.
    Recreated(Instant),
    /// The program is killed at a failpoint; with the time of SIGTERM if one was sent to reach it.
    Failpoint(Armed, Option<Instant>),
}

/// A failpoint at which a program is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Armed {
    pub(crate) point: &'static str,
    /// Number of the pass that kills.
    pub(crate) pass: u32,
    /// Row of the fault in the report.
    pub(crate) kind: String,
}

/// Slot of a program.
pub(crate) struct Seat {
    pub(crate) who: Who,
    pub(crate) program: Option<Program>,
    pub(crate) cause: Cause,
    /// Set if a program should run here.
    pub(crate) wanted: bool,
    /// The program resumes a run whose end is decided, so it exits without a request.
    pub(crate) ends_by_itself: bool,
    /// Failpoint of the next start.
    pub(crate) next_failpoint: Option<Armed>,
    next_start: Instant,
    starts: u32,
    logs: PathBuf,
}

/// Exit of a program.
pub(crate) struct End {
    /// Set if the exit code was 0.
    pub(crate) finished: bool,
    /// Set if the program was asked to end.
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

    /// Returns true if the program runs and no fault affects it.
    pub(crate) fn is_free(&self) -> bool {
        self.program.is_some() && self.cause == Cause::Nothing
    }

    /// Returns true if the program has come far enough to wait out an outage.
    pub(crate) fn works(&self) -> bool {
        self.program.as_ref().is_some_and(has_started)
    }

    /// Returns true if a program should be started here now.
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

    /// Checks for an exit of the program and reports an unexpected one.
    ///
    /// `troubled` is set if a dependency is unavailable or recently was.
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
            report.find(format!("{} exited with {status} {wrong} ({log}): {words}", self.who));
        }
        self.program = None;
        self.next_start = Instant::now() + BREATH;
        let asked = matches!(cause, Cause::Terminated(_));
        if let (Cause::Failpoint(armed, None), Some(1)) = (cause, status.code()) {
            // The servers were unavailable at the start; the next process may reach the failpoint.
            self.next_failpoint = Some(armed);
        }
        Ok(Some(End { finished: status.success(), asked }))
    }

    /// Sends SIGTERM, unless the program was killed and only has to be reaped.
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

    /// Kills a program that misses a deadline: for ending after SIGTERM, noticing a new topic or reaching its
    /// failpoint.
    fn is_late(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let Some(program) = &self.program else { return Ok(()) };
        match self.cause {
            Cause::Terminated(since) | Cause::Failpoint(.., Some(since)) if since.elapsed() > ORDERLY_END => {
                let log = program.log().display();
                report.find(format!("{} still runs {ORDERLY_END:?} after SIGTERM ({log})", self.who));
                self.kill()
            }
            Cause::Recreated(since) if since.elapsed() > NOTICE => {
                let log = program.log().display();
                report.find(format!("{} still runs {NOTICE:?} after the topic was recreated ({log})", self.who));
                self.kill()
            }
            Cause::Failpoint(.., None) if program.begun.elapsed() > FAILPOINT_TIMEOUT => self.kill(),
            _ => Ok(()),
        }
    }
}

/// Returns the reason why an exit is unexpected, or `None` if it was expected.
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
        (Cause::Terminated(_), ..) => Some("after SIGTERM"),
        (Cause::Recreated(_), Some(1), _) if program.said("recreated") => None,
        (Cause::Recreated(_), ..) => Some("after the topic was recreated"),
        // A program that finds no servers at its start reports that and exits.
        (_, Some(1), _) if troubled && !has_started(program) && says_why() => None,
        (Cause::Killed, ..) => Some("after it was killed"),
        _ => Some("without cause"),
    }
}

/// Returns true if the program has come far enough to wait out an outage.
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
