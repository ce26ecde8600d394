//! Inflicts each fault and proves that it happened.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use local_stack::Name;
use local_stack::proxy::ProxyMode;

use crate::environment::TOPIC;
use crate::foreign::{Batch, Event, Outcome, Sent};
use crate::plan::{Damage, Fault, Link, Step, Target, Who};
use crate::program::{signal, state};
use crate::seat::Armed;
use crate::table::Change;
use crate::topic::odd_records;
use crate::world::{Lasting, Undo, World};
use local_stack::raw_producer::{RawProducer, RawRecord};

/// Deadline for the target to become free: a server to restart, a program to be started again.
const TURN: Duration = Duration::from_mins(1);
const PROOF: Duration = Duration::from_secs(10);

impl World {
    /// Inflicts the next fault of the plan once no other fault affects its target.
    pub(crate) fn inflict(&mut self, step: &Step, is_over: impl Fn() -> bool) -> anyhow::Result<()> {
        let fault = step.fault;
        let is_free = self.pass_until(TURN, |world| is_over() || world.is_free(fault))?;
        if is_over() {
            return Ok(());
        }
        if !is_free {
            self.tell(&format!("{}: skipped, {:?} was not available", fault.kind(), fault.target()));
            return Ok(());
        }
        self.tell(&format!("{} ({:?} for {:.1} s)", fault.kind(), fault, step.lasts.as_secs_f64()));
        self.report.tried(fault.kind());
        let (undo, proved) = self.hurt(fault)?;
        if let Some(undo) = undo {
            self.lasting.push(Lasting { fault, until: Instant::now() + step.lasts, undo });
        }
        if proved {
            self.report.proved(fault.kind());
        }
        Ok(())
    }

    fn is_free(&mut self, fault: Fault) -> bool {
        let target = fault.target();
        let untouched = !self.lasting.iter().any(|one| one.fault.target() == target);
        untouched
            && match target {
                Target::Program(who) => {
                    let seat = self.seat(who);
                    let is_away = !seat.wanted && seat.program.is_none();
                    seat.is_free() || fault == Fault::ComeOrGo && is_away
                }
                Target::Server(_) | Target::Link(_) => true,
                Target::Topic => self.are_well(&[Name::Kafka]),
                Target::Table => self.are_well(&[Name::Kafka, Name::Postgres]),
            }
    }

    /// Returns true if the servers run and no fault affects them.
    fn are_well(&self, servers: &[Name]) -> bool {
        let is_hurt = |name: Name| self.lasting.iter().any(|one| one.fault.target() == Target::Server(name));
        servers.iter().all(|name| self.environment.pid(*name).is_some() && !is_hurt(*name))
    }

    /// Inflicts a fault. Returns the action that ends it, if any, and true if the fault has already been observed.
    fn hurt(&mut self, fault: Fault) -> anyhow::Result<(Option<Undo>, bool)> {
        match fault {
            Fault::Kill(who) => Ok((None, self.kill(who)?)),
            Fault::Freeze(who) => self.freeze(who),
            // The exit of the program proves it.
            Fault::Terminate(who) => self.seat(who).terminate().map(|()| (None, false)),
            Fault::KillAt(who, point, pass) => self.arm(who, point, pass, fault).map(|()| (None, false)),
            Fault::KillAtEnd(point, pass) => {
                self.arm(Who::Generator, point, pass, fault)?;
                Ok((Some(Undo::Terminate), false))
            }
            Fault::KillServer(name) => {
                let pid = self.environment.pid(name);
                self.environment.kill(name)?;
                let dead = pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
                Ok((Some(Undo::Restart(name)), dead))
            }
            Fault::FreezeServer(name) => {
                let Some(pid) = self.environment.pid(name) else { return Ok((None, false)) };
                signal(pid, "STOP")?;
                Ok((Some(Undo::ContinueServer(name)), self.is_stopped(pid)?))
            }
            Fault::EndSessions => Ok((None, self.environment.end_sessions()? > 0)),
            Fault::Damage(link, damage) => Ok((Some(self.damage(link, damage)), false)),
            Fault::ComeOrGo => self.come_or_go(),
            Fault::SendOddRecords => self.send_odd_records(fault).map(|()| (None, false)),
            Fault::HangTransaction => Ok((None, self.hang_transaction(fault)?)),
            Fault::ChangeTable(change) => self.change_table(change, fault).map(|()| (None, false)),
            Fault::RecreateTopic(partitions) => Ok((None, self.recreate_topic(partitions, fault.kind())?)),
        }
    }

    /// Sends odd records. Their outcomes prove the fault.
    fn send_odd_records(&mut self, fault: Fault) -> anyhow::Result<()> {
        let partitions = self.environment.partitions()?;
        let records = partitions.into_iter().flat_map(odd_records).collect();
        self.send(records, fault.kind(), false)
    }

    /// Leaves a transaction open in half of the partitions.
    ///
    /// Returns true if the last stable offset of each is below its high watermark, which proves the fault.
    fn hang_transaction(&mut self, fault: Fault) -> anyhow::Result<bool> {
        let partitions: Vec<i32> = self.environment.partitions()?.into_iter().step_by(2).collect();
        let events = match self.environment.hang_transaction(&partitions) {
            Ok(events) => events,
            Err(error) => {
                // Kafka may be starting. Records already written are aborted, too.
                self.tell(&format!("{}: skipped, {error:#}", fault.kind()));
                return Ok(false);
            }
        };
        let sent = |event: Event| Sent { id: event.id, outcome: Outcome::Aborted, offset: None };
        let sent = events.into_iter().map(sent).collect();
        self.foreign.add(Batch { kind: fault.kind(), sent, proved: true });
        let ends = self.environment.ends()?;
        Ok(partitions.iter().all(|partition| ends.get(partition).is_some_and(|end| end.stable < end.high)))
    }

    /// Adds a trigger or index and sends records that it concerns. Their outcomes prove the fault.
    fn change_table(&mut self, change: Change, fault: Fault) -> anyhow::Result<()> {
        let mut failed = None;
        let added = self.pass_until(TURN, |world| {
            let add = async { change.add(&world.environment.connect().await?).await };
            world.environment.runtime.block_on(add).unwrap_or_else(|error| {
                failed = Some(error);
                true
            })
        })?;
        if let Some(error) = failed {
            return Err(error).with_context(|| fault.kind());
        }
        if !added {
            self.tell(&format!("{}: skipped, the table was locked", fault.kind()));
            return Ok(());
        }
        let partitions = self.environment.partitions()?;
        // Twins go to the same partition, so they are read one after the other.
        let records = change.events().into_iter().enumerate().map(|(place, (event, outcome))| {
            let record = event.record(partitions[place / 2 % partitions.len()]);
            (event, record, outcome)
        });
        self.send(records.collect(), fault.kind(), false)
    }

    /// Sends records of a foreign producer and stores their expected outcomes.
    pub(crate) fn send(
        &mut self,
        records: Vec<(Event, RawRecord, Outcome)>,
        kind: String,
        proved: bool,
    ) -> anyhow::Result<()> {
        let mut producer = RawProducer::connect(&self.environment.stack.bootstrap_servers(), TOPIC)?;
        let mut sent = Vec::with_capacity(records.len());
        for (event, record, outcome) in records {
            let offset = Some((record.partition, producer.send(&record)?));
            sent.push(Sent { id: event.id, outcome, offset });
        }
        self.foreign.add(Batch { kind, sent, proved });
        Ok(())
    }

    fn kill(&mut self, who: Who) -> anyhow::Result<bool> {
        let pid = self.seat(who).program.as_ref().map(crate::program::Program::pid);
        self.seat(who).kill()?;
        let Some(pid) = pid else { return Ok(false) };
        self.pass_until(PROOF, |_| state(pid).is_none_or(|state| state == 'Z'))
    }

    fn freeze(&mut self, who: Who) -> anyhow::Result<(Option<Undo>, bool)> {
        let Some(pid) = self.seat(who).program.as_ref().map(crate::program::Program::pid) else {
            return Ok((None, false));
        };
        signal(pid, "STOP")?;
        Ok((Some(Undo::Continue(who)), self.is_stopped(pid)?))
    }

    fn is_stopped(&mut self, pid: u32) -> anyhow::Result<bool> {
        self.pass_until(PROOF, |_| state(pid) == Some('T'))
    }

    /// Kills the process now and arms a failpoint in the next one.
    fn arm(&mut self, who: Who, point: &'static str, pass: u32, fault: Fault) -> anyhow::Result<()> {
        self.kill(who)?;
        self.seat(who).next_failpoint = Some(Armed { point, pass, kind: fault.kind() });
        self.pass_until(PROOF, |world| world.seat(who).next_failpoint.is_none())?;
        Ok(())
    }

    fn damage(&mut self, link: Link, damage: Damage) -> Undo {
        let proxy = self.environment.proxy(link);
        let before = proxy.seen();
        proxy.set(match damage {
            Damage::Cut => ProxyMode::Closed,
            Damage::HalfOpen => ProxyMode::HalfOpen,
            Damage::Slow => ProxyMode::Throttled(1_000),
            Damage::Late => ProxyMode::Delayed(Duration::from_secs(2)),
        });
        if damage == Damage::Cut {
            proxy.cut();
        }
        Undo::Mend(link, damage, before)
    }

    fn come_or_go(&mut self) -> anyhow::Result<(Option<Undo>, bool)> {
        let Target::Program(last) = Fault::ComeOrGo.target() else { return Ok((None, false)) };
        let seat = self.seat(last);
        seat.wanted = !seat.wanted;
        if !seat.wanted {
            seat.terminate()?;
        }
        let wanted = seat.wanted;
        let came_or_went = self.pass_until(PROOF * 2, |world| world.seat(last).program.is_some() == wanted)?;
        Ok((None, came_or_went))
    }
}
