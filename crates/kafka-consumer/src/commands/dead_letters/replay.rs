//! Replays dead letters: inserts the events that the rules and the table accept now.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use event_model::{ProductEvent, Rejection, Window, parse};
use tokio_postgres::{Client, Transaction};

use crate::commands::dead_letters::filter::{Filter, MATCHES, borrowed, with_sqlstate};
use crate::commands::dead_letters::stored::{StoredLetter, columns};
use crate::dead_letter::{REFUSED_BY_POSTGRES, Stage, storable};
use crate::ingest::row_loader::{LoadError, LoadRows, Refusal, RowLoader};
use crate::postgres::fault::Repeats;

/// Number of dead letters to fetch and insert at a time.
const PAGE: i32 = 200;
/// Payload, cut off one byte above `MAX_VALUE_BYTES`. That is enough to reject a larger one.
const ENOUGH: &str = "substring(payload FOR 65537)";

/// Outcome of a replay or of a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Number of open dead letters that matched.
    pub(crate) letters: u64,
    /// Number of inserted rows.
    pub(crate) rows: u64,
    /// Number of dead letters whose `event_id` was in the table.
    pub(crate) duplicates: u64,
    /// Number of duplicates whose content differs from the row in the table.
    pub(crate) duplicates_differing: u64,
    /// Number of dead letters of days that retention has dropped; they stay open.
    pub(crate) expired: u64,
    /// Number of dead letters whose row a trigger suppressed or redirected; they stay open.
    pub(crate) suppressed: u64,
    /// Number of dead letters that were refused again, and an example of the message, by reason.
    pub(crate) refused: BTreeMap<String, (u64, String)>,
}

/// Replays the matching open dead letters in one transaction. A dry run rolls it back.
///
/// Does not change the counts in `pipeline.consumer_offsets`: they hold the outcome of each record when it was read.
pub(crate) async fn replay(
    client: &mut Client,
    maker: &Client,
    filter: &Filter,
    window: Window,
    dry_run: bool,
) -> anyhow::Result<Outcome> {
    let rows = RowLoader::prepare(client).await.context("cannot prepare the replay")?;
    let transaction = client.transaction().await?;
    let sql = format!(
        r#"SELECT {} FROM pipeline.dead_letters WHERE {MATCHES}
        ORDER BY topic_incarnation, partition, "offset" LIMIT $10 FOR UPDATE"#,
        columns(ENOUGH)
    );
    let statement = transaction.prepare(&sql).await.context("cannot read the dead letters")?;
    let parameters = filter.parameters_with_limit();
    let portal = transaction.bind(&statement, &borrowed(&parameters)).await?;
    let mut replay = Replay { transaction: &transaction, filter, rows, outcome: Outcome::default() };
    loop {
        let page = transaction.query_portal(&portal, PAGE).await.context("cannot read the dead letters")?;
        if page.is_empty() {
            break;
        }
        let letters: Vec<StoredLetter> = page.iter().map(StoredLetter::read).collect::<Result<_, _>>()?;
        // A dry run creates table partitions in its transaction, and rolls them back. Otherwise a separate session
        // creates them, so that no other process waits for their locks until this transaction ends.
        let maker = if dry_run { None } else { Some(maker) };
        replay.page(&letters, window, maker).await?;
    }
    let outcome = replay.outcome;
    let end = if dry_run { transaction.rollback().await } else { transaction.commit().await };
    end.context("cannot commit the replay; nothing was changed")?;
    Ok(outcome)
}

struct Replay<'a> {
    transaction: &'a Transaction<'a>,
    filter: &'a Filter,
    rows: RowLoader,
    outcome: Outcome,
}

/// A page of dead letters, validated by the current rules.
#[derive(Default)]
struct Validated<'a> {
    valid: Vec<(&'a StoredLetter, ProductEvent<'a>)>,
    rejected: Vec<(&'a StoredLetter, Rejection)>,
}

/// A dead letter that was refused again, and the reason.
struct Kept<'a> {
    letter: &'a StoredLetter,
    stage: Stage,
    reason_code: &'static str,
    reason: String,
    sqlstate: Option<String>,
}

impl Replay<'_> {
    async fn page(&mut self, letters: &[StoredLetter], window: Window, maker: Option<&Client>) -> anyhow::Result<()> {
        self.outcome.letters += letters.len() as u64;
        let validated = validate(letters, window);
        let hours = validated.valid.iter().map(|(_, event)| event.event_timestamp.hour()).collect();
        let expired = match maker {
            Some(maker) => self.rows.ensure_days(maker, &hours).await,
            None => self.rows.ensure_days(self.transaction, &hours).await,
        };
        let expired = expired.context("cannot create a table partition")?;
        let is_expired = |event: &ProductEvent<'_>| expired.contains(&event.event_timestamp.days());
        let (late, unexpired): (Vec<_>, Vec<_>) = validated.valid.into_iter().partition(|(_, event)| is_expired(event));

        let (refusals, suppressed) = self.load(&unexpired).await?;
        let mut kept: Vec<Kept<'_>> =
            validated.rejected.into_iter().map(|(letter, why)| Kept::by_rules(letter, &why)).collect();
        let mut loaded: Vec<&StoredLetter> = unexpired.iter().map(|(letter, _)| *letter).collect();
        let letter = |number: u64| unexpired[usize::try_from(number).unwrap_or(usize::MAX)].0;
        kept.extend(refusals.iter().map(|refusal| Kept::by_postgres(letter(refusal.number), refusal)));
        let mut open: BTreeSet<u64> = refusals.iter().map(|refusal| refusal.number).collect();
        let suppressed: Vec<&StoredLetter> =
            suppressed.into_iter().filter(|number| open.insert(*number)).map(letter).collect();
        let mut numbers = 0..;
        loaded.retain(|_| numbers.next().is_none_or(|number| !open.contains(&number)));

        self.outcome.expired += late.len() as u64;
        let mut tried: Vec<&StoredLetter> = late.iter().map(|(letter, _)| *letter).collect();
        tried.extend(suppressed);
        self.note(&loaded, REPLAYED).await?;
        self.note(&tried, TRIED).await?;
        self.keep(&kept).await
    }

    /// Inserts rows. Returns the rows that PostgreSQL refused, and the numbers of the rows missing from the table after
    /// triggers suppressed some.
    async fn load(
        &mut self,
        unexpired: &[(&StoredLetter, ProductEvent<'_>)],
    ) -> anyhow::Result<(Vec<Refusal>, BTreeSet<u64>)> {
        if unexpired.is_empty() {
            return Ok(Default::default());
        }
        let mut rows = LoadRows::default();
        for (number, (_, event)) in (0..).zip(unexpired) {
            rows.add(number, event);
        }
        // A replay makes one attempt, so it blames transient errors on rows at once. That loses nothing: their dead
        // letters stay open.
        let loaded = self.rows.load(self.transaction, &rows, &Repeats::exhausted()).await;
        let loaded = loaded.context("cannot insert the rows; nothing was changed")?;
        let suppressed = match loaded.suppressed {
            0 => BTreeSet::new(),
            _ => self.rows.missing(self.transaction, &rows).await.map_err(LoadError::from)?,
        };
        let refused = loaded.refused.len() as u64;
        self.outcome.duplicates += loaded.duplicates;
        self.outcome.duplicates_differing += loaded.differing;
        self.outcome.suppressed += loaded.suppressed;
        self.outcome.rows += unexpired.len() as u64 - loaded.duplicates - loaded.suppressed - refused;
        Ok((loaded.refused, suppressed))
    }

    /// Records an attempt on dead letters with [`REPLAYED`] or [`TRIED`].
    async fn note(&self, letters: &[&StoredLetter], statement: &str) -> anyhow::Result<()> {
        let (incarnations, partitions, offsets) = keys(letters);
        let group_topic = &self.filter.group_topic;
        self.transaction
            .execute(statement, &[&group_topic.group, &group_topic.topic, &incarnations, &partitions, &offsets])
            .await
            .context("cannot update the dead letters")?;
        Ok(())
    }

    async fn keep(&mut self, kept: &[Kept<'_>]) -> anyhow::Result<()> {
        for one in kept {
            let reason = with_sqlstate(one.reason_code, one.sqlstate.as_deref());
            self.outcome.refused.entry(reason).or_insert_with(|| (0, one.reason.clone())).0 += 1;
        }
        let letters: Vec<&StoredLetter> = kept.iter().map(|one| one.letter).collect();
        let (incarnations, partitions, offsets) = keys(&letters);
        let stages: Vec<&str> = kept.iter().map(|one| one.stage.as_str()).collect();
        let codes: Vec<&str> = kept.iter().map(|one| one.reason_code).collect();
        let reasons: Vec<&str> = kept.iter().map(|one| one.reason.as_str()).collect();
        let sqlstates: Vec<Option<&str>> = kept.iter().map(|one| one.sqlstate.as_deref()).collect();
        let group_topic = &self.filter.group_topic;
        self.transaction
            .execute(
                KEPT,
                &[
                    &group_topic.group,
                    &group_topic.topic,
                    &incarnations,
                    &partitions,
                    &offsets,
                    &stages,
                    &codes,
                    &reasons,
                    &sqlstates,
                ],
            )
            .await
            .context("cannot update the dead letters")?;
        Ok(())
    }
}

const REPLAYED: &str = r#"UPDATE pipeline.dead_letters AS letter SET replayed_at = now(), attempts = attempts + 1
    FROM unnest($3::integer[], $4::integer[], $5::bigint[]) AS chosen (incarnation, partition, "offset")
    WHERE letter.consumer_group = $1 AND letter.topic = $2 AND letter.topic_incarnation = chosen.incarnation
      AND letter.partition = chosen.partition AND letter."offset" = chosen."offset""#;

const TRIED: &str = r#"UPDATE pipeline.dead_letters AS letter SET attempts = attempts + 1
    FROM unnest($3::integer[], $4::integer[], $5::bigint[]) AS chosen (incarnation, partition, "offset")
    WHERE letter.consumer_group = $1 AND letter.topic = $2 AND letter.topic_incarnation = chosen.incarnation
      AND letter.partition = chosen.partition AND letter."offset" = chosen."offset""#;

/// Stores the current reason, which may differ from the previous one.
const KEPT: &str = r#"UPDATE pipeline.dead_letters AS letter
    SET attempts = attempts + 1, stage = chosen.stage, reason_code = chosen.code, reason = chosen.reason,
        sqlstate = chosen.state
    FROM unnest($3::integer[], $4::integer[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[])
        AS chosen (incarnation, partition, "offset", stage, code, reason, state)
    WHERE letter.consumer_group = $1 AND letter.topic = $2 AND letter.topic_incarnation = chosen.incarnation
      AND letter.partition = chosen.partition AND letter."offset" = chosen."offset""#;

impl<'a> Kept<'a> {
    fn by_rules(letter: &'a StoredLetter, rejection: &Rejection) -> Self {
        let reason = storable(&rejection.to_string());
        Self { letter, stage: Stage::Validate, reason_code: rejection.reason().code(), reason, sqlstate: None }
    }

    fn by_postgres(letter: &'a StoredLetter, refusal: &Refusal) -> Self {
        let (reason, sqlstate) = (storable(&refusal.reason), Some(refusal.sqlstate.clone()));
        Self { letter, stage: Stage::Insert, reason_code: REFUSED_BY_POSTGRES, reason, sqlstate }
    }
}

fn validate(letters: &[StoredLetter], window: Window) -> Validated<'_> {
    let mut validated = Validated::default();
    for letter in letters {
        // Takes the time of the first reading as the present, so that the passage of time does not change the outcome.
        match parse(letter.payload.as_deref(), letter.record_time, window.at(letter.first_seen)) {
            Ok(event) => validated.valid.push((letter, event)),
            Err(rejection) => validated.rejected.push((letter, rejection)),
        }
    }
    validated
}

fn keys(letters: &[&StoredLetter]) -> (Vec<i32>, Vec<i32>, Vec<i64>) {
    let incarnations = letters.iter().map(|letter| letter.incarnation).collect();
    let partitions = letters.iter().map(|letter| letter.partition).collect();
    (incarnations, partitions, letters.iter().map(|letter| letter.offset).collect())
}
