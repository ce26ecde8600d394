//! Statements of a refinement, in the order of their execution.

pub(crate) const SUMMARIZE: &str = "SELECT pipeline.summarize_days()";

pub(crate) const WORK_TABLES: &str = include_str!("sql/01_work_tables.sql");

pub(crate) const TERMS: &str = include_str!("sql/02_terms.sql");

/// Statements from the notes to the hourly aggregates.
pub(crate) const HOURS: [&str; 9] = [
    include_str!("sql/03_touched_hours.sql"),
    include_str!("sql/04_fresh_hours.sql"),
    include_str!("sql/05_all_hours.sql"),
    // Without statistics PostgreSQL overestimates the work tables and scans the hourly aggregates completely.
    "ANALYZE refine_terms, refine_hours, refine_fresh",
    include_str!("sql/06_edges.sql"),
    include_str!("sql/07_affected.sql"),
    "ANALYZE refine_edges, refine_users, refine_accounts",
    include_str!("sql/08_user_hours.sql"),
    include_str!("sql/09_account_hours.sql"),
];

pub(crate) const USER_FEATURES: &str = include_str!("sql/10_user_features.sql");

pub(crate) const ACCOUNT_FEATURES: &str = include_str!("sql/11_account_features.sql");

pub(crate) const REFINEMENT: &str = include_str!("sql/12_refinement.sql");
