//! State of the pipeline under faults: its programs and the active faults.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use local_stack::proxy::{ProxyMode, Seen};

use crate::environment::{Environment, needs};
use crate::foreign::Foreign;
use crate::plan::{Damage, Fault, Link, MEMBERS, Target, Who};
use crate::program::signal;
use crate::report::Report;
use crate::seat::{End, Seat};

const PAUSE: Duration = Duration::from_millis(50);
/// Time after an outage during which a program may still fail because of it.
const AFTERMATH: Duration = Duration::from_secs(30);
/// The same for connections that swallowed bytes: librdkafka waits 60 s for an answer.
const LONG_AFTERMATH: Duration = Duration::from_secs(90);

/// Action that ends a fault.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Undo {
    Continue(Who),
    Terminate,
    Restart(local_stack::Name),
    ContinueServer(local_stack::Name),
    Mend(Link, Damage, Seen),
}

/// An active fault that must be undone.
pub(crate) struct Lasting {
    pub(crate) fault: Fault,
    pub(crate) until: Instant,
    pub(crate) undo: Undo,
}

pub(crate) struct World {
    pub(crate) environment: Environment,
    /// The generator's seat, then those of the consumers.
    pub(crate) seats: Vec<Seat>,
    pub(crate) report: Report,
    pub(crate) logs: PathBuf,
    pub(crate) foreign: Foreign,
    /// Counts of the group when the topic was last recreated.
    pub(crate) counted: Option<verifier::Counts>,
    pub(crate) lasting: Vec<Lasting>,
    /// Times until which a past fault may still affect the programs, by target.
    troubles: Vec<(Target, Instant)>,
    /// Number of the generator's current run.
    run: u32,
    /// Runs with a manifest, and true if they were resumed.
    pub(crate) runs: Vec<(u32, bool)>,
    resumed: bool,
    /// Set while no faults are inflicted, so that an exit does not prove one.
    pub(crate) healing: bool,
    pub(crate) began: Instant,
}

impl World {
    pub(crate) fn new(environment: Environment, logs: &Path) -> Self {
        let mut seats = vec![Seat::new(Who::Generator, true, logs.to_owned())];
        seats.extend((0..MEMBERS).map(|number| Seat::new(Who::Member(number), number + 1 < MEMBERS, logs.to_owned())));
        Self {
            environment,
            seats,
            report: Report::default(),
            logs: logs.to_owned(),
            foreign: Foreign::default(),
            counted: None,
            lasting: Vec::new(),
            troubles: Vec::new(),
            run: 1,
            runs: Vec::new(),
            resumed: false,
            healing: false,
            began: Instant::now(),
        }
    }

    pub(crate) fn seat(&mut self, who: Who) -> &mut Seat {
        match who {
            Who::Generator => &mut self.seats[0],
            Who::Member(number) => &mut self.seats[number + 1],
        }
    }

    /// Prints a progress line to standard error.
    pub(crate) fn tell(&self, what: &str) {
        eprintln!("{:7.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// Undoes expired faults, checks for exits and restarts programs.
    pub(crate) fn pass(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        while let Some(over) = self.lasting.iter().position(|one| one.until <= now) {
            let lasting = self.lasting.swap_remove(over);
            self.undo(&lasting)?;
        }
        for number in 0..self.seats.len() {
            let troubled = self.is_troubled(self.seats[number].who);
            if let Some(end) = self.seats[number].look(troubled, &mut self.report)? {
                self.ended(number, &end);
            }
            if self.seats[number].is_vacant() {
                self.start(number)?;
            }
        }
        sleep(PAUSE);
        Ok(())
    }

    /// Waits until a condition holds. Returns false after `timeout`.
    pub(crate) fn pass_until(
        &mut self,
        timeout: Duration,
        mut condition: impl FnMut(&mut Self) -> bool,
    ) -> anyhow::Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            if condition(self) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.pass()?;
        }
    }

    fn start(&mut self, number: usize) -> anyhow::Result<()> {
        let command = match self.seats[number].who {
            Who::Member(member) => self.environment.member(member),
            Who::Generator => {
                self.count_run();
                let resume = self.has_open_run();
                self.resumed |= resume;
                self.seats[number].ends_by_itself = resume && self.environment.is_run_end_decided(self.run)?;
                self.environment.generator(self.run, resume)
            }
        };
        self.seats[number].start(command)
    }

    fn ended(&mut self, number: usize, end: &End) {
        let who = self.seats[number].who;
        // A consumer that leaves is terminated, too.
        if end.asked && !self.healing && self.seats[number].wanted {
            self.report.proved(Fault::Terminate(who).kind());
        }
        if who == Who::Generator && !self.count_run() && end.finished && self.environment.state_of(self.run).exists() {
            self.report.find(format!("generator exited with 0 without a manifest of run {}", self.run));
        }
    }

    /// Advances to the next run once the current one has its manifest. Returns true if it did.
    fn count_run(&mut self) -> bool {
        let finished = self.environment.state_of(self.run).join("manifest.json").exists();
        if finished {
            self.runs.push((self.run, std::mem::take(&mut self.resumed)));
            self.run += 1;
        }
        finished
    }

    /// Returns true if the current run has started and has no manifest.
    pub(crate) fn has_open_run(&self) -> bool {
        self.environment.state_of(self.run).join("state.json").exists()
    }

    /// Returns true if a dependency of the program is unavailable or recently was.
    pub(crate) fn is_troubled(&self, who: Who) -> bool {
        let (servers, links) = needs(who);
        let concerns = |target: Target| match target {
            Target::Server(name) => servers.contains(&name),
            Target::Link(link) => links.contains(&link),
            Target::Program(one) => one == who,
            Target::Topic | Target::Table => false,
        };
        let now = Instant::now();
        self.lasting.iter().any(|one| hinders(&one.fault) && concerns(one.fault.target()))
            || self.troubles.iter().any(|(target, until)| concerns(*target) && *until > now)
    }

    fn undo(&mut self, lasting: &Lasting) -> anyhow::Result<()> {
        let kind = lasting.fault.kind();
        self.tell(&format!("{kind}: ended"));
        match lasting.undo {
            Undo::Continue(who) => {
                if let Some(program) = &self.seat(who).program {
                    signal(program.pid(), "CONT")?;
                }
            }
            Undo::Terminate => self.seat(Who::Generator).terminate()?,
            Undo::Restart(name) => self.environment.restart(name)?,
            Undo::ContinueServer(name) => {
                if let Some(pid) = self.environment.pid(name) {
                    signal(pid, "CONT")?;
                }
            }
            Undo::Mend(link, damage, before) => self.mend(link, damage, before, kind),
        }
        let half_open = matches!(lasting.undo, Undo::Mend(_, Damage::HalfOpen, _));
        let aftermath = if half_open { LONG_AFTERMATH } else { AFTERMATH };
        if hinders(&lasting.fault) {
            self.troubles.push((lasting.fault.target(), Instant::now() + aftermath));
        }
        Ok(())
    }

    fn mend(&mut self, link: Link, damage: Damage, before: Seen, kind: String) {
        let proxy = self.environment.proxy(link);
        let seen = proxy.seen();
        proxy.set(ProxyMode::Open);
        let happened = match damage {
            Damage::Cut => seen.cut > before.cut || seen.accepted > before.accepted,
            Damage::HalfOpen => seen.swallowed > before.swallowed,
            Damage::Slow | Damage::Late => seen.passed > before.passed,
        };
        if happened {
            self.report.proved(kind);
        }
    }
}

/// Returns true if the fault may deprive a program of its dependencies. A suspended program may miss the deadline of a
/// response.
fn hinders(fault: &Fault) -> bool {
    !matches!(fault.target(), Target::Program(_)) || matches!(fault, Fault::Freeze(_))
}
