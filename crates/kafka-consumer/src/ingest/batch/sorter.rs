//! Between the source and a writer: puts the next batch in order while the writer waits for PostgreSQL.

use tokio::sync::mpsc;

use crate::ingest::batch::recent_ids::RecentIds;
use crate::ingest::messages::Command;

/// Hands on what it is told, batches arranged, until the source or the writer has ended.
pub(crate) async fn run(mut inbox: mpsc::Receiver<Command>, writer: mpsc::Sender<Command>, mut recent: RecentIds) {
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
