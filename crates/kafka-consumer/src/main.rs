//! The program: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pipeline_runtime::exit::report(kafka_consumer::cli::main())
}
