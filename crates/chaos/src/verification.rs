//! Verifies the stores with the verifier and `kafka-consumer reconcile`, and checks the programs' peak memory.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use verifier::{LakeAt, S3Access, Stores, Terms};

use crate::environment::{GROUP, run_id};
use crate::heal::CATCH_UP;
use crate::program::Program;
use crate::table;
use crate::world::World;

/// `--memory-limit` of the programs in MiB.
const LIMITS: [(&str, u64); 2] = [("event-generator", 512), ("kafka-consumer", 256)];

impl World {
    /// Loads all remaining records, verifies the stores and checks memory use.
    pub(crate) fn verify(&mut self) -> anyhow::Result<()> {
        let mut command = self.environment.consumer("run", "event_writer", false);
        command.args(["--until-caught-up", "--log-format", "json", "--http-addr", "off"]);
        let said = finish(command, &self.logs.join("until-caught-up.log"))?;
        self.report.hold("run --until-caught-up exits with 0", said);
        let none = self.runs.is_empty().then(|| "no run has finished".to_owned());
        self.report.hold("at least one run finished", none);
        self.verify_topic(true)?;
        let counted = ["check", "--no-save", "--only", "rows_counted", "--only", "dead_letters_counted"];
        let check = self.environment.warehouse(&counted);
        let said = finish(check, &self.logs.join("check.log"))?;
        self.report.hold("kafka-consumer check passes", said);
        for (program, limit) in LIMITS {
            let peak = self.report.peaks.get(program).copied().unwrap_or(0);
            let said = (peak > limit).then(|| format!("{peak} MiB"));
            self.report.hold(&format!("{program}: at most {limit} MiB"), said);
        }
        self.report.blame_unproved();
        Ok(())
    }

    /// Verifies the runs in the current topic and all foreign records.
    ///
    /// If `last` is set, also removes the changes of the table and replays refused rows.
    pub(crate) fn verify_topic(&mut self, last: bool) -> anyhow::Result<()> {
        self.verify_foreign(false, "foreign records: each has exactly one outcome")?;
        if last {
            self.environment.ask(table::REMOVE)?;
            let replay = self.environment.warehouse(&["dead-letters", "replay", "--reason", "refused_by_postgres"]);
            let said = finish(replay, &self.logs.join("replay.log"))?;
            self.report.hold("kafka-consumer dead-letters replay exits with 0", said);
            self.verify_foreign(true, "foreign records: refused ones are rows after the replay")?;
        }
        for (run, resumed) in std::mem::take(&mut self.runs) {
            self.verify_run(run, resumed)?;
        }
        Ok(())
    }

    fn verify_foreign(&mut self, replayed: bool, statement: &str) -> anyhow::Result<()> {
        let (environment, foreign) = (&self.environment, &mut self.foreign);
        let compare = async { foreign.compare(&environment.connect().await?, replayed).await };
        let compared = environment.runtime.block_on(compare)?;
        let findings = compared.findings();
        compared.proved.into_iter().for_each(|kind| self.report.proved(kind));
        self.report.hold(statement, findings);
        Ok(())
    }

    fn verify_run(&mut self, run: u32, resumed: bool) -> anyhow::Result<()> {
        let name = run_id(run);
        let report = self.run_verifier(run, resumed, &self.logs.join(format!("{name}-verifier.txt")));
        // An unreadable store counts as a difference.
        let differs = report.unwrap_or_else(|error| Some(format!("{error:#}")));
        let manner = if resumed { ", resumed" } else { "" };
        self.report.hold(&format!("{name}{manner}: all equations of the verifier hold"), differs);

        let log = self.logs.join(format!("{name}-reconcile.json"));
        let output = self.environment.reconcile(run).output()?;
        let differs = (!output.status.success()).then(|| format!("{} ({})", output.status, log.display()));
        fs::write(log, [output.stdout, output.stderr].concat())?;
        self.report.hold(&format!("{name}: kafka-consumer reconcile finds no difference"), differs);
        Ok(())
    }

    /// Returns the differences, if any. A run that was not resumed must have no duplicates, either.
    fn run_verifier(&self, run: u32, resumed: bool, log: &Path) -> anyhow::Result<Option<String>> {
        let stores = self.stores()?;
        let manifest = verifier::fetch_run(&stores.lake, &run_id(run))?;
        let mut whole = Terms::for_group(GROUP).allowing_copies().with_suppressed(self.foreign.suppressed());
        if let Some(counted) = &self.counted {
            // Records that were committed before a consumer noticed the new topic are duplicates now.
            whole = whole.since(counted.clone()).with_rows_from_elsewhere();
        }
        let mut terms = vec![whole];
        if !resumed {
            terms.push(Terms::for_group(GROUP).with_suppressed([]).of_the_run_only());
        }
        for terms in terms {
            let report = verifier::verify(&stores, &manifest, &terms)?;
            if !report.holds() {
                fs::write(log, report.to_string())?;
                return Ok(Some(format!("{} ({})", report.different().join("; "), log.display())));
            }
        }
        Ok(None)
    }
}

impl World {
    pub(crate) fn stores(&self) -> anyhow::Result<Stores> {
        let stack = &self.environment.stack;
        let s3 = stack.s3();
        let access =
            S3Access { endpoint: s3.endpoint, access_key: s3.access_key, secret_key: s3.secret_key, region: s3.region };
        let lake = LakeAt::parse(&stack.lake_url(), Some(access))?;
        Ok(Stores { bootstrap_servers: stack.bootstrap_servers(), database_url: stack.database_url(), lake })
    }
}

/// Runs a command. Returns its failure if it exits with an error or misses the deadline.
pub(crate) fn finish(command: Command, log: &Path) -> anyhow::Result<Option<String>> {
    let mut program = Program::start(command, log.to_owned())?;
    let deadline = Instant::now() + CATCH_UP;
    while Instant::now() < deadline {
        if let Some(status) = program.ended()? {
            return Ok((!status.success()).then(|| format!("{status}: {}", program.last_words())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(Some(format!("still runs, see {}", log.display())))
}

/// Copies the servers' logs.
pub(crate) fn keep_logs_of_servers(world: &World, logs: &Path) {
    let stack = &world.environment.stack;
    for (name, log) in
        [("kafka", stack.kafka.log()), ("postgres", stack.postgres.log()), ("s3", stack.object_store.log())]
    {
        let kept = File::open(&log)
            .and_then(|mut from| std::io::copy(&mut from, &mut File::create(logs.join(format!("{name}.log")))?));
        if let Err(error) = kept {
            eprintln!("cannot copy {}: {error}", log.display());
        }
    }
}
