//! Nothing but a list of dependencies, see `Cargo.toml`: their features are the same whichever program is built.
