//! State shared by the connections of a proxy.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Treatment of the bytes of all connections, open and new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyMode {
    /// Bytes are forwarded.
    #[default]
    Open,
    /// New connections are closed at once. [`Proxy::cut`] closes the open ones.
    Closed,
    /// Bytes are dropped in both directions, and no connection is closed. A connection that lost bytes stays blocked
    /// after the mode changes, too.
    HalfOpen,
    /// Limits each direction of each connection to this many bytes per second.
    Throttled(u32),
    /// Delays all bytes by this time, without a limit on their number.
    Delayed(Duration),
}

/// Point at which a connection is cut when the client sends the trigger's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutAt {
    /// Before the server receives them.
    Request,
    /// After the server has answered and before the client receives the answer.
    Answer,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) target: Mutex<Option<u16>>,
    pub(super) way: Mutex<ProxyMode>,
    pub(super) trigger: Mutex<Option<Trigger>>,
    pub(super) open: Mutex<Vec<Arc<Connection>>>,
    /// Bytes of the clients by connection, if they are recorded.
    pub(super) recorded: Mutex<Option<BTreeMap<u64, Vec<u8>>>>,
    pub(super) over: AtomicBool,
    pub(super) accepted: AtomicU64,
    pub(super) cut: AtomicU64,
    pub(super) passed: AtomicU64,
    pub(super) swallowed: AtomicU64,
    pub(super) triggered: AtomicU64,
}

#[derive(Debug, Clone)]
pub(super) struct Trigger {
    pub(super) bytes: Vec<u8>,
    pub(super) at: CutAt,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    /// The connection lost bytes; later bytes would be misinterpreted by the receiver.
    pub(super) lossy: AtomicBool,
    /// The server's next bytes are the answer after which the connection is cut.
    pub(super) answer_is_last: AtomicBool,
}

impl Connection {
    pub(super) fn close(&self) {
        // Errors are ignored: the peer may have closed the socket first.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

pub(super) fn guard<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
