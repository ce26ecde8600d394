//! Executes the steps of a trace with real writers, and compares the states.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::Servers;
use crate::model::World;
use crate::model::actions::{Action, End};
use crate::model::consumer::Consumer;
use crate::network::{Held, Point, Verdict};
use crate::seat::{STEP, Seat};
use crate::tables::{Database, Tables};

/// Deadline for the server to end a transaction whose connection has failed.
const ENDED: Duration = Duration::from_secs(5);

/// Writers, the network and the tables of one trace.
pub(crate) struct Player<'s> {
    servers: &'s Servers,
    database: Database,
    /// Application name of the sessions.
    name: String,
    /// `None` while the consumer is stopped.
    seats: Vec<Option<Seat>>,
    /// Connections of the open transactions, in the model's order.
    open: Vec<Held>,
    /// Consumer whose attempt waits for a lock.
    waiter: Option<usize>,
    takes_over: bool,
}

impl<'s> Player<'s> {
    /// Starts a writer for each consumer. If writers take over, they terminate the sessions that they wait for, which
    /// takes 3 s each time.
    pub(crate) async fn start(
        servers: &'s Servers,
        trace: i32,
        world: &World,
        takes_over: bool,
    ) -> anyhow::Result<Self> {
        let database = Database::open(&servers.admin_url, trace).await?;
        // A takeover terminates only sessions whose names begin with the program's.
        let program = if takes_over { "kafka-consumer" } else { "conformance" };
        let (name, seats) = (format!("{program} {trace}"), Vec::new());
        let mut player = Self { servers, database, name, seats, open: Vec::new(), waiter: None, takes_over };
        for _ in &world.consumers {
            let seat = Seat::start(servers, &player.database, &player.name).await?;
            player.seats.push(Some(seat));
        }
        Ok(player)
    }

    pub(crate) fn waiter(&self) -> Option<usize> {
        self.waiter
    }

    pub(crate) fn takes_over(&self) -> bool {
        self.takes_over
    }

    /// Returns true if an open transaction has another statement before its COMMIT.
    pub(crate) fn is_before_last_statement(&self, transaction: usize) -> bool {
        self.open.get(transaction).is_some_and(|held| held.point == Point::Hours)
    }

    /// Returns true if a writer is held before an attempt.
    pub(crate) fn is_before_attempt(&self, c: usize) -> bool {
        self.seats[c].as_ref().is_some_and(Seat::is_before_attempt)
    }

    /// Begins an attempt that waits for a lock according to the model.
    pub(crate) async fn wait(&mut self, c: usize) -> anyhow::Result<()> {
        let seat = self.seats[c].as_mut().context("the consumer is stopped")?;
        let port = seat.attempt().await?.context("no attempt begins")?;
        seat.waits(&self.database, port).await?;
        self.waiter = Some(c);
        Ok(())
    }

    /// Executes a step, and compares the states after it.
    pub(crate) async fn play(&mut self, action: Action, before: &World, after: &World) -> anyhow::Result<()> {
        match action {
            // An attempt that waits has begun already.
            Action::Attempt(c) if self.waiter == Some(c) => self.waiter = None,
            Action::Attempt(c) => drop(self.seat(c)?.attempt().await?),
            Action::Unavailable(c) => self.seat(c)?.fail_attempt(),
            Action::End(c, end) => self.end(c, end, before).await?,
            Action::EndAbandoned(index, commits) => self.end_abandoned(index, commits, before).await?,
            Action::Locate(_) => self.database.locate(before, after).await?,
            _ => {}
        }
        for c in 0..after.consumers.len() {
            self.follow(c, action, before, after).await.with_context(|| format!("consumer {c}"))?;
        }
        self.compare(after).await
    }

    fn seat(&mut self, c: usize) -> anyhow::Result<&mut Seat> {
        self.seats[c].as_mut().context("the consumer is stopped")
    }

    async fn end(&mut self, c: usize, end: End, before: &World) -> anyhow::Result<()> {
        let index = before.transaction_of(c).context("no transaction is open")?;
        if end == End::Killed {
            return self.kill(index, before).await;
        }
        self.complete(c, index).await?;
        match end {
            End::Committed => self.open.remove(index).end(Verdict::Pass),
            End::CommittedUnanswered => self.open.remove(index).end(Verdict::CutAfterAnswer),
            End::RolledBackUnanswered => self.open.remove(index).end(Verdict::Cut),
            End::Abandoned => self.seat(c)?.time_out(),
            End::Killed => bail!("ended before"),
        }
        Ok(())
    }

    /// Lets a transaction execute everything before its COMMIT.
    async fn complete(&mut self, c: usize, index: usize) -> anyhow::Result<()> {
        if self.is_before_last_statement(index) {
            self.open.remove(index).end(Verdict::Pass);
            let held = self.seat(c)?.held().await?;
            ensure!(held.point == Point::Commit, "{:?} instead of COMMIT", held.point);
            self.open.insert(index, held);
        }
        Ok(())
    }

    async fn end_abandoned(&mut self, index: usize, commits: bool, before: &World) -> anyhow::Result<()> {
        if !commits {
            return self.kill(index, before).await;
        }
        self.open.remove(index).end(Verdict::Pass);
        Ok(())
    }

    /// Terminates the session of a transaction, or lets a writer do so that waits for its offsets.
    async fn kill(&mut self, index: usize, before: &World) -> anyhow::Result<()> {
        let held = self.open.remove(index);
        let is_locked = |partition: &i32| before.postgres.open[index].offsets.contains_key(partition);
        let waiting = self.waiter.and_then(|c| before.consumers[c].writing.as_ref());
        if self.takes_over && waiting.is_some_and(|waiting| waiting.parts.keys().any(is_locked)) {
            let deadline = Instant::now() + STEP;
            while self.database.exists(held.port).await? {
                ensure!(Instant::now() < deadline, "the holder of the lock is not terminated");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return Ok(());
        }
        Ok(self.database.terminate(held.port).await?)
    }

    /// Makes a writer follow the model's.
    async fn follow(&mut self, c: usize, action: Action, before: &World, after: &World) -> anyhow::Result<()> {
        let (mut old, new) = (&before.consumers[c], &after.consumers[c]);
        let fresh = Consumer::new(0, false);
        if (old.life, old.stopped) != (new.life, new.stopped) {
            // The COMMIT of a process that ends may be on its way.
            if let Some(index) = before.transaction_of(c) {
                self.complete(c, index).await?;
            }
            self.seats[c] = None;
            old = &fresh;
        }
        if new.stopped {
            return Ok(());
        }
        if self.seats[c].is_none() {
            self.seats[c] = Some(Seat::start(self.servers, &self.database, &self.name).await?);
        }
        let Self { seats, database, open, waiter, .. } = self;
        let seat = seats[c].as_mut().context("the consumer is stopped")?;
        seat.mirror(database, old, new);
        if *waiter == Some(c) {
            return Ok(());
        }
        if let Some(index) = after.transaction_of(c) {
            if index == open.len() {
                let held = seat.held().await?;
                ensure!(matches!(held.point, Point::Hours | Point::Commit), "{:?} instead of COMMIT", held.point);
                open.push(held);
            }
            return Ok(());
        }
        seat.settle(new).await?;
        // The model's consumer takes the first report in a step of its own.
        let taken = usize::from(action == Action::Report(c));
        let expected: Vec<(i32, u64)> = new.moved.iter().skip(old.moved.len() - taken).copied().collect();
        let moved = seat.moved();
        ensure!(moved == expected, "partitions {moved:?} reported as moved instead of {expected:?}");
        Ok(())
    }

    /// Compares the tables and the locks. An attempt that waits has locks that the model does not have yet.
    async fn compare(&self, world: &World) -> anyhow::Result<()> {
        let expected = Tables::of(world);
        let deadline = Instant::now() + ENDED;
        loop {
            let mut found = self.database.tables().await?;
            if self.waiter.is_some() && found.locked.is_superset(&expected.locked) {
                found.locked.clone_from(&expected.locked);
            }
            if found == expected {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "PostgreSQL has {found:#?}\ninstead of {expected:#?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
