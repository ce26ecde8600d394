//! Runs the checks: queries that return one number each, compared with a threshold.

use std::time::{Duration, Instant};

use pipeline_runtime::progress::Progress;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::commands::check::definition::{Check, Severity};
use crate::commands::check::visibility;
use crate::postgres::{self, cluster};

/// Status of a check that was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// The value does not exceed the threshold.
    Pass,
    /// The value exceeds the threshold.
    Fail,
    /// The value is null: there was nothing to evaluate.
    Skip,
    /// The query failed, or did not return one row with a number or null.
    Broken,
}

impl Status {
    /// Returns the name that `pipeline.check_results` stores.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::Broken => "broken",
        }
    }
}

/// Result of a check.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CheckResult {
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) severity: Severity,
    /// Value that the query returned. `None` if the check was skipped or is broken.
    pub(crate) value: Option<f64>,
    /// Maximum value that passes.
    pub(crate) threshold: f64,
    /// Unit of the value; may be empty.
    pub(crate) unit: String,
    /// Detail that the query returned, or the reason why the check is broken.
    pub(crate) detail: Option<String>,
    /// Meaning of a failure and its remedy.
    pub(crate) explanation: String,
    /// Duration of the check.
    pub(crate) seconds: f64,
}

/// Results of all checks, in the order of the checks.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Identifies the results in `pipeline.check_results`.
    pub(crate) run_id: Uuid,
    pub(crate) results: Vec<CheckResult>,
}

impl Report {
    /// Returns the names of the checks with a status and, if given, a severity.
    #[must_use]
    pub(crate) fn names(&self, status: Status, severity: Option<Severity>) -> Vec<&str> {
        let wanted = |one: &&CheckResult| one.status == status && severity.is_none_or(|wanted| wanted == one.severity);
        self.results.iter().filter(wanted).map(|one| one.name.as_str()).collect()
    }
}

/// Runs each check in a separate read-only transaction. `limit` is the timeout of each query.
pub(crate) async fn run(
    client: &mut Client,
    checks: &[Check],
    limit: Duration,
    progress: &Progress,
) -> Result<Report, Error> {
    let is_distributed = cluster::is_distributed(client).await?;
    let mut results = Vec::with_capacity(checks.len());
    for check in checks {
        let began = Instant::now();
        progress.set(results.len() as u64);
        progress.say(check.name.clone());
        let (status, value, detail) = match ask(client, check, limit, is_distributed).await {
            Ok(answer) => evaluate(check, answer),
            // The server did not send this error: the connection is lost, and every further check would fail.
            Err(error) if error.as_db_error().is_none() => return Err(error),
            Err(error) => (Status::Broken, None, Some(with_hint(&error, limit))),
        };
        results.push(CheckResult {
            name: check.name.clone(),
            status,
            severity: check.severity,
            value,
            threshold: check.threshold,
            unit: check.unit.clone(),
            detail,
            explanation: check.explanation.clone(),
            seconds: began.elapsed().as_secs_f64(),
        });
    }
    let run_id = client.query_one("SELECT gen_random_uuid()", &[]).await?.get(0);
    Ok(Report { run_id, results })
}

/// Returns the query's rows as JSON, at most two: a second row already makes the check broken.
async fn ask(client: &mut Client, check: &Check, limit: Duration, is_distributed: bool) -> Result<Vec<String>, Error> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    transaction.batch_execute(&format!("SET LOCAL statement_timeout = {}", limit.as_millis())).await?;
    if is_distributed {
        // PostgreSQL cannot estimate what the workers send, and a hash of all IDs would spill to disk.
        transaction.batch_execute("SET LOCAL enable_hashagg = off").await?;
    }
    let sql = visibility::query_of(&transaction, check, is_distributed).await?;
    let sql = format!("SELECT to_jsonb(answer)::text FROM (\n{sql}\n) AS answer LIMIT 2");
    let rows = transaction.query(&sql, &[]).await?;
    transaction.rollback().await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn with_hint(error: &Error, limit: Duration) -> String {
    if error.code() == Some(&SqlState::QUERY_CANCELED) {
        return format!("the query took longer than {} s; raise --timeout", limit.as_secs_f64());
    }
    postgres::describe(error)
}

fn evaluate(check: &Check, rows: Vec<String>) -> (Status, Option<f64>, Option<String>) {
    let broken = |why: &str| (Status::Broken, None, Some(why.to_owned()));
    let mut rows = rows.into_iter();
    let (Some(row), None) = (rows.next(), rows.next()) else { return broken("the query must return one row") };
    let Ok(row) = serde_json::from_str::<Value>(&row) else { return broken("the row cannot be parsed") };
    let detail = match row.get("detail") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    match row.get("value") {
        None => broken("the query must return a column `value`"),
        Some(Value::Null) => (Status::Skip, None, detail),
        Some(value) => match value.as_f64() {
            None => broken("the value must be a number or null"),
            Some(value) if value > check.threshold => (Status::Fail, Some(value), detail),
            Some(value) => (Status::Pass, Some(value), detail),
        },
    }
}

const KEEP: &str = "INSERT INTO pipeline.check_results
    (run_id, check_name, status, severity, value, threshold, detail, seconds) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Stores the results in `pipeline.check_results`, in one transaction.
pub(crate) async fn keep(client: &mut Client, report: &Report) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let statement = transaction.prepare(KEEP).await?;
    for one in &report.results {
        let (status, severity) = (one.status.name(), one.severity.name());
        transaction
            .execute(
                &statement,
                &[&report.run_id, &one.name, &status, &severity, &one.value, &one.threshold, &one.detail, &one.seconds],
            )
            .await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::catalogue::checks;

    fn evaluated(rows: &[&str]) -> (Status, Option<f64>, Option<String>) {
        let check = checks(None).unwrap().remove(0);
        evaluate(&Check { threshold: 2.0, ..check }, rows.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_value_is_evaluated_by_the_threshold() {
        assert_eq!(evaluated(&[r#"{"value": 2}"#]), (Status::Pass, Some(2.0), None));
        let detail = Some("why".to_owned());
        assert_eq!(evaluated(&[r#"{"value": 2.001, "detail": "why"}"#]), (Status::Fail, Some(2.001), detail.clone()));
        assert_eq!(evaluated(&[r#"{"value": null, "detail": "why"}"#]), (Status::Skip, None, detail));
        for bad in [&[][..], &[r#"{"value": 1}"#; 2], &[r#"{"n": 1}"#], &[r#"{"value": "1"}"#], &["[]"]] {
            assert_eq!(evaluated(bad).0, Status::Broken, "{bad:?}");
        }
    }
}
