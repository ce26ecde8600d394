//! What landed, by the oracle, by `kafka-consumer reconcile` and by what the programs took.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use oracle::{LakeAt, S3Access, Stores, Terms};

use crate::heal::CATCH_UP;
use crate::program::Program;
use crate::site::{GROUP, run_id};
use crate::world::World;

/// The programs' --memory-limit, in MiB.
const LIMITS: [(&str, u64); 2] = [("event-generator", 512), ("kafka-consumer", 256)];

impl World {
    /// Reads what is there and weighs it.
    pub(crate) fn judge(&mut self, logs: &Path) -> anyhow::Result<()> {
        let mut command = self.site.consumer("run", "event_writer", false);
        command.args(["--until-caught-up", "--log-format", "json", "--http-addr", "off"]);
        let said = finish(command, &logs.join("until-caught-up.log"))?;
        self.report.hold("run --until-caught-up ends with exit code 0", said);
        for (run, resumed) in self.runs.clone() {
            self.judge_run(run, resumed, logs)?;
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

    fn judge_run(&mut self, run: u32, resumed: bool, logs: &Path) -> anyhow::Result<()> {
        let name = run_id(run);
        let verdict = self.ask_oracle(run, resumed, &logs.join(format!("{name}-oracle.txt")));
        // A store that can't be read now is as bad as one that says something else.
        let differs = verdict.unwrap_or_else(|error| Some(format!("{error:#}")));
        let manner = if resumed { ", resumed" } else { "" };
        self.report.hold(&format!("{name}{manner}: the oracle's equations"), differs);

        let log = logs.join(format!("{name}-reconcile.json"));
        let output = self.site.reconcile(run).output()?;
        let differs = (!output.status.success()).then(|| format!("{} ({})", output.status, log.display()));
        fs::write(log, [output.stdout, output.stderr].concat())?;
        self.report.hold(&format!("{name}: kafka-consumer reconcile"), differs);
        Ok(())
    }

    /// What differs. A run that was left alone must have no copies, either.
    fn ask_oracle(&self, run: u32, resumed: bool, log: &Path) -> anyhow::Result<Option<String>> {
        let s3 = self.site.stack.s3();
        let access =
            S3Access { endpoint: s3.endpoint, access_key: s3.access_key, secret_key: s3.secret_key, region: s3.region };
        let lake = LakeAt::parse(&self.site.stack.lake_url(), Some(access))?;
        let manifest = oracle::fetch_run(&lake, &run_id(run))?;
        let bootstrap_servers = self.site.stack.bootstrap_servers();
        let stores = Stores { bootstrap_servers, database_url: self.site.stack.database_url(), lake };
        let mut terms = vec![Terms::for_group(GROUP).allowing_copies()];
        if !resumed {
            terms.push(Terms::for_group(GROUP).of_the_run_only());
        }
        for terms in terms {
            let verdict = oracle::judge(&stores, &manifest, &terms)?;
            if !verdict.holds() {
                fs::write(log, verdict.to_string())?;
                return Ok(Some(format!("{} ({})", verdict.different().join("; "), log.display())));
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
