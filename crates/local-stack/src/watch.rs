//! Ends a test's server or a tool's program after its owner was killed.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::error::StackError;
use crate::process::Signal;

/// Waits on a pipe whose write end the kernel closes when the owner dies, however it dies. A line on the pipe means
/// that the owner has ended the process itself. $1 is the process, $2 the signal, $3 the folder to remove.
const SCRIPT: &str = r#"
read -r word && exit 0
kill "-$2" "$1" 2>/dev/null
for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" 2>/dev/null || break; sleep 0.5; done
kill -KILL "$1" 2>/dev/null
if [ -n "$3" ]; then sleep 0.5; rm -rf -- "$3"; fi
"#;

/// A shell of a few hundred kilobytes that waits for the death of its owner.
#[derive(Debug)]
pub struct Watch {
    shell: Child,
}

impl Watch {
    /// Kills process `pid` when the current process dies. Drop this after `pid` has ended.
    pub fn killing(pid: u32) -> Result<Self, StackError> {
        Self::over(pid, Signal::Kill, None)
    }

    /// Sends `signal` to process `pid` when the current process dies, then removes `folder`.
    pub(crate) fn over(pid: u32, signal: Signal, folder: Option<&Path>) -> Result<Self, StackError> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "local-stack-watch", &pid.to_string(), signal.name()])
            .arg(folder.unwrap_or(Path::new("")))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|cause| StackError::Program { program: "sh".to_owned(), cause, advice: "install /bin/sh" })?;
        Ok(Self { shell })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.shell.wait();
    }
}
