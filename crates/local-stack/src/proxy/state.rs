//! State that the connections of a proxy share.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What happens to the bytes of all connections, those that are open and those to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyMode {
    /// They pass.
    #[default]
    Open,
    /// New connections are closed at once. [`Proxy::cut`] ends those that are open.
    Closed,
    /// Bytes are taken and go nowhere, in both directions; nothing is closed. A connection that lost bytes never passes
    /// any again, also after the way is open.
    HalfOpen,
    /// So many bytes a second in each direction of each connection.
    Throttled(u32),
    /// All bytes arrive so much later; their number is not limited.
    Delayed(Duration),
}

/// Where a connection is cut when the client sends certain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutAt {
    /// Before the server sees them.
    Request,
    /// After the server has answered them and before the client sees the answer.
    Answer,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) target: Mutex<Option<u16>>,
    pub(super) way: Mutex<ProxyMode>,
    pub(super) trigger: Mutex<Option<Trigger>>,
    pub(super) open: Mutex<Vec<Arc<Connection>>>,
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
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    /// It lost bytes: what follows them makes no sense to whoever gets it.
    pub(super) lossy: AtomicBool,
    /// The server's next bytes are the answer after which it is cut.
    pub(super) answer_is_last: AtomicBool,
}

impl Connection {
    pub(super) fn close(&self) {
        // Whoever closed it first is right too.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

pub(super) fn guard<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
