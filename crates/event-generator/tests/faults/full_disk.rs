//! A full disk under the state and under a lake in a folder.

use std::path::Path;
use std::process::Command;

use crate::program::{command, run};
use crate::servers::target;

/// A small file system, unmounted on drop.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(kib: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={kib}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).status();
        assert!(mounted.unwrap().success(), "this test mounts a tmpfs, which needs root");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_under_the_state_stops_the_run() {
    let disk = Tmpfs::new(16);
    std::fs::write(disk.path().join("other"), vec![0; 8 * 1024]).unwrap();
    // The state grows by a line per hour until the disk is full.
    let target = target();
    let mut command = command("--rate max --count 40k --event-rate 100/h --no-lake --run-id full");
    command.args(["--bootstrap-servers", &target.bootstrap_servers, "--topic", &target.topic]);
    command.env("EVENT_GENERATOR_STATE_DIR", disk.path());
    let done = run(command).expect_error(1, &["state.json", "No space left", "--state-dir"]);
    assert!(done.took < std::time::Duration::from_mins(1), "{done:?}");
}

#[test]
fn a_full_disk_under_the_lake_stops_the_run_until_it_is_resumed() {
    let disk = Tmpfs::new(512);
    let state = tempfile::tempdir().unwrap();
    let filler = disk.path().join("other");
    std::fs::write(&filler, vec![0; 460 * 1024]).unwrap();
    let with_lake = |flags: &str| {
        let mut command = command(flags);
        command.env("EVENT_GENERATOR_STATE_DIR", state.path());
        run(command)
    };
    let flags = "--rate max --count 12k --event-rate 100/s --no-kafka --run-id full --lake file://";
    with_lake(&format!("{flags}{}", disk.path().display()))
        .expect_error(1, &["No space left", "--resume --run-id full"]);
    std::fs::remove_file(filler).unwrap();
    with_lake("--resume --run-id full").expect_code(0);
    assert!(disk.path().join("runs/full.json").exists());
}
