//! After the faults: everything heals, comes to rest, and is judged.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use oracle::{LakeAt, S3Access, Stores, Terms};

use crate::plan::Who;
use crate::program::Program;
use crate::seat::Seat;
use crate::site::{GROUP, run_id};
use crate::world::World;

/// How long the programs may take to find their servers again and to be on schedule: a client may wait a minute for an
/// answer that went nowhere.
const RECOVERY: Duration = Duration::from_secs(100);
/// In which everything must be in the table afterwards.
const CATCH_UP: Duration = Duration::from_mins(2);
/// How often the lag is asked for.
const LOOK: Duration = Duration::from_secs(1);
const END_OF_A_PROGRAM: Duration = Duration::from_secs(30);
/// How often the generator may be asked for its end, of which each is an honest refusal.
const ATTEMPTS: u32 = 4;
/// The programs' --memory-limit, in MiB.
const LIMITS: [(&str, u64); 2] = [("event-generator", 512), ("kafka-consumer", 256)];

impl World {
    /// Ends all faults and brings the pipeline to rest.
    pub(crate) fn heal(&mut self) -> anyhow::Result<()> {
        self.tell("healing");
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
        let caught_up = self.pass_until(CATCH_UP, |world| world.site.behind().is_ok_and(|behind| behind == 0))?;
        self.tell(&format!("caught up: {caught_up}, {:.1} s after the generator's end", began.elapsed().as_secs_f64()));
        let left = self.site.behind()?;
        let said = (!caught_up).then(|| format!("{left} records behind"));
        self.report.hold(&format!("caught up within {} s", CATCH_UP.as_secs()), said);
        self.end_of_the_members()
    }

    /// All that was done is undone: the programs have to get over it by themselves.
    fn recover(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut next_look = began;
        let recovered = self.pass_until(RECOVERY, |world| {
            if Instant::now() < next_look || !world.lasting.is_empty() || !world.seats.iter().all(Seat::is_settled) {
                return false;
            }
            next_look = Instant::now() + LOOK;
            world.site.behind().is_ok_and(|behind| behind < world.site.in_flight())
        })?;
        self.tell(&format!("at work again: {recovered}, after {:.1} s", began.elapsed().as_secs_f64()));
        let said = (!recovered).then(|| format!("{:?} records behind", self.site.behind()));
        self.report.hold(&format!("at work again within {} s", RECOVERY.as_secs()), said);
        // Until then an end with exit code 1 could still be an honest one.
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
        let open = self.has_open_run().then(|| "its run is still not finished".to_owned());
        self.report.hold("the generator ends in order", open);
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
        self.report.hold("the consumers end in order", (!honest).then(|| "see above".to_owned()));
        Ok(())
    }

    /// Reads what is there and weighs it.
    pub(crate) fn judge(&mut self, logs: &Path) -> anyhow::Result<()> {
        let mut command = self.site.consumer("run", "event_writer", false);
        command.args(["--until-caught-up", "--log-format", "json", "--http-addr", "off"]);
        let said = finish(command, &logs.join("until-caught-up.log"))?;
        self.report.hold("run --until-caught-up ends with exit code 0", said);
        for (run, resumed) in self.runs.clone() {
            let name = run_id(run);
            let differs = self.ask_oracle(run, resumed)?;
            self.report
                .hold(&format!("{name}{}: the oracle's equations", if resumed { ", resumed" } else { "" }), differs);
            let output = self.site.reconcile(run).output()?;
            let said = String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout });
            let differs = (!output.status.success()).then(|| format!("{}\n{said}", output.status));
            self.report.hold(&format!("{name}: kafka-consumer reconcile"), differs);
        }
        let none = self.runs.is_empty().then(|| "no run has come to its end".to_owned());
        self.report.hold("there is something to judge", none);
        for (program, limit) in LIMITS {
            let peak = self.report.peaks.get(program).copied().unwrap_or(0);
            let said = (peak > limit).then(|| format!("{peak} MiB"));
            self.report.hold(&format!("{program}: {limit} MiB at most"), said);
        }
        self.report.blame_unproved();
        Ok(())
    }

    /// What differs. A run that was left alone must have no copies, either.
    fn ask_oracle(&self, run: u32, resumed: bool) -> anyhow::Result<Option<String>> {
        let s3 = self.site.stack.s3();
        let access =
            S3Access { endpoint: s3.endpoint, access_key: s3.access_key, secret_key: s3.secret_key, region: s3.region };
        let lake = LakeAt::parse(&self.site.stack.lake_url(), Some(access))?;
        let manifest = oracle::fetch_run(&lake, &run_id(run))?;
        let stores = Stores {
            bootstrap_servers: self.site.stack.bootstrap_servers(),
            database_url: self.site.stack.database_url(),
            lake,
        };
        let mut terms = vec![Terms::for_group(GROUP).allowing_copies()];
        if !resumed {
            terms.push(Terms::for_group(GROUP).of_the_run_only());
        }
        for terms in terms {
            let verdict = oracle::judge(&stores, &manifest, &terms)?;
            if !verdict.holds() {
                return Ok(Some(verdict.to_string()));
            }
        }
        Ok(None)
    }
}

/// Runs to the end, which must be a good one in time; what was said otherwise.
fn finish(command: Command, log: &Path) -> anyhow::Result<Option<String>> {
    let mut program = Program::start(command, log.to_owned())?;
    let deadline = Instant::now() + CATCH_UP;
    while Instant::now() < deadline {
        if let Some(status) = program.ended()? {
            return Ok((!status.success()).then(|| format!("{status}: {}", program.last_words())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(Some(format!("has not ended, see {}", log.display())))
}

/// Keeps what the servers have said.
pub(crate) fn keep_logs_of_servers(world: &World, logs: &Path) {
    let stack = &world.site.stack;
    for (name, log) in
        [("kafka", stack.kafka.log()), ("postgres", stack.postgres.log()), ("s3", stack.object_store.log())]
    {
        let kept = File::open(&log)
            .and_then(|mut from| std::io::copy(&mut from, &mut File::create(logs.join(format!("{name}.log")))?));
        if let Err(error) = kept {
            eprintln!("{} could not be kept: {error}", log.display());
        }
    }
}

impl Seat {
    /// Nobody is wanted here, or somebody works.
    fn is_settled(&self) -> bool {
        match &self.program {
            Some(_) => self.is_free() && self.works(),
            None => !self.wanted && self.who != Who::Generator,
        }
    }
}
