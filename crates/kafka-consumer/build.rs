//! Embeds the scripts of `db_table_scripts`. Fails on a file there that is not a script.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let folder = Path::new(&root).join("../../db_table_scripts").canonicalize()?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && name == "roles" {
            continue;
        }
        if !is_script(&name) {
            println!("cargo::error=invalid script name db_table_scripts/{name}; rename it like V001__what_it_does.sql");
        }
        names.push(name);
    }
    names.sort();
    let mut list = String::from("pub(super) const SCRIPTS: &[(&str, &str)] = &[\n");
    for (number, name) in (1..).zip(&names) {
        if !name.starts_with(&format!("V{number:03}__")) {
            println!("cargo::error=gap in the script numbers before db_table_scripts/{name}; number it V{number:03}");
        }
        let path = folder.join(name);
        println!("cargo::rerun-if-changed={}", path.display());
        let stem = name.trim_end_matches(".sql");
        writeln!(list, "    ({stem:?}, include_str!({:?})),", path.display().to_string()).map_err(io::Error::other)?;
    }
    list.push_str("];\n");
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("scripts.rs"), list)
}

/// `V`, three digits, two underscores, lower-case words, `.sql`.
fn is_script(name: &str) -> bool {
    let Some((number, words)) = name.strip_prefix('V').and_then(|rest| rest.strip_suffix(".sql")?.split_once("__"))
    else {
        return false;
    };
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    number.len() == 3
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && !words.is_empty()
        && words.bytes().all(word)
}
