//! Benchmarks that compare the programs with common alternatives: the same events, one machine, one run.
//!
//! A round runs each candidate once, so that other load on the machine affects all of them alike. A figure is the
//! median over the rounds with its minimum and maximum; a ratio is the median of the ratios within the rounds.
//!
//! Unmeasured runs before the first round warm up the servers: a new PostgreSQL cluster creates its WAL segments during
//! its first load, and a new broker is slow until its code is compiled.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a development program fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "as above: a closed output ends it")]

mod caught_up;
mod consumer;
mod day;
mod dump;
mod environment;
mod flame;
mod generator;
mod growth;
mod instructions;
mod peers;
mod programs;
mod refine;
mod report;
mod run;
mod spread;
mod usage;
mod watched;

use clap::Parser;

/// Compare the programs with common alternatives, print a table and write target/bench/NAME.json
#[derive(Parser)]
#[command(
    max_term_width = 110,
    after_help = "\
Examples:
  cargo run --release -p bench -- consumer --events 1M --rounds 3
  cargo run --release -p bench -- peers --only kafka-consumer --only psql-copy --measure speed
  cargo run --release -p bench -- day"
)]
enum Command {
    /// Compare kafka-consumer with psql's \copy
    #[command(
        after_help = "Example:\n  bench consumer --events 1M --only consumer --only copy-binary -- --batch-rows 50k"
    )]
    Consumer(consumer::Arguments),
    /// Compare event-generator with the producers of Kafka and librdkafka
    #[command(after_help = "Example:\n  bench generator --events 1M --only kafka-only -- --threads 2")]
    Generator(generator::Arguments),
    /// Compare kafka-consumer with other sinks from Kafka to PostgreSQL, also under faults
    #[command(after_help = "Example:\n  bench peers --only kafka-consumer --only bento --measure speed,crash")]
    Peers(peers::Arguments),
    /// Run both programs at once with a day of events, then reconcile
    #[command(after_help = "Example:\n  bench day --events 1M --rounds 3 -- --shape daily")]
    Day(day::Arguments),
    /// Draw a flame graph of each program during a day of events; requires perf
    #[command(after_help = "Example:\n  bench flame --events 1M --folder /tmp")]
    Flame(flame::Arguments),
    /// Measure the cost of an event with more events, a larger table, more consumers and larger records
    #[command(after_help = "Example:\n  bench growth --measure table,bytes --rows 10,50")]
    Growth(growth::Arguments),
    /// Compare the instructions of each step of the hot path with the baseline
    #[command(after_help = "Example:\n  bench check --only parse --only sort")]
    Check(instructions::Check),
    #[command(hide = true)]
    Repeat(instructions::Repeat),
    /// Measure kafka-consumer refine with tables of several sizes
    #[command(after_help = "Example:\n  bench refine --rows 1M,10M --rounds 5")]
    Refine(refine::Arguments),
}

fn main() {
    match Command::parse() {
        Command::Consumer(arguments) => consumer::compare(&arguments),
        Command::Generator(arguments) => generator::compare(&arguments),
        Command::Peers(arguments) => peers::compare(&arguments),
        Command::Day(arguments) => day::run(&arguments),
        Command::Flame(arguments) => flame::draw(&arguments),
        Command::Growth(arguments) => growth::measure(&arguments),
        Command::Check(arguments) => instructions::check(&arguments),
        Command::Repeat(arguments) => instructions::repeat(&arguments),
        Command::Refine(arguments) => refine::compare(&arguments),
    }
}
