//! `kafka-consumer dead-letters`: lists, shows, replays, exports and discards dead letters.

mod discard;
mod error_context;
mod export;
mod filter;
mod list;
mod replay;
mod show;
mod stored;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
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
use crate::commands::printable::escaped;
use crate::observability::timing::before_now;

#[derive(Subcommand, Clone)]
pub(crate) enum DeadLettersCommand {
    /// How many there are of each reason, and the newest of them
    List(ListArgs),
    /// One of them: bytes, headers, reasons, with marks where the rules are broken
    Show(ShowArgs),
    /// Try the open ones again, after rules or tables were mended: what is valid now becomes a row
    Replay(ReplayArgs),
    /// Write them out as JSON, one a line
    Export(ExportArgs),
    /// Let their payloads go; that there was a record, and why it was refused, stays
    Discard(DiscardArgs),
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Which ones")]
struct ChoiceArgs {
    /// Of this reason code (may be repeated)
    #[arg(long, value_name = "CODE")]
    reason: Vec<String>,
    /// Of this partition
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// First seen at this time or later: 2026-11-22T00:00:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// First seen before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Refused by PostgreSQL with this code, such as 23514
    #[arg(long, value_name = "CODE")]
    sqlstate: Option<String>,
    /// With this tag in the header `run`, which our generator writes
    #[arg(long, value_name = "TAG")]
    run: Option<String>,
    /// Maximum number of dead letters
    #[arg(long, value_name = "N", value_parser = units::count::<u32>)]
    limit: Option<u32>,
    #[command(flatten)]
    group_topic: GroupTopicArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args, Clone)]
pub(crate) struct ListArgs {
    /// What has become of them
    #[arg(long, value_enum, default_value_t = State::Open)]
    state: State,
    /// Only how many there are of each reason
    #[arg(long)]
    count: bool,
    /// As one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Args, Clone)]
pub(crate) struct ShowArgs {
    /// The record's partition
    partition: i32,
    /// The record's offset
    offset: i64,
    /// Which of the topics of that name, where it was deleted and made anew (the latest)
    #[arg(long, value_name = "N")]
    incarnation: Option<i32>,
    /// As JSON, with all of the payload
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    group_topic: GroupTopicArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args, Clone)]
pub(crate) struct ReplayArgs {
    /// Say what would become of them, change nothing
    #[arg(long)]
    dry_run: bool,
    /// What became of them as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Args, Clone)]
pub(crate) struct ExportArgs {
    /// What has become of them
    #[arg(long, value_enum, default_value_t = State::Open)]
    state: State,
    /// A file that is not there yet (standard output)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Args, Clone)]
pub(crate) struct DiscardArgs {
    /// What has become of them
    #[arg(long, value_enum, default_value_t = State::Open)]
    state: State,
    /// First seen longer ago than this, such as 30d
    #[arg(long, value_name = "DURATION")]
    older_than: Option<TimeSpan>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// Parses a time, or a duration before the present.
fn moment(text: &str) -> Result<Timestamp, String> {
    match text.parse::<TimeSpan>() {
        Ok(ago) => Ok(before_now(ago.get())),
        Err(_) => text.parse().map_err(|error| format!("not a duration such as 2h, and {error}")),
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
        unless_closed(show::show(&client, &self.group_topic.group_topic(), key, self.json, &mut io::stdout()).await)
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
            writeln!(out, "nothing was changed; this would become of them:")?;
        }
        let refused = outcome.refused.values().map(|(count, _)| count).sum();
        let lines = [
            ("open dead letters", outcome.letters),
            ("rows inserted", outcome.rows),
            ("duplicates, their event_id is a row", outcome.duplicates),
            ("  with other content", outcome.duplicates_differing),
            ("expired, retention has taken their day", outcome.expired),
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
        writeln!(io::stdout(), "{all}")?;
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
        let file = File::create_new(path).with_context(|| format!("--output {} cannot be made", path.display()))?;
        let count = export::export(&client, &filter, &mut BufWriter::new(file)).await;
        let count = count.with_context(|| format!("--output {} is not complete", path.display()))?;
        unless_closed(writeln!(io::stdout(), "{count} dead letters in {}", path.display()).map_err(Into::into))
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
            return unless_closed(writeln!(io::stdout(), "nothing was discarded").map_err(Into::into));
        }
        let count = discard::discard(&client, &filter).await?;
        unless_closed(writeln!(io::stdout(), "{count} dead letters discarded").map_err(Into::into))
    }

    async fn agreed(&self, client: &Client, filter: &Filter) -> Result<bool, Failure> {
        let count = discard::count(client, filter).await?;
        if !io::stdin().is_terminal() {
            let message =
                format!("{count} dead letters would lose their payload; without a terminal to ask on, --yes says so");
            return Err(Failure::usage(message));
        }
        let question = format!("Discard the payloads of {count} dead letters? They cannot be replayed then. [y/N] ");
        // If the question cannot be written, the missing answer means no.
        let _ = io::stderr().write_all(question.as_bytes());
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).context("no answer")?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
