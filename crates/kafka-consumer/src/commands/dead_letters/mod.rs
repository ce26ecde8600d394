//! `kafka-consumer dead-letters`: lists, shows, replays, exports and discards dead letters.

mod discard;
mod error_context;
mod export;
mod filter;
mod list;
mod replay;
mod show;
mod stored;

#[cfg(test)]
mod fuzz;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use event_model::{Timestamp, Window};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::output::unless_closed;
use pipeline_runtime::units::{self, TimeSpan};
use serde_json::json;
use tokio_postgres::Client;

use crate::commands::args::{DatabaseArgs, GroupTopicArgs, WindowArgs};
use crate::commands::dead_letters::filter::{Filter, State};
use crate::commands::dead_letters::list::Listing;
use crate::commands::dead_letters::replay::Outcome;
use crate::commands::dead_letters::show::LetterKey;
use crate::commands::printable::{escaped, json_line};
use crate::observability::timing::before_now;

#[derive(Subcommand, Clone)]
pub(crate) enum DeadLettersCommand {
    /// Count dead letters by reason, and list the newest
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show the headers, reasons and payload of a dead letter, with the violations marked
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// Insert the events of open dead letters that are now valid, after rules or tables were fixed
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Write dead letters as JSON, one object per line
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Delete the payloads of dead letters, and keep their positions and reasons
    #[command(after_help = DISCARD_EXAMPLES)]
    Discard(DiscardArgs),
}

const LIST_EXAMPLES: &str = "\
Examples:
  kafka-consumer dead-letters list
  kafka-consumer dead-letters list --reason not_json --since 2h
  kafka-consumer dead-letters list --count --state all --json";

const SHOW_EXAMPLES: &str = "\
Examples:
  kafka-consumer dead-letters show 3 12000
  kafka-consumer dead-letters show 3 12000 --json";

const REPLAY_EXAMPLES: &str = "\
Examples:
  kafka-consumer dead-letters replay --dry-run
  kafka-consumer dead-letters replay --reason unknown_event_type";

const EXPORT_EXAMPLES: &str = "\
Examples:
  kafka-consumer dead-letters export --output dead-letters.jsonl
  kafka-consumer dead-letters export --state all --since 1d";

const DISCARD_EXAMPLES: &str = "\
Examples:
  kafka-consumer dead-letters discard --older-than 30d
  kafka-consumer dead-letters discard --reason not_json --yes";

#[derive(Args, Clone)]
#[command(next_help_heading = "Selection")]
struct ChoiceArgs {
    /// Select this reason code, such as `not_json`; repeatable
    #[arg(long, value_name = "CODE")]
    reason: Vec<String>,
    /// Select this partition
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Select records first seen at this time or later: 2026-11-22T00:00:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = moment)]
    since: Option<Timestamp>,
    /// Select records first seen before this time, in the same formats
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = moment)]
    until: Option<Timestamp>,
    /// Select rows that PostgreSQL refused with this SQLSTATE, such as 23514
    #[arg(long, value_name = "CODE")]
    sqlstate: Option<String>,
    /// Select records whose header `run` has this value, which event-generator sets to the run tag
    #[arg(long, value_name = "TAG")]
    run: Option<String>,
    /// Maximum number of dead letters [default: 50 for list, unlimited for the other commands]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = units::count::<u32>)]
    limit: Option<u32>,
    #[command(flatten)]
    group_topic: GroupTopicArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args, Clone)]
pub(crate) struct ListArgs {
    /// Select dead letters in this state
    #[arg(long, value_enum, default_value_t = State::Open)]
    state: State,
    /// Print only the counts by reason
    #[arg(long)]
    count: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Args, Clone)]
pub(crate) struct ShowArgs {
    /// Partition of the record
    #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    /// Offset of the record
    #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,
    /// Incarnation of the topic, which increases when the topic is recreated [default: the latest]
    #[arg(long, value_name = "N")]
    incarnation: Option<i32>,
    /// Print one JSON object with the whole payload
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    group_topic: GroupTopicArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args, Clone)]
pub(crate) struct ReplayArgs {
    /// Print the outcome of a replay, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Args, Clone)]
pub(crate) struct ExportArgs {
    /// Select dead letters in this state
    #[arg(long, value_enum, default_value_t = State::Open)]
    state: State,
    /// File to create [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file of --output if it exists
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Args, Clone)]
pub(crate) struct DiscardArgs {
    /// Select dead letters in this state
    #[arg(long, value_enum, default_value_t = State::Open)]
    state: State,
    /// Select records first seen longer ago than this, such as 30d
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    older_than: Option<TimeSpan>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// Parses a time, or a duration before the present.
fn moment(text: &str) -> Result<Timestamp, String> {
    match text.parse::<TimeSpan>() {
        Ok(ago) => Ok(before_now(ago.get())),
        Err(_) => text
            .parse()
            .map_err(|_| "neither a duration nor an RFC 3339 time; write 2h or 2026-11-22T00:00:00Z".to_owned()),
    }
}

impl ChoiceArgs {
    fn filter(&self, state: State) -> Filter {
        Filter {
            group_topic: self.group_topic.group_topic(),
            reasons: self.reason.clone(),
            partition: self.partition,
            since: self.since,
            until: self.until,
            sqlstate: self.sqlstate.clone(),
            run: self.run.clone(),
            state,
            limit: self.limit.map(i64::from),
        }
    }

    async fn connect(&self) -> Result<Client, Failure> {
        self.database.connect_to_current("kafka-consumer dead-letters").await
    }
}

impl DeadLettersCommand {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::List(args) => args.run().await,
            Self::Show(args) => args.run().await,
            Self::Replay(args) => args.run().await,
            Self::Export(args) => args.run().await,
            Self::Discard(args) => args.run().await,
        }
    }
}

/// Default limit of `list`.
const LISTED: i64 = 50;

impl ListArgs {
    async fn run(self) -> Result<(), Failure> {
        let mut filter = self.choice.filter(self.state);
        filter.limit = filter.limit.or(Some(LISTED));
        let listing = Listing { count_only: self.count, json: self.json };
        let client = self.choice.connect().await?;
        unless_closed(list::list(&client, &filter, listing, &mut io::stdout()).await)
    }
}

impl ShowArgs {
    async fn run(self) -> Result<(), Failure> {
        let key = LetterKey { partition: self.partition, offset: self.offset, incarnation: self.incarnation };
        let client = self.database.connect_to_current("kafka-consumer dead-letters").await?;
        let group_topic = self.group_topic.group_topic();
        let letter = show::find(&client, &group_topic, key).await?;
        let mut out = io::stdout();
        unless_closed(if self.json {
            writeln!(out, "{}", json_line(&letter.json())).map_err(Into::into)
        } else {
            show::print(&letter, &group_topic, self.window.window(), &mut out)
        })
    }
}

impl ReplayArgs {
    async fn run(self) -> Result<(), Failure> {
        let filter = self.choice.filter(State::Open);
        let (mut client, maker) = (self.choice.connect().await?, self.choice.connect().await?);
        let window: Window = self.window.window();
        let outcome = replay::replay(&mut client, &maker, &filter, window, self.dry_run).await?;
        unless_closed(if self.json { self.print_json(&outcome) } else { self.print(&outcome) })
    }

    fn print(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let mut out = io::stdout();
        if self.dry_run {
            writeln!(out, "dry run, nothing changed; a replay would give:")?;
        }
        let refused = outcome.refused.values().map(|(count, _)| count).sum();
        let lines = [
            ("open dead letters", outcome.letters),
            ("rows inserted", outcome.rows),
            ("duplicates", outcome.duplicates),
            ("  with different content", outcome.duplicates_differing),
            ("expired by retention", outcome.expired),
            ("suppressed by triggers", outcome.suppressed),
            ("still refused", refused),
        ];
        for (name, count) in lines {
            writeln!(out, "{count:>8}  {name}")?;
        }
        for (reason, (count, example)) in &outcome.refused {
            // PostgreSQL's message may quote the record, which may contain control characters.
            writeln!(out, "{count:>8}    {reason}: {}", escaped(example.as_bytes()))?;
        }
        Ok(())
    }

    fn print_json(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let refused = outcome
            .refused
            .iter()
            .map(|(reason, (count, example))| json!({"reason": reason, "count": count, "example": example}));
        let all = json!({
            "dry_run": self.dry_run, "letters": outcome.letters, "rows": outcome.rows, "duplicates": outcome.duplicates,
            "duplicates_differing": outcome.duplicates_differing, "expired": outcome.expired,
            "suppressed": outcome.suppressed, "refused": refused.collect::<Vec<_>>(),
        });
        writeln!(io::stdout(), "{}", json_line(&all))?;
        Ok(())
    }
}

impl ExportArgs {
    async fn run(self) -> Result<(), Failure> {
        let filter = self.choice.filter(self.state);
        let client = self.choice.connect().await?;
        let Some(path) = &self.output else {
            return unless_closed(export::export(&client, &filter, &mut BufWriter::new(io::stdout())).await.map(drop));
        };
        // A device or a pipe holds nothing to replace.
        let is_stream = path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
        let file = if self.overwrite || is_stream { File::create(path) } else { File::create_new(path) };
        let file = file.map_err(|error| {
            let exists = error.kind() == io::ErrorKind::AlreadyExists;
            let remedy = if exists { "; pass --overwrite to replace it" } else { "" };
            anyhow!("cannot create --output {}: {error}{remedy}", path.display())
        })?;
        let count = export::export(&client, &filter, &mut BufWriter::new(file)).await;
        let count = count.with_context(|| format!("--output {} is incomplete", path.display()))?;
        unless_closed(writeln!(io::stdout(), "{count} dead letters written to {}", path.display()).map_err(Into::into))
    }
}

impl DiscardArgs {
    async fn run(self) -> Result<(), Failure> {
        let mut filter = self.choice.filter(self.state);
        if let Some(age) = self.older_than {
            let oldest = before_now(age.get());
            filter.until = Some(filter.until.map_or(oldest, |until| until.min(oldest)));
        }
        let client = self.choice.connect().await?;
        if !self.yes && !self.agreed(&client, &filter).await? {
            return unless_closed(writeln!(io::stdout(), "nothing discarded").map_err(Into::into));
        }
        let count = discard::discard(&client, &filter).await?;
        unless_closed(writeln!(io::stdout(), "{count} dead letters discarded").map_err(Into::into))
    }

    /// Asks for confirmation. Returns false without asking if no dead letter matches.
    async fn agreed(&self, client: &Client, filter: &Filter) -> Result<bool, Failure> {
        let count = discard::count(client, filter).await?;
        if count == 0 {
            return Ok(false);
        }
        if !io::stdin().is_terminal() {
            let message = format!("cannot ask for confirmation to discard {count} payloads: no terminal; pass --yes");
            return Err(Failure::usage(message));
        }
        let question = format!("Discard the payloads of {count} dead letters? They can no longer be replayed. [y/N] ");
        // If the question cannot be written, the missing answer means no.
        let _ = io::stderr().write_all(question.as_bytes());
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).context("cannot read the answer")?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
