//! Benchmarks that compare the programs with common alternatives: the same events, one machine, one run.
//!
//! A round runs each candidate once, so that other load on the machine affects all of them alike. A figure is the
//! median over the rounds; a ratio is the median of the ratios within the rounds.
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
mod usage;
mod watched;

use clap::Parser;

/// Compares the programs with what people use otherwise. Prints a table and writes target/bench/NAME.json.
#[derive(Parser)]
enum Command {
    /// kafka-consumer beside psql's \copy
    Consumer(consumer::Arguments),
    /// event-generator beside Kafka's and librdkafka's own producers
    Generator(generator::Arguments),
    /// kafka-consumer beside other ways from Kafka to PostgreSQL, and what faults do to each
    Peers(peers::Arguments),
    /// Both programs at once, a day of events from the first one made to the last row, then reconcile
    Day(day::Arguments),
    /// A flame graph of each program while a day of events goes through (needs perf)
    Flame(flame::Arguments),
    /// What an event costs with more events, a larger table, more consumers, larger records
    Growth(growth::Arguments),
    /// Instructions of each step of an event's way beside the baseline
    Check(instructions::Check),
    #[command(hide = true)]
    Repeat(instructions::Repeat),
    /// kafka-consumer refine with tables of several sizes
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
