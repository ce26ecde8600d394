//! Closed or full standard output and standard error: no panics, correct exit codes.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{WRITER, catch_up, consumer, generator, program, succeed};
use local_stack::Stack;

/// Returns a command for a program of this workspace, built by `cargo build --workspace`.
fn command(name: &str, arguments: &[&str]) -> Command {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_kafka-consumer")).with_file_name(name);
    assert!(path.exists(), "{} is missing: cargo build --workspace", path.display());
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Returns the write end of a pipe whose reader is closed.
fn closed() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// Returns the exit code and standard error.
fn run_into(mut command: Command, stdout: Stdio) -> (Option<i32>, String) {
    let output = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Checks that a closed output is not an error and a full one is.
fn is_honest(what: &str, command: impl Fn() -> Command, code: i32) {
    let (closed, said) = run_into(command(), closed());
    assert!(closed == Some(code) && !said.contains("panicked"), "{what}, closed: {closed:?} {said}");
    let (full, said) = run_into(command(), full());
    assert_eq!(full, Some(1), "{what}, full: {said}");
    assert!(said.contains("cannot write to standard output") && !said.contains("panicked"), "{what}, full: {said}");
}

#[test]
fn what_needs_no_server() {
    for name in ["kafka-consumer", "event-generator"] {
        for arguments in
            [&["completions", "bash"][..], &["completions", "zsh"], &["--help"], &["--version"], &["--print-config"]]
        {
            is_honest(&format!("{name} {arguments:?}"), || command(name, arguments), 0);
        }
    }
    let sample = ["sample", "-n", "5000"];
    is_honest("sample", || command("event-generator", &sample), 0);
    is_honest("describe", || command("event-generator", &["describe"]), 0);
    is_honest("describe --json", || command("event-generator", &["describe", "--json"]), 0);
    for name in ["verifier", "local-stack"] {
        let (code, said) = run_into(command(name, &["--help"]), closed());
        assert!(code == Some(0) && !said.contains("panicked"), "{name}: {code:?} {said}");
    }
}

#[test]
fn what_asks_servers() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    let servers = stack.bootstrap_servers();
    let generate = |run: &str| {
        let mut command = generator(&stack);
        command.args(["--count", "100", "--run-id", run]);
        command
    };
    succeed(generate("printed"));
    catch_up(&stack, &[]);
    let cases: [&[&str]; 8] = [
        &["status", "--bootstrap-servers", &servers, "--http-addr", "off"],
        &["status", "--json", "--bootstrap-servers", &servers, "--http-addr", "off"],
        &["migrate"],
        &["dead-letters", "list"],
        &["dead-letters", "replay"],
        &["offsets", "show"],
        &["retention", "--keep", "400d", "--dry-run"],
        &["check", "--no-save", "--only", "rows_counted"],
    ];
    for arguments in cases {
        let user = if arguments[0] == "retention" { crate::support::OWNER } else { WRITER };
        is_honest(&format!("{arguments:?}"), || program(&stack, user, arguments), 0);
    }
    let lake = stack.lake_url();
    let reconcile = || {
        let mut command = program(&stack, WRITER, &["reconcile", "--run", "printed", "--lake", &lake]);
        command.args(["--bootstrap-servers", &servers]).envs(stack.s3().variables());
        command
    };
    is_honest("reconcile", reconcile, 0);
    let verifier = || {
        let mut command = command("verifier", &["--run", "printed", "--lake", &lake, "--bootstrap-servers", &servers]);
        command.args(["--database-url", &stack.database_url(), "--s3-endpoint", &stack.s3().endpoint]);
        command
    };
    is_honest("verifier", verifier, 0);

    // The log goes to standard error.
    let quiet = |mut command: Command| command.stdout(Stdio::null()).stderr(closed()).status().unwrap().code();
    let mut caught_up = consumer(&stack);
    caught_up.arg("--until-caught-up");
    assert_eq!(quiet(caught_up), Some(0));
    assert_eq!(quiet(generate("unread")), Some(0));
}

#[test]
fn errors_without_a_reader() {
    let code = |name, arguments: &[&str], stderr: Stdio| {
        command(name, arguments).stdout(Stdio::null()).stderr(stderr).status().unwrap().code()
    };
    for name in ["kafka-consumer", "event-generator"] {
        for stderr in [closed, full] {
            assert_eq!(code(name, &["--nonsense"], stderr()), Some(2), "{name}");
            assert_eq!(code(name, &["-X", "no.such.property=1", "--http-addr", "off"], stderr()), Some(2), "{name}");
            let unreachable = ["--bootstrap-servers", "127.0.0.1:9", "--http-addr", "off"];
            assert_eq!(code(name, &unreachable, stderr()), Some(1), "{name}");
        }
    }
    assert_eq!(code("verifier", &["--run", "nobody", "--lake", "file:///nowhere"], closed()), Some(1));
    let nowhere = ["--data-dir", "/dev/null/nowhere", "up"];
    assert_eq!(code("local-stack", &nowhere, closed()), Some(1));
}
