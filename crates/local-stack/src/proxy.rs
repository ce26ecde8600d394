//! A TCP proxy between a program and a server that breaks connections on purpose.

mod pump;
mod state;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use state::{Connection, Shared, Trigger, guard};
pub use state::{CutAt, ProxyMode};

/// Counters of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Connections that clients opened.
    pub accepted: u64,
    /// Connections closed by [`Proxy::cut`] or a trigger of [`Proxy::cut_at`].
    pub cut: u64,
    /// Bytes forwarded.
    pub passed: u64,
    /// Bytes dropped.
    pub swallowed: u64,
    /// Number of triggers of [`Proxy::cut_at`] that matched.
    pub triggered: u64,
}

/// A proxy that listens on a free port of 127.0.0.1 until it is dropped, and forwards to a port of the same machine.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens without a target: closes each connection until [`Proxy::pass_to`] sets one.
    pub fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("proxy".to_owned()).spawn(move || accept(&listener, &accepting))?;
        Ok(Self { port, shared })
    }

    /// Listens and forwards to a port of this machine.
    pub fn to(target: u16) -> io::Result<Self> {
        let proxy = Self::listen()?;
        proxy.pass_to(target);
        Ok(proxy)
    }

    /// Sets the target port of new connections.
    pub fn pass_to(&self, target: u16) {
        *guard(&self.shared.target) = Some(target);
    }

    /// Returns the port on 127.0.0.1 that the proxy listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the mode of all connections, open and new.
    pub fn set(&self, way: ProxyMode) {
        *guard(&self.shared.way) = way;
    }

    /// Closes all open connections.
    pub fn cut(&self) {
        for connection in guard(&self.shared.open).drain(..) {
            connection.close();
            self.shared.cut.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Cuts the next connection whose client sends these bytes, once.
    pub fn cut_at(&self, bytes: &[u8], at: CutAt) {
        *guard(&self.shared.trigger) = Some(Trigger { bytes: bytes.to_vec(), at });
    }

    /// Records what clients send over connections that they open from now on.
    pub fn record(&self) {
        *guard(&self.shared.recorded) = Some(BTreeMap::new());
    }

    /// Returns what clients have sent, by connection.
    #[must_use]
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        guard(&self.shared.recorded).iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Returns the current counters.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { accepted, cut, passed, swallowed, triggered, .. } = &*self.shared;
        Seen {
            accepted: count(accepted),
            cut: count(cut),
            passed: count(passed),
            swallowed: count(swallowed),
            triggered: count(triggered),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the accept loop.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = client else { continue };
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        // On failure the client's connection closes, as if the server were unavailable.
        let _ = connect(client, shared);
    }
}

fn connect(client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let Some(target) = *guard(&shared.target) else { return Ok(()) };
    if *guard(&shared.way) == ProxyMode::Closed {
        return Ok(());
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
    let server = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let lossy = AtomicBool::new(*guard(&shared.way) == ProxyMode::HalfOpen);
    let number = shared.accepted.load(Ordering::Relaxed);
    let connection = Arc::new(Connection { number, client, server, lossy, answer_is_last: AtomicBool::new(false) });
    guard(&shared.open).push(Arc::clone(&connection));
    pump::start(&connection, shared)
}
