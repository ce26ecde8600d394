//! Flags that determine the events, shared by `run`, `sample` and `describe`.

use std::hash::{BuildHasher, Hasher, RandomState};

use clap::Args;
use event_model::Timestamp;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::units;
use serde::{Deserialize, Serialize};
use workload::{
    DEFAULT_WORLD_SEED, Effects, EventRate, ExperimentEffect, FaultShare, Faults, MAX_PADDING, MAX_PEOPLE_OR_PRODUCTS,
    Settings, Shape, Source, World,
};

#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::doc_markdown, reason = "the comment is the help")]
#[command(next_help_heading = "Events")]
pub(crate) struct EventArgs {
    /// Seed of all random choices, a whole number from 0 to 2^64-1; the same seed and settings generate the same events
    /// [default: random, logged]
    #[arg(long, value_parser = parse_seed, allow_hyphen_values = true)]
    pub(crate) seed: Option<u64>,
    /// Seed of the world: the account and the experiment of each user, and the category of each product; runs with the
    /// same world agree on them
    #[arg(
        long,
        default_value_t = DEFAULT_WORLD_SEED,
        value_name = "SEED",
        value_parser = parse_seed,
        allow_hyphen_values = true
    )]
    pub(crate) world_seed: u64,
    /// Time of event 0 in RFC 3339, such as 2026-11-22T10:00:00Z [default: now; with --rate max, the time at which the
    /// last event is now]
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub(crate) from: Option<Timestamp>,
    /// Distribution of events over the UTC day: flat, or daily, which peaks from 8 to 22 with the same daily total
    #[arg(long, default_value_t = Shape::Flat, value_name = "flat|daily")]
    pub(crate) shape: Shape,
    /// Name of the run in its keys and manifest, 1 to 64 letters, digits, - or _ [default: its tag, nine hexadecimal
    /// digits]
    #[arg(long, value_name = "NAME")]
    #[serde(skip)]
    pub(crate) run_id: Option<String>,
    /// Inject a fault into a share of the events, such as invalid=0.5%; repeatable, or separated by commas. Kinds:
    /// invalid (rejected, written to the quarantine), corrupt (unparseable), oversize (over 64 KiB, at most 1%),
    /// duplicate (sent twice), late, out-of-order, hot-key (of one user), burst (100 at once)
    #[arg(long, value_name = "KIND=SHARE", value_delimiter = ',')]
    pub(crate) fault: Vec<FaultShare>,
    /// Change the share of views that a request for quotation follows in an experiment, by -100% to +300%: exp_3=+15%
    /// turns 12% into 13.8%; repeatable, or separated by commas
    #[arg(long, value_name = "EXPERIMENT=CHANGE", value_delimiter = ',')]
    pub(crate) effect: Vec<ExperimentEffect>,
    /// Size of a field that pads each record, 0 to 60000 bytes; readers ignore it and the lake omits it
    #[arg(
        long,
        default_value_t = 0,
        value_name = "BYTES",
        value_parser = units::bytes_within::<u32>(0..=MAX_PADDING.into()),
        allow_hyphen_values = true
    )]
    pub(crate) padding: u32,
    /// Number of users, 1 to 10M, some far more active than others
    #[arg(
        long,
        default_value_t = 1_000,
        value_name = "N",
        value_parser = units::count_within::<u32>(1..=MAX_PEOPLE_OR_PRODUCTS.into()),
        allow_hyphen_values = true
    )]
    pub(crate) users: u32,
    /// Number of accounts, 1 to 2147483647; a user belongs to one account
    #[arg(
        long,
        default_value_t = 10,
        value_name = "N",
        value_parser = units::count_within::<u32>(1..=i32::MAX.unsigned_abs().into()),
        allow_hyphen_values = true
    )]
    pub(crate) accounts: u32,
    /// Number of products, 1 to 10M; a product belongs to one category
    #[arg(
        long,
        default_value_t = 100,
        value_name = "N",
        value_parser = units::count_within::<u32>(1..=MAX_PEOPLE_OR_PRODUCTS.into()),
        allow_hyphen_values = true
    )]
    pub(crate) products: u32,
}

impl EventArgs {
    /// Creates the source of the events. `from` and `random_seed` apply if the flags do not set them.
    pub(crate) fn source(&self, event_rate: EventRate, from: Timestamp, random_seed: u64) -> Result<Source, Failure> {
        let world = World {
            seed: self.world_seed,
            users: self.users,
            accounts: self.accounts,
            products: self.products,
            ..World::default()
        };
        let faults = Faults::from_shares(&self.fault).map_err(|error| Failure::usage(format!("--fault: {error}")))?;
        let effects = Effects::new(&self.effect).map_err(|error| Failure::usage(format!("--effect: {error}")))?;
        let settings = Settings {
            seed: self.seed.unwrap_or(random_seed),
            world,
            effects,
            faults,
            event_rate,
            shape: self.shape,
            padding: self.padding,
            from: self.from.unwrap_or(from),
            run_id: self.run_id.clone(),
        };
        Source::new(settings).map_err(|error| Failure::usage(error.to_string()))
    }
}

/// Returns a random seed of 32 bits, short enough to type.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 32
}

fn parse_seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("not a seed; write a whole number from 0 to {}", u64::MAX))
}

/// Parses a time of RFC 3339.
pub(crate) fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "not an RFC 3339 time; write 2026-11-22T10:00:00Z or 2026-11-22T12:00:00+02:00".to_owned())
}
