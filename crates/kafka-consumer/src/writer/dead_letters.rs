//! Dead letters go in with the rows of their batch.

use tokio_postgres::{Client, Statement, Transaction};

use crate::dead_letter::DeadLetter;
use crate::offsets::Claim;

/// The statement that stores one.
pub(super) struct DeadLetters {
    insert: Statement,
}

/// A record that is read a second time (its offset was set back) keeps its letter and counts the attempt.
const INSERT: &str = r#"INSERT INTO pipeline.dead_letters AS letter (consumer_group, topic, topic_incarnation, partition,
        "offset", record_timestamp, key, payload, header_names, header_values, stage, reason_code, reason)
    VALUES ($1, $2, $3, $4, $5, timestamptz 'epoch' + $6::bigint * interval '1 microsecond', $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (consumer_group, topic, topic_incarnation, partition, "offset")
    DO UPDATE SET attempts = letter.attempts + 1"#;

impl DeadLetters {
    pub(super) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self { insert: client.prepare(INSERT).await? })
    }

    /// Stores the letters of one partition.
    pub(super) async fn insert(
        &self,
        transaction: &Transaction<'_>,
        claim: &Claim,
        incarnation: i32,
        partition: i32,
        letters: &[DeadLetter],
    ) -> Result<(), tokio_postgres::Error> {
        for letter in letters {
            let (names, values): (Vec<&str>, Vec<Option<&[u8]>>) =
                letter.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).unzip();
            transaction
                .execute(
                    &self.insert,
                    &[
                        &claim.group,
                        &claim.topic,
                        &incarnation,
                        &partition,
                        &letter.offset,
                        &letter.record_time.map(event_model::Timestamp::micros),
                        &letter.key,
                        &letter.payload,
                        &names,
                        &values,
                        &letter.stage.as_str(),
                        &letter.reason_code,
                        &letter.reason,
                    ],
                )
                .await?;
        }
        Ok(())
    }
}
