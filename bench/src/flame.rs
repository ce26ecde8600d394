//! Draws a flame graph of each program from the samples of `perf record`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::day::stage::Stage;
use crate::programs::{fetched, succeed, summary};
use crate::watched::Watched;
use clap::Args;
use pipeline_runtime::units;

/// Samples per second and thread. Not a multiple of common timer frequencies, so that samples are not in lockstep with
/// timers.
const FREQUENCY: &str = "199";
/// The programs have no frame pointers, so perf records this many bytes of the stack and unwinds it later.
const CALL_GRAPH: &str = "dwarf,16384";
/// Minimum width of a frame in percent of the whole. Narrower frames are omitted.
const NARROWEST: &str = "0.25";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Number of events, such as 4M
    #[arg(long, default_value_t = 4_000_000, value_parser = units::count::<u64>)]
    events: u64,
    /// Folder for flame-PROGRAM.svg
    #[arg(long, default_value = "docs")]
    folder: PathBuf,
}

/// Runs both programs as the `day` benchmark does, and records each with perf.
pub(crate) fn draw(arguments: &Arguments) {
    let stage = Stage::set(arguments.events, &[]);
    let samples = tempfile::tempdir().unwrap();
    let consumer = Watched::start(&mut stage.consumer());
    stage.await_partitions();
    let recorded_consumer = Recording::start("kafka-consumer", consumer.pid, samples.path());
    let generator = Watched::start(&mut stage.generator());
    let recorded_generator = Recording::start("event-generator", generator.pid, samples.path());
    generator.wait();
    stage.await_records(summary(&stage.environment.log("generator"))["records_acknowledged"].as_u64().unwrap());
    consumer.stop();
    for recording in [recorded_consumer, recorded_generator] {
        recording.draw(&arguments.folder);
    }
}

/// A perf process that records another process and ends with it.
struct Recording {
    perf: Watched,
    samples: PathBuf,
    program: &'static str,
}

impl Recording {
    fn start(program: &'static str, pid: u32, folder: &Path) -> Self {
        let samples = folder.join(program).with_extension("perf");
        let mut command = Command::new("perf");
        command.args(["record", "--quiet", "--freq", FREQUENCY, "--call-graph", CALL_GRAPH, "--output"]);
        command.arg(&samples).args(["--pid", &pid.to_string()]).stdout(Stdio::null());
        Self { perf: Watched::start(&mut command), samples, program }
    }

    fn draw(self, folder: &Path) {
        self.perf.wait();
        let stacks = self.samples.with_extension("stacks");
        let mut script = Command::new("perf");
        script.args(["script", "--no-inline", "--input"]).arg(&self.samples).stderr(Stdio::null());
        std::fs::write(&stacks, succeed(&mut script)).unwrap();
        let by_stack = self.samples.with_extension("folded");
        let mut collapse = Command::new(fetched("inferno/bin/inferno-collapse-perf"));
        std::fs::write(&by_stack, succeed(collapse.arg("--quiet").arg(&stacks))).unwrap();
        let title = format!("{}: CPU time", self.program);
        let mut draw = Command::new(fetched("inferno/bin/inferno-flamegraph"));
        let picture = succeed(draw.args(["--minwidth", NARROWEST, "--title", &title]).arg(&by_stack));
        let file = folder.join(format!("flame-{}.svg", self.program));
        std::fs::write(&file, picture).unwrap();
        println!("{}", file.display());
    }
}
