//! One direction of a connection: one thread reads and decides, another one writes when the bytes are due.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::state::{Connection, CutAt, ProxyMode, Shared, Trigger, guard};

/// Maximum number of bytes per read.
const CHUNK: usize = 64 * 1024;
/// Interval at which a throttled direction forwards its share.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// Bytes with the time at which they are due.
type Parcel = (Instant, Vec<u8>);

pub(super) fn start(connection: &Arc<Connection>, shared: &Arc<Shared>) -> io::Result<()> {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (from, to) = match direction {
            Direction::ToServer => (&connection.client, &connection.server),
            Direction::ToClient => (&connection.server, &connection.client),
        };
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (parcels, due) = channel();
        let (connection, shared) = (Arc::clone(connection), Arc::clone(shared));
        let pump = Pump { direction, connection, shared, parcels };
        let writing = Arc::clone(&pump.shared);
        thread::Builder::new().name("proxy reads".to_owned()).spawn(move || pump.read(from))?;
        thread::Builder::new().name("proxy writes".to_owned()).spawn(move || write(to, &due, &writing))?;
    }
    Ok(())
}

struct Pump {
    direction: Direction,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    parcels: Sender<Parcel>,
}

impl Pump {
    /// Reads until either side closes. Dropping the sender then ends the writer, which closes the other side.
    fn read(self, mut from: TcpStream) {
        let mut buffer = vec![0; CHUNK];
        let mut tail = Vec::new();
        loop {
            let way = *guard(&self.shared.way);
            let most = match way {
                ProxyMode::Throttled(rate) => (rate as usize / 10).clamp(1, CHUNK),
                _ => CHUNK,
            };
            let Ok(count @ 1..) = from.read(&mut buffer[..most]) else { break };
            let bytes = &buffer[..count];
            if !self.take(bytes, &mut tail) {
                return;
            }
            if let ProxyMode::Throttled(_) = way {
                thread::sleep(TICK);
            }
        }
        // Half open: the other side must not notice the close either, until the proxy itself ends.
        while self.connection.lossy.load(Ordering::Relaxed) && !self.shared.over.load(Ordering::Relaxed) {
            thread::sleep(TICK);
        }
    }

    /// Forwards or drops bytes. Returns false if the connection is closed.
    fn take(&self, bytes: &[u8], tail: &mut Vec<u8>) -> bool {
        // Read again: the mode may have changed while the read was blocked.
        let way = *guard(&self.shared.way);
        if way == ProxyMode::HalfOpen {
            self.connection.lossy.store(true, Ordering::Relaxed);
        }
        if self.connection.lossy.load(Ordering::Relaxed) {
            self.shared.swallowed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            return true;
        }
        if self.direction == Direction::ToClient && self.connection.answer_is_last.load(Ordering::Relaxed) {
            return self.end(bytes.len());
        }
        match self.triggered(bytes, tail) {
            Some(CutAt::Request) => return self.end(bytes.len()),
            Some(CutAt::Answer) => self.connection.answer_is_last.store(true, Ordering::Relaxed),
            None => {}
        }
        if self.direction == Direction::ToServer
            && let Some(recorded) = &mut *guard(&self.shared.recorded)
        {
            recorded.entry(self.connection.number).or_default().extend_from_slice(bytes);
        }
        let delay = if let ProxyMode::Delayed(delay) = way { delay } else { Duration::ZERO };
        self.parcels.send((Instant::now() + delay, bytes.to_vec())).is_ok()
    }

    fn end(&self, lost: usize) -> bool {
        self.shared.swallowed.fetch_add(lost as u64, Ordering::Relaxed);
        self.shared.cut.fetch_add(1, Ordering::Relaxed);
        self.connection.close();
        false
    }

    /// Returns the cut point if these bytes, together with the previous ones, complete the trigger's bytes. Removes the
    /// trigger.
    fn triggered(&self, bytes: &[u8], tail: &mut Vec<u8>) -> Option<CutAt> {
        if self.direction == Direction::ToClient {
            return None;
        }
        let mut trigger = guard(&self.shared.trigger);
        let Trigger { bytes: wanted, at } = trigger.as_ref()?;
        tail.extend_from_slice(bytes);
        let found = tail.windows(wanted.len()).any(|window| window == wanted.as_slice());
        let kept = tail.len().min(wanted.len().saturating_sub(1));
        tail.drain(..tail.len() - kept);
        let at = found.then_some(*at)?;
        *trigger = None;
        self.shared.triggered.fetch_add(1, Ordering::Relaxed);
        Some(at)
    }
}

fn write(mut to: TcpStream, due: &Receiver<Parcel>, shared: &Shared) {
    for (time, bytes) in due {
        thread::sleep(time.saturating_duration_since(Instant::now()));
        // Counted before the write, so that a receiver of the bytes finds them counted.
        shared.passed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
