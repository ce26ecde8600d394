//! `kafka-consumer migrate`.

use pipeline_runtime::exit::Failure;
use pipeline_runtime::output;

use crate::commands::args::DatabaseArgs;
use crate::postgres;
use crate::postgres::migrations::{self, Pending};

pub(crate) async fn migrate(args: &DatabaseArgs) -> Result<(), Failure> {
    let target = args.target()?.named("kafka-consumer migrate");
    let mut client = postgres::connect_at_start(&target).await?;
    let applied = migrations::bring_up_to_date(&mut client, Pending::Apply).await?;
    if applied.is_empty() {
        return output::line(format_args!("{target} is up to date"));
    }
    applied.iter().try_for_each(|script| output::line(format_args!("{target}: applied {script}")))
}
