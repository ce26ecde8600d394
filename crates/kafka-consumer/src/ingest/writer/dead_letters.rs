//! Dead letters, which are inserted in the transaction of their batch.

use futures_util::future::try_join_all;
use ingest_protocol::ownership::Ownership;
use tokio_postgres::{Client, Statement, Transaction};

use crate::dead_letter::DeadLetter;
use crate::ingest::batch::closed::{Batch, PendingDeadLetter};
use crate::kafka::group_topic::GroupTopic;
use crate::postgres::Timestamptz;

/// Prepared statements for dead letters.
pub(crate) struct DeadLetters {
    group_topic: GroupTopic,
    insert: Statement,
    settle: Statement,
}

/// Inserts a dead letter. If the record was read before, because its offset was set back, the existing dead letter
/// stays and its `attempts` are incremented.
const INSERT: &str = r#"INSERT INTO pipeline.dead_letters AS letter (consumer_group, topic, topic_incarnation, partition,
        "offset", record_timestamp, key, payload, header_names, header_values, stage, reason_code, reason, sqlstate, group_record)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
    ON CONFLICT (consumer_group, topic, topic_incarnation, partition, "offset")
    DO UPDATE SET attempts = letter.attempts + 1"#;

/// Marks the dead letters of records that were read again and accepted this time as replayed: their events are in the
/// table now.
const SETTLE: &str = r#"UPDATE pipeline.dead_letters SET attempts = attempts + 1, replayed_at = now()
    WHERE consumer_group = $1 AND topic = $2 AND topic_incarnation = $3 AND partition = $4 AND replayed_at IS NULL
      AND "offset" >= $5 AND "offset" < $6 AND NOT ("offset" = ANY ($7))"#;

/// Maximum number of inserts in flight.
const AT_ONCE: usize = 64;

impl DeadLetters {
    pub(crate) async fn prepare(client: &Client, group_topic: &GroupTopic) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            group_topic: group_topic.clone(),
            insert: client.prepare(INSERT).await?,
            settle: client.prepare(SETTLE).await?,
        })
    }

    /// Inserts dead letters, each with its position in the group's sequence of records.
    pub(crate) async fn insert(
        &self,
        transaction: &Transaction<'_>,
        owned: &Ownership,
        letters: &[(i32, &PendingDeadLetter)],
        positions: &[i64],
    ) -> Result<(), tokio_postgres::Error> {
        for (letters, positions) in letters.chunks(AT_ONCE).zip(positions.chunks(AT_ONCE)) {
            let inserts = letters.iter().zip(positions).map(|((partition, refused), position)| {
                let incarnation = owned.get(*partition).map_or(1, |owned| owned.position.incarnation);
                self.insert_one(transaction, *partition, incarnation, &refused.letter, *position)
            });
            try_join_all(inserts.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    /// Settles the dead letters of records that became rows or duplicates this time. Only a partition whose offset was
    /// set back can have any.
    pub(crate) async fn settle(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        owned: &Ownership,
        letters: &[(i32, &PendingDeadLetter)],
    ) -> Result<(), tokio_postgres::Error> {
        for (partition, part) in &batch.parts {
            let position = owned.get(*partition).map(|owned| owned.position);
            let Some(position) = position.filter(|position| position.next_offset < position.lettered_up_to) else {
                continue;
            };
            let refused = letters.iter().filter(|(of, _)| of == partition);
            let refused: Vec<i64> = refused.map(|(_, one)| one.letter.offset).collect();
            let (from, to) = (position.next_offset, part.next_offset);
            let GroupTopic { group, topic } = &self.group_topic;
            transaction
                .execute(&self.settle, &[group, topic, &position.incarnation, partition, &from, &to, &refused])
                .await?;
        }
        Ok(())
    }

    async fn insert_one(
        &self,
        transaction: &Transaction<'_>,
        partition: i32,
        incarnation: i32,
        letter: &DeadLetter,
        position: i64,
    ) -> Result<(), tokio_postgres::Error> {
        let (names, values): (Vec<&str>, Vec<Option<&[u8]>>) =
            letter.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).unzip();
        transaction
            .execute(
                &self.insert,
                &[
                    &self.group_topic.group,
                    &self.group_topic.topic,
                    &incarnation,
                    &partition,
                    &letter.offset,
                    &letter.record_time.map(Timestamptz),
                    &letter.key,
                    &letter.payload,
                    &names,
                    &values,
                    &letter.stage.as_str(),
                    &letter.reason_code,
                    &letter.reason,
                    &letter.sqlstate,
                    &position,
                ],
            )
            .await?;
        Ok(())
    }
}
