//! Injects random faults into the pipeline under load, then verifies the result. `make chaos SEED=7 MINUTES=10`.
//!
//! - `plan`: the sequence of faults, a function of the seed
//! - `environment`: servers, proxies, and the commands of the pipeline's programs
//! - `program`, `seat`: a child process, and the slot in which it is started again and again
//! - `world`: ends faults on time and restarts programs
//! - `inflict`: inflicts and proves each fault
//! - `foreign`: records of a foreign producer and their expected outcomes
//! - `table`: triggers and an index that an owner adds to the table
//! - `topic`, `recreate`: odd records, an open transaction, and a recreated topic
//! - `heal`: ends all faults and waits until the pipeline is idle
//! - `verification`: checks the stores with the verifier and `kafka-consumer reconcile`
//! - `report`: faults, results and findings
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a development program: a closed output ends it")]

mod environment;
mod foreign;
mod heal;
mod inflict;
mod plan;
mod program;
mod recreate;
mod report;
mod seat;
mod table;
mod topic;
mod verification;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use environment::Environment;
use plan::{Plan, Step};
use world::World;

/// Inject random faults into the pipeline under load, end them, and verify the stores
///
/// Ctrl-C ends the faults early; a second Ctrl-C exits at once.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = AFTER_HELP)]
struct Args {
    /// Seed of the sequence of faults, a whole number from 0 to 2^64-1 [default: random, printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Duration of the faults in minutes
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Rate of the generator in events per second
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Inject only faults whose name in the report contains this text, such as "topic:"
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Folder for the logs, one subfolder per run, which is kept if there are findings
    #[arg(long, value_name = "FOLDER", default_value = "target/chaos")]
    logs: PathBuf,
}

const AFTER_HELP: &str = "\
Examples:
  chaos
  chaos --seed 7 --minutes 30
  chaos --only 'topic:'

Exit codes: 0 no findings, 1 this tool failed, 2 wrong usage, 3 findings.";

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns true if there are no findings.
fn run(args: &Args) -> anyhow::Result<bool> {
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("seed {seed}, {} minutes", args.minutes);
    let wanted = |step: &Step| args.only.as_ref().is_none_or(|text| step.fault.kind().contains(text));
    // Two decks contain all kinds.
    ensure!(
        Plan::new(seed).take(100).any(|step| wanted(&step)),
        "--only: no fault matches; use a part of a name in the report, such as 'topic:'"
    );
    let plan = Plan::new(seed).filter(wanted);
    let logs = args.logs.join(format!("{seed}-{}", jiff::Timestamp::now().as_second()));
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let logs = logs.canonicalize()?;
    let over = on_ctrl_c()?;
    let mut world = World::new(Environment::start(logs.join("state"), args.rate, seed)?, &logs);
    let done = go(&mut world, plan, Duration::from_secs(60 * args.minutes), &over);
    verification::keep_logs_of_servers(&world, &logs);
    world.report.print();
    done.with_context(|| format!("chaos failed; see the logs in {}", logs.display()))?;
    let clean = world.report.findings.is_empty();
    drop(world);
    if clean {
        std::fs::remove_dir_all(&logs)?;
    } else {
        println!("seed {seed}, logs in {}", logs.display());
    }
    Ok(clean)
}

fn go(world: &mut World, plan: impl Iterator<Item = Step>, length: Duration, over: &AtomicBool) -> anyhow::Result<()> {
    let end = Instant::now() + length;
    let is_over = || over.load(Ordering::Relaxed) || Instant::now() >= end;
    for step in plan {
        world.pass_until(step.pause, |_| is_over())?;
        if is_over() {
            break;
        }
        world.inflict(&step, is_over)?;
    }
    world.heal()?;
    world.verify()
}

/// Returns a flag that the first Ctrl-C sets. The second one exits the process.
fn on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    let over = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&over);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        while runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            if asked.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!("ending the faults and verifying; press Ctrl-C again to exit at once");
        }
    });
    Ok(over)
}
