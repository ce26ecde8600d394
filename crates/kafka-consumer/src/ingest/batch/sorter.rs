//! Sorts the next batch while the writer waits for PostgreSQL.

use tokio::sync::mpsc;

use crate::ingest::batch::recent_ids::RecentIds;
use crate::ingest::messages::Command;

/// Forwards commands in order, with each batch sorted, until the source or the writer has ended.
pub(crate) async fn run(mut inbox: mpsc::Receiver<Command>, writer: mpsc::Sender<Command>, mut recent: RecentIds) {
    // The slot is reserved first: the sorter takes no batch that the writer has no room for.
    while let Ok(permit) = writer.reserve().await {
        match inbox.recv().await {
            Some(Command::Write(mut batch)) => {
                batch.mark_likely_duplicates(&mut recent);
                batch.sorted_rows();
                permit.send(Command::Write(batch));
            }
            Some(command) => permit.send(command),
            None => return,
        }
    }
}
