//! A real writer in place of one of the model.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use event_model::{EventType, ProductEvent, RequiredFields, Timestamp};
use ingest_protocol::position::Position;
use kafka_consumer::{DrivenWriter, OpenBatch};
use tokio::time::timeout;

use crate::model::consumer::{Consumer, Parts, SessionState, Writing};
use crate::model::kafka::{self, Entry};
use crate::network::{Held, Network, Point, Verdict};
use crate::tables::{Database, FIRST_INCARNATION};
use crate::{REFUSED_PRODUCT, Servers, TOPIC};

/// Deadline for a step of a writer. The longest step is a takeover, which begins after 3 s.
pub(crate) const STEP: Duration = Duration::from_secs(20);

/// Writer with a network of its own.
pub(crate) struct Seat {
    writer: DrivenWriter,
    network: Network,
    /// Connection that is held before the next attempt.
    gate: Option<Held>,
}

impl Seat {
    pub(crate) async fn start(servers: &Servers, database: &Database, name: &str) -> anyhow::Result<Self> {
        let network = Network::to(servers.postgres_port).await?;
        let target = kafka_consumer::resolve(Some(&servers.writer_url(network.port)))?;
        let writer = DrivenWriter::start(&target, name, &database.group, TOPIC, &servers.kafka);
        Ok(Self { writer, network, gate: None })
    }

    /// Waits until the network holds a connection.
    pub(crate) async fn held(&mut self) -> anyhow::Result<Held> {
        timeout(STEP, self.network.next()).await.context("the writer takes no step")?.context("the network ended")
    }

    /// Sends the commands that the model's writer has executed or begun in a step. A partition that was assigned again
    /// has another number.
    pub(crate) fn mirror(&self, database: &Database, before: &Consumer, after: &Consumer) {
        let released = before.told.keys().filter(|partition| !after.told.contains_key(partition));
        drop(self.writer.release(released.copied().collect()));
        for (partition, told) in &after.told {
            let owned = after.writer.get(*partition).filter(|_| before.told.get(partition) != Some(told));
            if let Some(owned) = owned {
                let incarnation = owned.position.incarnation + FIRST_INCARNATION;
                self.writer.own(*partition, owned.epoch, Position { incarnation, ..owned.position });
            }
        }
        if let Some(writing) = begun(before, after) {
            self.writer.write(batch(database, &writing.parts));
        }
    }

    /// Lets the attempt begin that the gate holds. Returns the port of its session, or `None` if the model's writer has
    /// nothing to write and the real one has finished already.
    pub(crate) async fn attempt(&mut self) -> anyhow::Result<Option<u16>> {
        let Some(mut gate) = self.gate.take() else { return Ok(None) };
        if gate.point == Point::Connect {
            gate.end(Verdict::Pass);
            gate = self.held().await?;
        }
        let port = gate.port;
        ensure!(gate.point == Point::Begin, "{:?} instead of the begin of a transaction", gate.point);
        gate.end(Verdict::Pass);
        Ok(Some(port))
    }

    /// Returns true if the gate holds an attempt.
    pub(crate) fn is_before_attempt(&self) -> bool {
        self.gate.is_some()
    }

    /// Makes the attempt that the gate holds fail.
    pub(crate) fn fail_attempt(&mut self) {
        drop(self.gate.take());
    }

    /// Ends the wait for the answer to COMMIT.
    pub(crate) fn time_out(&self) {
        self.writer.time_out();
    }

    /// Waits until an attempt waits for a lock.
    pub(crate) async fn waits(&mut self, database: &Database, port: u16) -> anyhow::Result<()> {
        let deadline = Instant::now() + STEP;
        while !database.waits(port).await? {
            if let Ok(held) = timeout(Duration::from_millis(2), self.network.next()).await {
                bail!("{:?} instead of a wait for a lock", held.map(|held| held.point));
            }
            ensure!(Instant::now() < deadline, "no wait for a lock");
        }
        Ok(())
    }

    /// Waits until the writer is before its next attempt, or idle, like the writer of the model. Compares the state of
    /// the batch.
    pub(crate) async fn settle(&mut self, model: &Consumer) -> anyhow::Result<()> {
        let Some(writing) = model.writing.as_ref().filter(|writing| is_ready(model, writing)) else {
            let idle = timeout(STEP, self.writer.release(Vec::new())).await;
            return idle.context("the writer is not idle")?.context("the writer has ended");
        };
        if self.gate.is_none() {
            self.gate = Some(self.held().await?);
        }
        let point = self.gate.as_ref().map(|gate| gate.point);
        let expected = if model.session == SessionState::Open { Point::Begin } else { Point::Connect };
        ensure!(point == Some(expected), "{point:?} instead of {expected:?} before the next attempt");
        let attempts = self.writer.attempts();
        ensure!(attempts == Some(writing.attempts), "{attempts:?} instead of {:?}", writing.attempts);
        Ok(())
    }

    /// Returns the reports about moved partitions since the last call.
    pub(crate) fn moved(&mut self) -> Vec<(i32, u64)> {
        self.writer.moved()
    }
}

/// Returns true if the writer may write a part of its batch. Otherwise, it finishes the batch without an attempt.
fn is_ready(model: &Consumer, writing: &Writing) -> bool {
    writing.parts.iter().any(|(partition, part)| model.writer.may_write(*partition, part.epoch))
}

/// Returns the batch that the model's writer has begun in a step. A batch that was begun before has no other parts.
fn begun<'m>(before: &Consumer, after: &'m Consumer) -> Option<&'m Writing> {
    let is_part = |(partition, part)| {
        before.writing.as_ref().is_some_and(|former: &Writing| former.parts.get(partition) == Some(part))
    };
    after.writing.as_ref().filter(|writing| !writing.parts.is_empty() && !writing.parts.iter().all(is_part))
}

fn batch(database: &Database, parts: &Parts) -> OpenBatch {
    let mut batch = OpenBatch::new(Instant::now());
    for (partition, part) in parts {
        for offset in &part.entries {
            let position = kafka::position(part.version, *partition, *offset);
            match (kafka::entry(part.version, *partition, *offset), position) {
                (Entry::Record { event, refused }, Some(position)) => {
                    batch.add_row(*partition, part.epoch, position, None, &product_event(database, event, refused));
                }
                _ => batch.pass(*partition, part.epoch, offset + 1),
            }
        }
    }
    batch
}

fn product_event(database: &Database, event: u8, refused: bool) -> ProductEvent<'static> {
    ProductEvent::new(RequiredFields {
        event_id: database.event_id(event),
        event_timestamp: Timestamp::from_micros(1_800_000_000_000_000),
        event_type: EventType::RfqSent,
        user_id: database.user(),
        account_id: 1,
        product_id: if refused { REFUSED_PRODUCT } else { 1 },
        category: "tools".into(),
        experiment_id: "exp_1".into(),
    })
}
