//! Rehearses a batch in a transaction that is rolled back: the statements of a run, the next table partitions, and one
//! row for each of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use event_model::{EventType, FIELDS, Field, FieldKind, ProductEvent, RequiredFields, Timestamp};
use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

use crate::commands::doctor::finding::{Findings, Severity};
use crate::ingest::row_loader::{LoadError, LoadOutcome, LoadRows, RowLoader};
use crate::ingest::writer::session::Statements;
use crate::kafka::group_topic::GroupTopic;
use crate::observability::timing;
use crate::postgres::cluster;
use crate::postgres::describe;
use crate::postgres::fault::{Repeats, SqlFault, classify};
use crate::postgres::table_partitions::create_day;

const DAY_MICROS: i64 = 86_400_000_000;

/// Adds the findings. Leaves nothing behind but gaps in the sequences of identity columns.
pub(crate) async fn rehearse(client: &mut Client, group_topic: &GroupTopic, lines: &mut Findings) -> Result<(), Error> {
    let columns = columns(client).await?;
    let wrong: Vec<String> = FIELDS.iter().filter_map(|field| mismatch(field, &columns)).collect();
    if !wrong.is_empty() {
        let fix = "restore the columns as db_table_scripts creates them";
        lines.bad("table columns", wrong.join("; "), fix);
        return Ok(());
    }
    lines.good("table columns", "have the types of the events' fields");
    let prepared =
        async { Ok::<_, Error>((Statements::prepare(client, group_topic).await?, RowLoader::prepare(client).await?)) };
    let loader = match prepared.await {
        Ok((_, loader)) => loader,
        Err(error) => {
            put(
                lines,
                "statements",
                classify(&error),
                describe(&error),
                "restore the tables as db_table_scripts creates them",
            );
            return Ok(());
        }
    };
    lines.good("statements", "all prepared");
    let mut transaction = client.transaction().await?;
    days(&mut transaction, &loader, lines).await?;
    transaction.rollback().await
}

/// Creates the table partitions of today and tomorrow, and inserts a row into each.
async fn days(transaction: &mut Transaction<'_>, loader: &RowLoader, lines: &mut Findings) -> Result<(), Error> {
    let now = timing::now();
    let mut rows = LoadRows::default();
    let mut created = false;
    for (number, time) in (0..).zip([now, Timestamp::from_micros(now.micros() + DAY_MICROS)]) {
        let attempt = transaction.transaction().await?;
        match create_day(&attempt, time.days()).await {
            Ok(is_new) => {
                attempt.commit().await?;
                created |= is_new == Some(true);
                rows.add(number, &sample(time));
            }
            Err(error) => {
                let fix =
                    "remove the obstacle (docs/troubleshooting.md); the consumer stops at the first event of that day";
                put(lines, "next table partitions", classify(&error), describe(&error), fix);
                attempt.rollback().await?;
            }
        }
    }
    if rows.count() == 2 {
        lines.good("next table partitions", "can be created");
    }
    if created && cluster::is_distributed(transaction).await? {
        lines.good("sample row", "not tried: Citus refuses it in the transaction that creates its table partition");
    } else if rows.count() > 0 {
        let outcome = loader.load_new(transaction, &rows, &Repeats::exhausted()).await;
        let (severity, found) = judged(outcome);
        match severity {
            Severity::Good => lines.good("sample row", found),
            severity => {
                let fix =
                    "change the table, or its triggers and constraints, so that it accepts the events' fields alone";
                lines.put("sample row", severity, found, Some(fix.to_owned()));
            }
        }
    }
    Ok(())
}

fn put(lines: &mut Findings, check: &'static str, fault: SqlFault, found: String, fix: &str) {
    let severity = if fault == SqlFault::Retry { Severity::Warning } else { Severity::Bad };
    lines.put(check, severity, found, Some(fix.to_owned()));
}

/// Judges the outcome of the sample rows. A row without a value for a column that needs one is refused like every other;
/// another constraint may refuse the sample only.
fn judged(outcome: Result<LoadOutcome, LoadError>) -> (Severity, String) {
    match outcome {
        Err(LoadError(error)) if classify(&error.error) == SqlFault::Retry => {
            (Severity::Warning, format!("not inserted: {}", describe(&error.error)))
        }
        Err(LoadError(error)) => (Severity::Bad, format!("not inserted: {}", describe(&error.error))),
        Ok(outcome) => match outcome.refused.first() {
            Some(refusal) if refusal.sqlstate == "23502" => (Severity::Bad, format!("refused: {}", refusal.reason)),
            Some(refusal) => (Severity::Warning, format!("refused, would become a dead letter: {}", refusal.reason)),
            None if outcome.suppressed > 0 => (Severity::Good, "suppressed by a trigger, and rolled back".to_owned()),
            None => (Severity::Good, "inserted, and rolled back".to_owned()),
        },
    }
}

/// Type and category of each column of the table, a domain's being those of its base type.
const COLUMNS: &str =
    "SELECT a.attname::text, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL), t.typcategory::text
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = 'staging.product_events_raw'::regclass AND a.attnum > 0 AND NOT a.attisdropped";

async fn columns(client: &Client) -> Result<BTreeMap<String, (String, String)>, Error> {
    let rows = client.query(COLUMNS, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

/// Returns the difference between a field, as COPY sends it, and its column. Texts also fit other string types and
/// enumerations.
fn mismatch(field: &Field, columns: &BTreeMap<String, (String, String)>) -> Option<String> {
    let Some((found, category)) = columns.get(field.name) else {
        return Some(format!("column {} is missing", field.name));
    };
    let expected = match field.kind {
        FieldKind::Timestamp => "timestamp with time zone",
        other => other.sql_type(),
    };
    let is_text = matches!(field.kind, FieldKind::Text | FieldKind::EventType);
    let fits = found == expected || (is_text && ["S", "E"].contains(&category.as_str()));
    (!fits).then(|| format!("column {} has the type {found}, not {expected}", field.name))
}

fn sample(event_timestamp: Timestamp) -> ProductEvent<'static> {
    ProductEvent::new(RequiredFields {
        event_id: Uuid::nil(),
        event_timestamp,
        event_type: EventType::ProductViewed,
        user_id: 1,
        account_id: 1,
        product_id: 1,
        category: Cow::Borrowed("tools"),
        experiment_id: Cow::Borrowed("exp_1"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::row_loader::Refusal;

    fn outcome(sqlstate: &str) -> LoadOutcome {
        let refusal = Refusal { number: 0, sqlstate: sqlstate.to_owned(), reason: "a reason".to_owned() };
        LoadOutcome { refused: vec![refusal], ..LoadOutcome::default() }
    }

    #[test]
    fn what_refuses_every_row_is_bad_and_what_may_refuse_the_sample_only_is_a_warning() {
        assert_eq!(judged(Ok(outcome("23502"))).0, Severity::Bad);
        assert_eq!(judged(Ok(outcome("23503"))).0, Severity::Warning);
        assert_eq!(judged(Ok(LoadOutcome::default())).0, Severity::Good);
        assert_eq!(judged(Ok(LoadOutcome { suppressed: 2, ..LoadOutcome::default() })).0, Severity::Good);
    }

    #[test]
    fn a_column_has_the_type_that_copy_sends() {
        let all = |of: &dyn Fn(&Field) -> (String, String)| {
            FIELDS.iter().map(|field| (field.name.to_owned(), of(field))).collect::<BTreeMap<_, _>>()
        };
        let table = all(&|field| match field.kind {
            FieldKind::Timestamp => ("timestamp with time zone".to_owned(), "D".to_owned()),
            FieldKind::Text => ("character varying".to_owned(), "S".to_owned()),
            FieldKind::EventType => ("public.kinds".to_owned(), "E".to_owned()),
            kind => (kind.sql_type().to_owned(), "N".to_owned()),
        });
        assert_eq!(FIELDS.iter().find_map(|field| mismatch(field, &table)), None);
        let bigint = all(&|_| ("bigint".to_owned(), "N".to_owned()));
        assert_eq!(FIELDS.iter().filter_map(|field| mismatch(field, &bigint)).count(), FIELDS.len());
        let user = FIELDS.iter().find(|field| field.name == "user_id");
        let text = user.and_then(|field| mismatch(field, &bigint));
        assert_eq!(text.as_deref(), Some("column user_id has the type bigint, not integer"));
        assert_eq!(FIELDS.iter().filter_map(|field| mismatch(field, &BTreeMap::new())).count(), FIELDS.len());
    }
}
