//! Between the source and a writer: puts the next batch in order while the writer waits for PostgreSQL.

use tokio::sync::mpsc;

use crate::recent_ids::RecentIds;
use crate::writer::Command;

/// Hands on what it is told, batches arranged, until the source or the writer has ended.
pub async fn run(mut inbox: mpsc::Receiver<Command>, writer: mpsc::Sender<Command>, mut recent: RecentIds) {
    while let Ok(place) = writer.reserve().await {
        match inbox.recv().await {
            Some(Command::Write(mut batch)) => {
                batch.suspect(&mut recent);
                batch.in_key_order();
                place.send(Command::Write(batch));
            }
            Some(command) => place.send(command),
            None => return,
        }
    }
}
