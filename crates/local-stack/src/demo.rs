//! `local-stack demo`: a million events through the whole pipeline, and where each of them is.
//!
//! - [`programs`]: the sibling programs as children that never outlive us
//! - [`stores`]: what Kafka and PostgreSQL say
//! - [`show`]: progress, summary and what to do next

mod programs;
mod show;
mod stores;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use local_stack::Stack;
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use self::programs::{Programs, Running};
use self::show::{Progress, Summary};
use self::stores::{Counts, Stores};

/// How often the stores are asked how far they are.
const PAUSE: Duration = Duration::from_millis(200);
/// How long nothing may move before something must be wrong.
const STALL: Duration = Duration::from_mins(2);
/// How long the consumer may take to end when it is told to.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// As a shell reports a process that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

const TOPIC: &str = "product-events";
const GROUP: &str = "kafka-consumer";
const RUN: &str = "demo";

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DemoArguments {
    /// How many events to make.
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
}

/// Everything that has to end, in this order, before the demo does.
struct Demo {
    folder: TempDir,
    stores: Stores,
    stack: Stack,
    runtime: Runtime,
}

/// Set by Ctrl-C and by SIGTERM.
#[derive(Clone, Default)]
struct Interrupt(Arc<AtomicBool>);

#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Interrupted;

/// Runs the demo. Whatever its outcome, no process of it is left.
pub(crate) fn run(arguments: DemoArguments) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let programs = Programs::beside_us()?;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let interrupt = Interrupt::listen(&runtime)?;
    let folder = tempfile::Builder::new().prefix("local-stack-demo-").tempdir()?;
    let _ = writeln!(io::stderr(), "Starting Kafka, PostgreSQL and S3 on free ports …");
    let stack = Stack::ephemeral()?;
    let stores = Stores::connect(&stack, &runtime)?;
    let demo = Demo { folder, stores, stack, runtime };
    let outcome =
        interrupt.check().map_err(Into::into).and_then(|()| demo.play(&programs, arguments.events, &interrupt));
    match outcome {
        Ok(0) => {
            drop(demo);
            show::next(begun.elapsed())?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(code) => {
            demo.keep();
            Ok(ExitCode::from(code))
        }
        Err(error) if error.is::<Interrupted>() => {
            drop(demo);
            let _ = writeln!(io::stderr(), "Interrupted. Nothing is left, neither processes nor data.");
            Ok(ExitCode::from(INTERRUPTED))
        }
        Err(error) if crate::is_broken_pipe(&error) => Err(error),
        Err(error) => {
            let _ = writeln!(io::stderr(), "local-stack: {error:#}");
            demo.keep();
            Ok(ExitCode::FAILURE)
        }
    }
}

impl Demo {
    /// Generator and consumer side by side, then features, checks, reconcile and the verifier. Returns the first exit code
    /// that is not zero.
    fn play(&self, programs: &Programs, events: u64, interrupt: &Interrupt) -> anyhow::Result<u8> {
        let consumer = programs.consumer(&self.stack, self.folder.path())?;
        let generator = programs.generator(&self.stack, self.folder.path(), events)?;
        let summary = self.watch(generator, consumer, events, interrupt)?;
        show::summary(&summary, &self.stores.funnel(&self.runtime)?)?;
        let logs = self.folder.path();
        let refined = finish(programs.refine(&self.stack, logs)?, interrupt)?;
        if refined != 0 {
            return Ok(refined);
        }
        show::features(&self.stores.users(&self.runtime)?)?;
        let checked = finish(programs.check(&self.stack, logs)?, interrupt)?;
        if checked != 0 {
            return Ok(checked);
        }
        show::before_reconciling()?;
        let reconciled = finish(programs.reconcile(&self.stack, logs)?, interrupt)?;
        if reconciled != 0 {
            return Ok(reconciled);
        }
        show::before_the_verifier()?;
        finish(programs.verifier(&self.stack, logs)?, interrupt)
    }

    /// Until the generator has ended and all that it sent is consumed.
    fn watch(
        &self,
        generator: Running,
        consumer: Running,
        events: u64,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Summary> {
        let mut progress = Progress::new(events);
        let mut clock = Clock::start();
        let (mut generator, mut consumer) = (Some(generator), consumer);
        let mut sent = None;
        loop {
            interrupt.check()?;
            if let Some(status) = consumer.ended()? {
                bail!("{}", consumer.failure(status));
            }
            if let Some(status) = generator.as_mut().map(Running::ended).transpose()?.flatten()
                && let Some(program) = generator.take()
            {
                anyhow::ensure!(status.success(), "{}", program.failure(status));
                sent = Some(program.last_log_line("run ended")?);
            }
            if let Some(counts) = self.stores.counts(&self.runtime)? {
                progress.show(&counts, sent.is_some());
                clock.tick(&counts);
                if let Some(sent) = &sent
                    && counts.caught_up()
                {
                    progress.finish();
                    let status = consumer.terminate(END_PATIENCE)?;
                    anyhow::ensure!(status.success(), "{}", consumer.failure(status));
                    return Ok(Summary::new(sent, &counts, clock.consuming()));
                }
            }
            if clock.stands_still() {
                bail!("nothing has moved for {} s.\n{}", STALL.as_secs(), consumer.tail());
            }
            thread::sleep(PAUSE);
        }
    }

    /// Keeps the logs, those of the servers too, for whoever has to find out.
    fn keep(self) {
        let Self { folder, stores, stack, runtime } = self;
        let folder = folder.keep();
        for log in [stack.kafka.log(), stack.postgres.log(), stack.object_store.log()] {
            if let Some(name) = log.file_name() {
                let _ = fs::copy(&log, folder.join(name));
            }
        }
        drop((stores, stack, runtime));
        let _ = writeln!(io::stderr(), "All logs are kept in {}", folder.display());
    }
}

/// Waits for a program's end and returns its exit code.
fn finish(mut program: Running, interrupt: &Interrupt) -> anyhow::Result<u8> {
    let status = loop {
        interrupt.check()?;
        if let Some(status) = program.ended()? {
            break status;
        }
        thread::sleep(PAUSE);
    };
    if !status.success() {
        let _ = writeln!(io::stderr(), "{}", program.failure(status));
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

impl Interrupt {
    fn listen(runtime: &Runtime) -> anyhow::Result<Self> {
        let interrupt = Self::default();
        let _context = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut stream = signal(kind)?;
            let flag = Arc::clone(&interrupt.0);
            runtime.spawn(async move {
                while stream.recv().await.is_some() {
                    flag.store(true, Ordering::Relaxed);
                }
            });
        }
        Ok(interrupt)
    }

    fn check(&self) -> Result<(), Interrupted> {
        if self.0.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}

/// When something last moved, and how long the consumer has been at work.
struct Clock {
    seen: Counts,
    moved: Instant,
    /// When the consumer was last seen without a record.
    idle: Instant,
}

impl Clock {
    fn start() -> Self {
        let now = Instant::now();
        Self { seen: Counts::default(), moved: now, idle: now }
    }

    fn tick(&mut self, counts: &Counts) {
        let now = Instant::now();
        if counts.consumed() == 0 {
            self.idle = now;
        }
        if *counts != self.seen {
            self.seen = counts.clone();
            self.moved = now;
        }
    }

    fn stands_still(&self) -> bool {
        self.moved.elapsed() > STALL
    }

    fn consuming(&self) -> Duration {
        self.moved - self.idle
    }
}

fn log_file(folder: &Path, program: &str) -> anyhow::Result<(std::path::PathBuf, File)> {
    let path = folder.join(format!("{program}.log"));
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    Ok((path, file))
}
