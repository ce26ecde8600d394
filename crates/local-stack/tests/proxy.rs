//! Faults of the proxy, observed by the client and the server.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use local_stack::Proxy;
use local_stack::proxy::{CutAt, ProxyMode};

/// Returns a proxy with the client's and the server's end of a connection through it.
fn through() -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap().port()).unwrap();
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    let (server, _) = listener.accept().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    (proxy, client, server)
}

fn arrives(mut from: &TcpStream, mut to: &TcpStream, text: &str) {
    from.write_all(text.as_bytes()).unwrap();
    let mut read = vec![0; text.len()];
    to.read_exact(&mut read).unwrap();
    assert_eq!(read, text.as_bytes());
}

fn is_closed(mut end: &TcpStream) -> bool {
    matches!(end.read(&mut [0]), Ok(0)) || end.take_error().unwrap().is_some()
}

fn is_silent(mut end: &TcpStream) -> bool {
    end.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    end.read(&mut [0]).is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn what_is_open_passes_until_it_is_cut() {
    let (proxy, client, server) = through();
    arrives(&client, &server, "there");
    arrives(&server, &client, "and back");
    proxy.cut();
    assert!(is_closed(&client) && is_closed(&server));
    assert_eq!((proxy.seen().passed, proxy.seen().cut), (13, 1));
    proxy.set(ProxyMode::Closed);
    assert!(is_closed(&TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap()));
}

#[test]
fn a_half_open_connection_is_silent_for_good() {
    let (proxy, mut client, server) = through();
    proxy.set(ProxyMode::HalfOpen);
    client.write_all(b"lost").unwrap();
    assert!(is_silent(&server) && is_silent(&client));
    proxy.set(ProxyMode::Open);
    client.write_all(b"also lost").unwrap();
    assert!(is_silent(&server));
    assert_eq!(proxy.seen().swallowed, 13);
    drop(client);
    assert!(is_silent(&server), "the end is not told either");
}

#[test]
fn slow_and_late() {
    let (proxy, client, server) = through();
    proxy.set(ProxyMode::Delayed(Duration::from_millis(300)));
    let began = Instant::now();
    arrives(&client, &server, "late");
    assert!(began.elapsed() >= Duration::from_millis(300));
    proxy.set(ProxyMode::Throttled(1_000));
    // The proxy reads its mode before it blocks on a read, so the first bytes still pass in the previous mode.
    arrives(&client, &server, "x");
    let began = Instant::now();
    arrives(&client, &server, &"y".repeat(500));
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
}

#[test]
fn cut_at_words_before_and_after_the_server_knows() {
    let (proxy, mut client, server) = through();
    proxy.cut_at(b"COMMIT", CutAt::Request);
    arrives(&client, &server, "COM");
    client.write_all(b"MIT").unwrap();
    assert!(is_closed(&server) && is_closed(&client));
    assert_eq!(proxy.seen().triggered, 1);

    let (proxy, client, server) = through();
    proxy.cut_at(b"COMMIT", CutAt::Answer);
    arrives(&client, &server, "COMMIT");
    (&server).write_all(b"done").unwrap();
    assert!(is_closed(&client));
    assert_eq!((proxy.seen().triggered, proxy.seen().swallowed), (1, 4));
}
