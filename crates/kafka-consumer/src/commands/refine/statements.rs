//! Statements of a refinement, in the order of their execution.

pub(crate) const SUMMARIZE: &str = "SELECT pipeline.summarize_days()";

pub(crate) const WORK_TABLES: &str = include_str!("sql/01_work_tables.sql");

pub(crate) const TERMS: &str = include_str!("sql/02_terms.sql");

pub(crate) const TOUCHED_HOURS: &str = include_str!("sql/03_touched_hours.sql");

/// Returns the statements from the rows to the hourly aggregates.
pub(crate) fn hours() -> Vec<String> {
    let [fresh_by_user, fresh_by_category] = by_user_and_category(include_str!("sql/04_fresh_hours.sql"));
    let [edges_by_user, edges_by_category] = by_user_and_category(include_str!("sql/06_edges.sql"));
    vec![
        fresh_by_user,
        fresh_by_category,
        include_str!("sql/05_all_hours.sql").to_owned(),
        // Without statistics PostgreSQL overestimates the work tables and scans the hourly aggregates completely.
        "ANALYZE refine_terms, refine_hours, refine_fresh".to_owned(),
        edges_by_user,
        edges_by_category,
        include_str!("sql/07_affected.sql").to_owned(),
        "ANALYZE refine_edges, refine_users, refine_accounts".to_owned(),
        include_str!("sql/08_user_hours.sql").to_owned(),
        include_str!("sql/09_account_hours.sql").to_owned(),
    ]
}

/// Returns a statement that groups rows by user, and the same by category. Citus refuses GROUPING SETS, which would be
/// no faster.
fn by_user_and_category(sql: &str) -> [String; 2] {
    [("user_id", "NULL::text"), ("NULL::integer", "category")]
        .map(|(user_id, category)| sql.replace("{user_id}", user_id).replace("{category}", category))
}

pub(crate) const USER_FEATURES: &str = include_str!("sql/10_user_features.sql");

pub(crate) const ACCOUNT_FEATURES: &str = include_str!("sql/11_account_features.sql");

pub(crate) const REFINEMENT: &str = include_str!("sql/12_refinement.sql");
