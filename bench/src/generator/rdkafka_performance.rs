//! librdkafka's own benchmark program, linked with the library that our programs use.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::programs::target;

/// Compiles the program. Returns the reason if that fails.
pub(crate) fn build() -> Result<PathBuf, String> {
    let (kafka, zstd) = (newest("rdkafka-sys-", "src/librdkafka.a")?, newest("zstd-sys-", "libzstd.a")?);
    let program = target().join("bench/rdkafka_performance");
    std::fs::create_dir_all(target().join("bench")).map_err(|error| error.to_string())?;
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-w", "-I"]).arg(kafka.join("src")).arg("-I").arg(&kafka);
    compiler.arg(kafka.join("examples/rdkafka_performance.c")).arg(kafka.join("src/librdkafka.a"));
    compiler.arg("-L").arg(zstd).args(["-lzstd", "-lz", "-lssl", "-lcrypto", "-lpthread", "-lm", "-ldl", "-o"]);
    let output = compiler.arg(&program).output().map_err(|error| format!("cc: {error}"))?;
    if output.status.success() { Ok(program) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Returns the build folder of a C library for the profile of this program. Cargo keeps old ones, so the newest is
/// used.
fn newest(package: &str, file: &str) -> Result<PathBuf, String> {
    let builds = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("build");
    let named = |place: &Path| place.file_name().is_some_and(|name| name.to_string_lossy().starts_with(package));
    let built = |place: &PathBuf| place.join(file).metadata().and_then(|file| file.modified());
    std::fs::read_dir(&builds)
        .map_err(|error| format!("{}: {error}", builds.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|place| named(place))
        .map(|place| place.join("out"))
        .filter(|place| built(place).is_ok())
        .max_by_key(|place| built(place).unwrap_or(SystemTime::UNIX_EPOCH))
        .ok_or_else(|| format!("no {package}*/out/{file} in {}", builds.display()))
}
