//! libpq's SSL modes against a real server with certificates of a test authority.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::runtime;
use kafka_consumer::{connect_at_start, resolve};
use local_stack::Postgres;
use local_stack::certificates::Authority;

const RULES: &str = "host all either 127.0.0.1/32 scram-sha-256
hostssl all only_tls 127.0.0.1/32 scram-sha-256
hostnossl all only_plain 127.0.0.1/32 scram-sha-256
hostssl all by_certificate 127.0.0.1/32 cert
host all clear 127.0.0.1/32 password";

struct Server {
    postgres: Postgres,
    folder: tempfile::TempDir,
    clients: Authority,
}

impl Server {
    /// Starts a server whose certificate is for `localhost`, not for its address.
    fn start() -> Self {
        let (servers, clients) = (Authority::new("servers").unwrap(), Authority::new("clients").unwrap());
        let mut postgres = Postgres::ephemeral().unwrap();
        for user in ["either", "only_tls", "only_plain", "by_certificate", "clear"] {
            ask(&postgres.url(), &format!("CREATE ROLE {user} LOGIN PASSWORD 'secret'")).unwrap();
        }
        postgres.offer_tls(&servers.issue(&["localhost"]).unwrap(), &clients, RULES).unwrap();
        let server = Self { postgres, folder: tempfile::tempdir().unwrap(), clients };
        server.write("root.crt", &servers.certificate().unwrap());
        server.write("other.crt", &Authority::new("others").unwrap().certificate().unwrap());
        server
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        write(self.folder.path(), name, text)
    }

    fn url(&self, user: &str, host: &str, options: &str) -> String {
        let options = options.replace('@', self.folder.path().to_str().unwrap());
        format!("postgres://{user}:secret@{host}:{}/warehouse?{options}", self.postgres.port())
    }

    /// Returns true if a session with these options is encrypted, or the error of the connection.
    fn encrypted(&self, user: &str, host: &str, options: &str) -> Result<bool, String> {
        let is = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        ask(&self.url(user, host, options), is).map(|answer| answer == "true")
    }
}

/// Writes a file that only its owner can read.
fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Returns the first column of one row, queried over one of the program's own connections.
fn ask(url: &str, sql: &str) -> Result<String, String> {
    let target = resolve(Some(url)).map_err(|error| error.to_string())?;
    runtime().block_on(async {
        let client = connect_at_start(&target).await.map_err(|error| format!("{error:#}"))?;
        let rows = client.query(sql, &[]).await.map_err(|error| error.to_string())?;
        Ok(rows.first().map(|row| row.get::<_, String>(0)).unwrap_or_default())
    })
}

#[test]
fn each_mode_does_what_libpq_says() {
    let server = Server::start();
    let (tls, plain) = (Ok(true), Ok(false));
    let no_rule = Err("no pg_hba.conf entry");
    let table = [
        ("disable", plain, no_rule, plain),
        ("allow", plain, tls, plain),
        ("prefer", tls, tls, plain),
        ("require", tls, tls, no_rule),
        ("verify-ca&sslrootcert=@/root.crt", tls, tls, no_rule),
        ("verify-full&sslrootcert=@/root.crt", tls, tls, no_rule),
    ];
    for (mode, either, only_tls, only_plain) in table {
        for (user, expected) in [("either", either), ("only_tls", only_tls), ("only_plain", only_plain)] {
            let found = server.encrypted(user, "localhost", &format!("sslmode={mode}"));
            let as_expected = match (&found, expected) {
                (Err(said), Err(expected)) => said.contains(expected),
                (found, expected) => found.as_ref().ok() == expected.ok().as_ref(),
            };
            assert!(as_expected, "sslmode={mode}, {user}: {found:?}, not {expected:?}");
        }
    }
}

#[test]
fn a_server_is_believed_by_its_certificate_only() {
    let server = Server::start();
    let version = ask(&server.postgres.url(), "SELECT current_setting('server_version_num')").unwrap();
    let direct = if version.parse::<u32>().unwrap() < 170_000 { Err("requires PostgreSQL 17") } else { Ok(true) };
    for (host, options, expected) in [
        // The host name is not a local one, so the mode defaults to verify-full.
        ("127.1", "sslrootcert=@/root.crt", Err("mismatch")),
        ("localhost", "sslmode=verify-full&sslrootcert=@/root.crt", Ok(true)),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=@/root.crt", Err("host name in the certificate")),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=@/root.crt", Ok(true)),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=@/other.crt", Err("certificate verify failed")),
        ("localhost", "sslmode=verify-full&sslrootcert=@/other.crt", Err("set sslrootcert to the certificate file")),
        ("localhost", "sslmode=verify-full&sslrootcert=system", Err("certificate verify failed")),
        ("localhost", "sslrootcert=system", Err("sslmode=verify-full")),
        // As in libpq, a root certificate makes sslmode=require verify the server's certificate.
        ("127.0.0.1", "sslmode=require&sslrootcert=@/other.crt", Err("certificate verify failed")),
        ("127.0.0.1", "sslmode=require", Ok(true)),
        ("127.0.0.1", "sslmode=prefer&sslrootcert=@/other.crt", Ok(true)),
        ("127.0.0.1", "sslmode=require&channel_binding=require", Ok(true)),
        ("127.0.0.1", "sslmode=disable&channel_binding=require", Err("channel binding")),
        ("localhost", "sslmode=require&ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.3", Ok(true)),
        ("localhost", "sslmode=require&sslnegotiation=direct", direct),
        ("localhost", "sslmode=verify-full&sslrootcert=@/root.crt&sslsni=0", Ok(true)),
        // The client connects to the address and verifies the certificate against the name.
        ("localhost", "sslmode=verify-full&sslrootcert=@/root.crt&hostaddr=127.0.0.1", Ok(true)),
        (
            "warehouse.invalid",
            "sslmode=verify-full&sslrootcert=@/root.crt&hostaddr=127.0.0.1",
            Err("host name in the certificate"),
        ),
        ("warehouse.invalid", "sslmode=verify-ca&sslrootcert=@/root.crt&hostaddr=127.0.0.1", Ok(true)),
        // Without a revocation list of the authority, verification fails.
        ("localhost", "sslmode=verify-ca&sslrootcert=@/root.crt&sslcrldir=@", Err("CRL")),
        ("localhost", "sslmode=verify-ca&sslrootcert=@/root.crt&sslcrl=@/root.crt", Err("sslcrl")),
    ] {
        let found = server.encrypted("either", host, options);
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{host} {options}"),
            (Err(said), Err(expected)) => assert!(said.contains(expected), "{host} {options}: {said}"),
            _ => panic!("{host} {options}: {found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn a_server_without_tls_is_told_apart() {
    let postgres = Postgres::ephemeral().unwrap();
    let refused = ask(&format!("{}?sslmode=require", postgres.url()), "SELECT 'x'").unwrap_err();
    assert!(refused.contains("sslmode=require") && refused.contains("ssl = on"), "{refused}");
    assert_eq!(ask(&format!("{}?sslmode=prefer", postgres.url()), "SELECT 'x'"), Ok("x".to_owned()));
}

#[test]
fn a_client_shows_its_certificate() {
    let server = Server::start();
    let mine = server.clients.issue(&["by_certificate"]).unwrap();
    server.write("mine.crt", &mine.certificate().unwrap());
    let key = server.write("mine.key", &mine.key().unwrap());
    server.write("locked.key", &mine.encrypted_key("hunter2").unwrap());
    server.write("foreign.key", &server.clients.issue(&["other"]).unwrap().key().unwrap());
    let with = |options: &str| {
        server.encrypted(
            "by_certificate",
            "localhost",
            &format!("sslmode=require&sslcert=@/mine.crt&sslkey=@/{options}"),
        )
    };
    assert_eq!(with("mine.key"), Ok(true));
    assert!(with("mine.key&sslcertmode=disable").unwrap_err().contains("certificate"));
    assert_eq!(with("locked.key&sslpassword=hunter2"), Ok(true));
    let said = with("locked.key&sslpassword=hunter3").unwrap_err();
    assert!(said.contains("locked.key") && said.contains("sslpassword") && !said.contains("hunter3"), "{said}");
    assert!(with("foreign.key").unwrap_err().contains("not the key of"));
    let unknown = Authority::new("clients").unwrap().issue(&["by_certificate"]).unwrap();
    server.write("unknown.crt", &unknown.certificate().unwrap());
    server.write("unknown.key", &unknown.key().unwrap());
    let options = "sslmode=require&sslcert=@/unknown.crt&sslkey=@/unknown.key";
    let said = server.encrypted("by_certificate", "localhost", options).unwrap_err();
    assert!(said.contains("check the client certificate in sslcert"), "{said}");
    assert!(server.encrypted("by_certificate", "localhost", "sslmode=require").unwrap_err().contains("certificate"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(with("mine.key").unwrap_err().contains("accessible to other users"));
}

#[test]
fn a_reset_may_be_a_refused_client_certificate() {
    // Closing a connection with unread data resets it. A server that refuses a certificate may do so.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.peek(&mut [0]).unwrap();
        }
    });
    let (clients, folder) = (Authority::new("clients").unwrap(), tempfile::tempdir().unwrap());
    let mine = clients.issue(&["by_certificate"]).unwrap();
    write(folder.path(), "mine.crt", &mine.certificate().unwrap());
    write(folder.path(), "mine.key", &mine.key().unwrap());
    let path = folder.path().display();
    let certificate = format!("sslcert={path}/mine.crt&sslkey={path}/mine.key");
    for (options, expected) in [
        (format!("sslmode=require&{certificate}"), "check the client certificate in sslcert"),
        (format!("sslmode=require&sslcertmode=disable&{certificate}"), "start the local stack"),
        ("sslmode=require".to_owned(), "start the local stack"),
    ] {
        let said = ask(&format!("postgres://by_certificate@127.0.0.1:{port}/warehouse?{options}"), "").unwrap_err();
        assert!(said.contains("reset") && said.contains(expected), "{options}: {said}");
    }
}

#[test]
fn of_several_hosts_the_first_that_can_be_written_to_is_taken() {
    let (first, second) = (Postgres::ephemeral().unwrap(), Postgres::ephemeral().unwrap());
    let port = "SELECT current_setting('port')";
    let both = |rest: &str| {
        let address = format!("127.0.0.1:{},127.0.0.1:{}", first.port(), second.port());
        ask(&format!("postgres://admin:admin@{address}/warehouse?{rest}"), port)
    };
    assert_eq!(both(""), Ok(first.port().to_string()));
    ask(&first.url(), "ALTER DATABASE warehouse SET default_transaction_read_only = on").unwrap();
    assert_eq!(both(""), Ok(second.port().to_string()));
    assert_eq!(both("target_session_attrs=read-only"), Ok(first.port().to_string()));
    assert_eq!(both("target_session_attrs=any"), Ok(first.port().to_string()));
    ask(&second.url(), "ALTER DATABASE warehouse SET default_transaction_read_only = on").unwrap();
    let said = both("").unwrap_err();
    assert!(said.contains("does not allow writes"), "{said}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("127.0.0.1:{},127.0.0.1:{}", silent.local_addr().unwrap().port(), second.port());
    let url = format!("postgres://admin:admin@{address}/warehouse?target_session_attrs=any");
    assert_eq!(ask(&url, port), Ok(second.port().to_string()), "a host that says nothing is passed");
}

#[test]
fn what_is_weak_is_said_with_host_and_mode() {
    let server = Server::start();
    let warned = |host: &str, options: &str| {
        let url = server.url("clear", host, options);
        let output = migrate(&url, server.folder.path());
        let said = String::from_utf8_lossy(&output).into_owned();
        assert!(!said.contains("secret"), "{said}");
        said.lines().filter(|line| line.contains("\"WARN\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    let place = format!("127.1:{}", server.postgres.port());
    for (options, expected) in [
        ("sslmode=disable", "not encrypted"),
        ("sslmode=allow", "not encrypted"),
        ("sslmode=prefer", "certificate not verified"),
        ("sslmode=require", "certificate not verified"),
    ] {
        let said = warned("127.1", options);
        let mode = options.trim_start_matches("sslmode=");
        assert_eq!(said.len(), 1, "{options}: {said:?}");
        assert!([expected, mode, &place].iter().all(|part| said[0].contains(part)), "{options}: {said:?}");
    }
    assert_eq!(warned("127.1", "sslmode=verify-ca&sslrootcert=@/root.crt"), Vec::<String>::new());
    assert_eq!(warned("localhost", "sslmode=disable"), Vec::<String>::new());
}

fn migrate(url: &str, home: &Path) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
    command.args(["migrate", "--log-format", "json", "--database-url", url]).env("HOME", home);
    let output = command.output().unwrap();
    [output.stdout, output.stderr].concat()
}
