//! Empty: see `Cargo.toml`.

fn main() {}
