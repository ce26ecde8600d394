//! Definition of a check: a file with a header of SQL comments and one query.

use serde::Serialize;
use thiserror::Error;

/// Severity of a failed check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// The data is wrong: the command exits with code 3.
    Error,
    /// The data may be wrong: the exit code does not change.
    Warning,
}

impl Severity {
    /// Returns `error` or `warning`.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Check {
    /// Name of 1 to 64 lower-case letters, digits and underscores.
    pub(crate) name: String,
    pub(crate) severity: Severity,
    /// Maximum value that passes.
    pub(crate) threshold: f64,
    /// Unit of the value; may be empty.
    pub(crate) unit: String,
    /// Meaning of a failure and its remedy.
    pub(crate) explanation: String,
    /// Query that returns one row with the column `value` and, optionally, `detail`. The value is a number, or null if
    /// there is nothing to evaluate.
    pub(crate) sql: String,
}

/// Errors in the file of a check.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum HeaderError {
    /// Line without a colon that does not continue a value.
    #[error("line {0} is neither `-- name: value` nor a continuation of the line above")]
    Form(usize),
    /// Line with an unknown field name.
    #[error("line {0}: unknown field `{1}`; use name, severity, threshold, unit or explanation")]
    Unknown(usize, String),
    /// Line that repeats a field.
    #[error("line {0}: duplicate field `{1}`; remove it")]
    Twice(usize, String),
    /// Required field that the header lacks.
    #[error("the header has no `-- {0}: …`; add it")]
    Missing(&'static str),
    /// Field with an invalid value, and the reason.
    #[error("invalid `{0}`: {1}")]
    Value(&'static str, &'static str),
    #[error("no query after the header; add one")]
    NoQuery,
}

const FIELDS: [&str; 5] = ["name", "severity", "threshold", "unit", "explanation"];

/// Values of the header, in the order of [`FIELDS`].
#[derive(Default)]
struct Header {
    values: [Option<String>; 5],
    /// Index of the value that a continuation line extends.
    last: Option<usize>,
}

impl Check {
    /// Parses the text of a file. Removes trailing semicolons, because the query is run as a subquery.
    pub(crate) fn parse(text: &str) -> Result<Self, HeaderError> {
        let mut header = Header::default();
        let mut sql = text;
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            let line_text = line.trim_end();
            if !line_text.is_empty() {
                let Some(comment) = line_text.strip_prefix("--") else { break };
                header.line(number, comment)?;
            }
            sql = &sql[line.len()..];
        }
        let sql = sql.trim().trim_end_matches(';').trim_end();
        let [name, severity, threshold, unit, explanation] = header.values;
        let check = Self {
            name: checked_name(name.ok_or(HeaderError::Missing("name"))?)?,
            severity: match severity.ok_or(HeaderError::Missing("severity"))?.as_str() {
                "error" => Severity::Error,
                "warning" => Severity::Warning,
                _ => return Err(HeaderError::Value("severity", "expected error or warning")),
            },
            threshold: checked_number(&threshold.ok_or(HeaderError::Missing("threshold"))?)?,
            unit: unit.unwrap_or_default(),
            explanation: explanation.ok_or(HeaderError::Missing("explanation"))?,
            sql: sql.to_owned(),
        };
        if check.sql.is_empty() { Err(HeaderError::NoQuery) } else { Ok(check) }
    }
}

impl Header {
    /// Parses a header line without its dashes. A line with more indentation continues the value above it.
    fn line(&mut self, number: usize, comment: &str) -> Result<(), HeaderError> {
        let goes_on = comment.starts_with("  ") || comment.starts_with(" \t");
        if let (true, Some(last)) = (goes_on, self.last) {
            if let Some(value) = &mut self.values[last] {
                value.push(' ');
                value.push_str(comment.trim());
            }
            return Ok(());
        }
        let (name, value) = comment.split_once(':').ok_or(HeaderError::Form(number))?;
        let name = name.trim();
        let field = FIELDS.iter().position(|field| *field == name);
        let field = field.ok_or_else(|| HeaderError::Unknown(number, name.to_owned()))?;
        if self.values[field].replace(value.trim().to_owned()).is_some() {
            return Err(HeaderError::Twice(number, name.to_owned()));
        }
        self.last = Some(field);
        Ok(())
    }
}

fn checked_name(name: String) -> Result<String, HeaderError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(name);
    }
    Err(HeaderError::Value("name", "expected 1 to 64 lower-case letters, digits and underscores"))
}

fn checked_number(text: &str) -> Result<f64, HeaderError> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or(HeaderError::Value("threshold", "expected a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "-- name: late\n-- severity: warning\n-- threshold: 0.5\n-- unit: percent\n\
        -- explanation: Too many: late ones.\n--   Ask the producer.\n\n-- unit\nSELECT 1 AS value;\n";

    #[test]
    fn a_header_and_a_query() {
        let text = GOOD.replace("-- unit\n", "");
        let check = Check::parse(&text).unwrap();
        assert_eq!((check.name.as_str(), check.severity, check.threshold), ("late", Severity::Warning, 0.5));
        assert_eq!(check.explanation, "Too many: late ones. Ask the producer.");
        assert_eq!((check.unit.as_str(), check.sql.as_str()), ("percent", "SELECT 1 AS value"));
    }

    #[test]
    fn what_is_wrong_with_a_header_is_said() {
        assert_eq!(Check::parse(GOOD), Err(HeaderError::Form(8)));
        let good = GOOD.replace("-- unit\n", "");
        for (part, other, error) in [
            ("-- name: late\n", "", HeaderError::Missing("name")),
            ("-- severity: warning\n", "", HeaderError::Missing("severity")),
            ("-- threshold: 0.5\n", "", HeaderError::Missing("threshold")),
            ("-- name: late", "-- named: late", HeaderError::Unknown(1, "named".to_owned())),
            ("-- unit: percent", "-- name: late", HeaderError::Twice(4, "name".to_owned())),
            ("severity: warning", "severity: bad", HeaderError::Value("severity", "expected error or warning")),
            ("threshold: 0.5", "threshold: inf", HeaderError::Value("threshold", "expected a number")),
            ("SELECT 1 AS value;", "", HeaderError::NoQuery),
        ] {
            assert_eq!(Check::parse(&good.replace(part, other)), Err(error), "{other}");
        }
        let odd = good.replace("late\n-- sev", "It's late\n-- sev");
        assert!(matches!(Check::parse(&odd), Err(HeaderError::Value("name", _))));
    }
}
