//! TLS: libpq's modes, certificates, and handshake errors.

use std::error::Error as _;
use std::fmt;
use std::fs;
use std::io;
use std::iter::successors;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{self, SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::{X509Lookup, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use postgres_openssl::{MakeTlsConnector, set_postgresql_alpn};
use tokio_postgres::config::SslNegotiation;

use crate::error::ConninfoError;
use crate::exposure::Exposure;
use crate::host::HostConfig;
use crate::settings::Settings;

/// libpq's `sslmode` (<https://www.postgresql.org/docs/current/libpq-ssl.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// No TLS unless the server requires it.
    Allow,
    /// TLS if the server supports it.
    Prefer,
    /// TLS with any server. If a root certificate is configured, the same as `VerifyCa`.
    Require,
    /// TLS with a server whose certificate was issued by a trusted authority.
    VerifyCa,
    /// Like `VerifyCa`, and the certificate must match the host name.
    VerifyFull,
}

impl SslMode {
    const NAMES: [(&str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, mode)| mode == self).map_or("", |(name, _)| name))
    }
}

/// TLS protection of a connection.
#[derive(Clone)]
pub(crate) struct Protection {
    pub(crate) mode: SslMode,
    /// Connector; `None` if TLS is disabled.
    pub(crate) connector: Option<MakeTlsConnector>,
    pub(crate) negotiation: SslNegotiation,
    /// True if the server's certificate is verified.
    pub(crate) verified: bool,
    /// True if the client has a certificate to show.
    pub(crate) has_certificate: bool,
    /// Warnings that were already logged.
    pub(crate) exposure: Arc<Exposure>,
}

/// Trusted root certificates.
enum Roots {
    /// Certificates in a PEM file.
    File(PathBuf),
    /// Certificates that the system trusts.
    System,
}

impl Protection {
    /// Reads the TLS settings. `local` is true if all hosts are on this machine.
    pub(crate) fn of(settings: &Settings, local: bool, home: Option<&Path>) -> Result<Self, ConninfoError> {
        let roots = match settings.get("sslrootcert") {
            Some("system") => Some(Roots::System),
            Some(path) => Some(Roots::File(path.into())),
            None => in_home(home, "root.crt").filter(|path| path.exists()).map(Roots::File),
        };
        let system = matches!(roots, Some(Roots::System));
        let default = if local && !system { SslMode::Disable } else { SslMode::VerifyFull };
        let mode = settings.choice("sslmode", &SslMode::NAMES)?.unwrap_or(default);
        if system && mode != SslMode::VerifyFull {
            return Err(ConninfoError::Conflict(format!(
                "sslrootcert=system requires sslmode=verify-full, not {mode}: anyone can obtain a certificate of a system authority"
            )));
        }
        let negotiations = [("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)];
        let negotiation = settings.choice("sslnegotiation", &negotiations)?.unwrap_or_default();
        if negotiation == SslNegotiation::Direct && mode < SslMode::Require {
            let text = format!("sslnegotiation=direct requires sslmode=require or stronger, not {mode}");
            return Err(ConninfoError::Conflict(text));
        }
        // As in libpq, a root certificate with sslmode=require enables verification.
        let checked = if mode == SslMode::Require && roots.is_some() { SslMode::VerifyCa } else { mode };
        let roots = roots.unwrap_or(Roots::System);
        let handshake = Handshake {
            versions: versions(settings)?,
            shows_certificate: shows_certificate(settings)?,
            direct: negotiation == SslNegotiation::Direct,
            names_server: settings.switch("sslsni", true)?,
        };
        let connector = if mode == SslMode::Disable {
            None
        } else {
            Some(handshake.connector(checked, &roots, settings, home).map_err(ConninfoError::Tls)?)
        };
        let verified = checked >= SslMode::VerifyCa;
        let shown = handshake.shows_certificate && client_certificate(settings, home).is_some();
        let has_certificate = shown && connector.is_some();
        Ok(Self { mode, connector, negotiation, verified, has_certificate, exposure: Arc::default() })
    }
}

/// Properties of a handshake that do not depend on the mode.
struct Handshake {
    versions: (SslVersion, Option<SslVersion>),
    shows_certificate: bool,
    direct: bool,
    names_server: bool,
}

impl Handshake {
    fn connector(
        &self,
        mode: SslMode,
        roots: &Roots,
        settings: &Settings,
        home: Option<&Path>,
    ) -> Result<MakeTlsConnector, String> {
        let mut builder = builder(mode, roots, self.versions, settings, home)?;
        if self.shows_certificate {
            identify(&mut builder, settings, home)?;
        }
        if self.direct {
            set_postgresql_alpn(&mut builder).map_err(|error| openssl_reason(&error))?;
        }
        let mut connector = MakeTlsConnector::new(builder.build());
        let (verify_name, names_server) = (mode == SslMode::VerifyFull, self.names_server);
        connector.set_callback(move |connection, _| {
            connection.set_verify_hostname(verify_name);
            connection.set_use_server_name_indication(names_server);
            Ok(())
        });
        Ok(connector)
    }
}

/// Returns the minimum and the maximum TLS version.
fn versions(settings: &Settings) -> Result<(SslVersion, Option<SslVersion>), ConninfoError> {
    let versions = [
        ("TLSv1", (1, SslVersion::TLS1)),
        ("TLSv1.1", (2, SslVersion::TLS1_1)),
        ("TLSv1.2", (3, SslVersion::TLS1_2)),
        ("TLSv1.3", (4, SslVersion::TLS1_3)),
    ];
    let lowest = settings.choice("ssl_min_protocol_version", &versions)?.unwrap_or((3, SslVersion::TLS1_2));
    let highest = settings.choice("ssl_max_protocol_version", &versions)?;
    if highest.is_some_and(|highest| highest.0 < lowest.0) {
        let text = "ssl_max_protocol_version is lower than ssl_min_protocol_version (TLSv1.2 by default)";
        return Err(ConninfoError::Conflict(text.to_owned()));
    }
    Ok((lowest.1, highest.map(|(_, version)| version)))
}

/// Returns true if a client certificate may be sent.
fn shows_certificate(settings: &Settings) -> Result<bool, ConninfoError> {
    match settings.get("sslcertmode") {
        None | Some("allow") => Ok(true),
        Some("disable") => Ok(false),
        Some("require") => Err(settings.unsupported("sslcertmode", "require cannot be enforced; use allow or disable")),
        Some(_) => Err(settings.invalid("sslcertmode", "one of disable, allow")),
    }
}

/// Creates a connector builder for `mode`. Errors start with the invalid option.
fn builder(
    mode: SslMode,
    roots: &Roots,
    (lowest, highest): (SslVersion, Option<SslVersion>),
    settings: &Settings,
    home: Option<&Path>,
) -> Result<SslConnectorBuilder, String> {
    let failed = |error: ErrorStack| format!("sslmode={mode}: {}", openssl_reason(&error));
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed)?;
    builder.set_min_proto_version(Some(lowest)).map_err(failed)?;
    builder.set_max_proto_version(highest).map_err(failed)?;
    if mode < SslMode::VerifyCa {
        builder.set_verify(SslVerifyMode::NONE);
        return Ok(builder);
    }
    if let Roots::File(path) = roots {
        trust(&mut builder, path).map_err(|error| format!("sslrootcert: {}: {error}", path.display()))?;
    }
    let list = settings.get("sslcrl").map(PathBuf::from);
    let folder = settings.get("sslcrldir").map(PathBuf::from);
    let usual = in_home(home, "root.crl").filter(|path| list.is_none() && folder.is_none() && path.exists());
    if let Some(path) = list.or(usual) {
        revoke_by_file(&mut builder, &path).map_err(|error| format!("sslcrl: {}: {error}", path.display()))?;
    }
    if let Some(path) = folder {
        revoke_by_folder(&mut builder, &path).map_err(|error| format!("sslcrldir: {}: {error}", path.display()))?;
    }
    Ok(builder)
}

/// Trusts only the certificates in a file.
fn trust(builder: &mut SslConnectorBuilder, path: &Path) -> Result<(), String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    let certificates = X509::stack_from_pem(&pem).map_err(|error| openssl_reason(&error))?;
    if certificates.is_empty() {
        return Err("the file contains no certificate".to_owned());
    }
    let mut store = X509StoreBuilder::new().map_err(|error| openssl_reason(&error))?;
    for certificate in certificates {
        store.add_cert(certificate).map_err(|error| openssl_reason(&error))?;
    }
    builder.set_cert_store(store.build());
    Ok(())
}

/// Rejects the certificates on a revocation list.
fn revoke_by_file(builder: &mut SslConnectorBuilder, path: &Path) -> Result<(), String> {
    fs::metadata(path).map_err(|error| error.to_string())?;
    let store = builder.cert_store_mut();
    let load = |store: &mut openssl::x509::store::X509StoreBuilderRef| {
        store.add_lookup(X509Lookup::file())?.load_crl_file(path, SslFiletype::PEM)?;
        store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)
    };
    load(store).map_err(|error| openssl_reason(&error))
}

/// Rejects the certificates on the revocation lists in a folder prepared by `openssl rehash`.
fn revoke_by_folder(builder: &mut SslConnectorBuilder, path: &Path) -> Result<(), String> {
    fs::metadata(path).map_err(|error| error.to_string())?;
    let name = path.to_str().ok_or("the path is not UTF-8")?;
    let store = builder.cert_store_mut();
    let load = |store: &mut openssl::x509::store::X509StoreBuilderRef| {
        store.add_lookup(X509Lookup::hash_dir())?.add_dir(name, SslFiletype::PEM)?;
        store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)
    };
    load(store).map_err(|error| openssl_reason(&error))
}

/// Returns the path of the client certificate: `sslcert`, or else libpq's file in the home folder if there is one.
fn client_certificate(settings: &Settings, home: Option<&Path>) -> Option<PathBuf> {
    let named = settings.get("sslcert").map(PathBuf::from);
    named.or_else(|| in_home(home, "postgresql.crt").filter(|path| path.exists()))
}

/// Sets the client certificate if there is one, with the key in `sslkey` or in libpq's file in the home folder.
fn identify(builder: &mut SslConnectorBuilder, settings: &Settings, home: Option<&Path>) -> Result<(), String> {
    let Some(certificate) = client_certificate(settings, home) else { return Ok(()) };
    let unusable = |error: String| format!("sslcert: {}: {error}", certificate.display());
    fs::metadata(&certificate).map_err(|error| unusable(error.to_string()))?;
    builder.set_certificate_chain_file(&certificate).map_err(|error| unusable(openssl_reason(&error)))?;
    let key = settings.get("sslkey").map(PathBuf::from).or_else(|| in_home(home, "postgresql.key"));
    let key = key.ok_or_else(|| format!("sslkey: no key for {}; set sslkey", certificate.display()))?;
    let unusable = |error: String| format!("sslkey: {}: {error}", key.display());
    check_is_private(&key).map_err(unusable)?;
    let pem = fs::read(&key).map_err(|error| unusable(error.to_string()))?;
    let password = settings.get("sslpassword").unwrap_or_default().as_bytes();
    // Without a callback OpenSSL would prompt on the terminal.
    let read = PKey::private_key_from_pem_callback(&pem, |buffer| {
        let length = password.len().min(buffer.len());
        buffer[..length].copy_from_slice(&password[..length]);
        Ok(length)
    });
    let read =
        read.map_err(|error| unusable(format!("{} (an encrypted key needs sslpassword)", openssl_reason(&error))))?;
    let mismatch = |error| unusable(format!("not the key of {}: {}", certificate.display(), openssl_reason(&error)));
    builder.set_private_key(&read).and_then(|()| builder.check_private_key()).map_err(mismatch)
}

/// Checks the permissions of a private key like libpq: only its owner may access it, and the group may read root's key.
fn check_is_private(key: &Path) -> Result<(), String> {
    let found = fs::metadata(key).map_err(|error| error.to_string())?;
    let forbidden = if found.uid() == 0 { 0o037 } else { 0o077 };
    if found.permissions().mode() & forbidden == 0 {
        return Ok(());
    }
    Err("accessible to other users; run chmod 600 on it".to_owned())
}

fn in_home(home: Option<&Path>, name: &str) -> Option<PathBuf> {
    home.map(|home| home.join(".postgresql").join(name))
}

/// Returns OpenSSL's reasons without its file names and line numbers.
#[must_use]
pub fn openssl_reason(error: &ErrorStack) -> String {
    let reasons: Vec<&str> = error.errors().iter().filter_map(openssl::error::Error::reason).collect();
    if reasons.is_empty() { "not usable".to_owned() } else { reasons.join(", ") }
}

/// Returns the reason of a failed TLS handshake. Returns `None` for any other error and if the connection was closed.
#[must_use]
pub fn tls_failure(error: &tokio_postgres::Error) -> Option<String> {
    // `tokio-postgres` offers no other way to detect it.
    let handshake = error.to_string().starts_with("error performing TLS handshake");
    let causes = || successors(error.source(), |cause| (**cause).source());
    if !handshake || causes().any(|cause| cause.is::<io::Error>() || handshake_was_cut(cause)) {
        return None;
    }
    let text = error.source()?.to_string();
    let reasons = causes().find_map(|cause| cause.downcast_ref::<ssl::Error>()).and_then(ssl::Error::ssl_error);
    let Some(reasons) = reasons else { return Some(text) };
    // The verification result, which follows OpenSSL's own lines.
    let result = text.rsplit_once("::").map(|(_, result)| result.trim_start_matches([':', ' '])).unwrap_or_default();
    Some([openssl_reason(reasons).as_str(), result].join(": ").trim_end_matches([':', ' ']).to_owned())
}

/// Returns true if the peer closed the connection during the handshake.
#[must_use]
pub fn handshake_was_cut(cause: &(dyn std::error::Error + 'static)) -> bool {
    let Some(error) = cause.downcast_ref::<ssl::Error>() else { return false };
    let ended = [ssl::ErrorCode::SYSCALL, ssl::ErrorCode::ZERO_RETURN].contains(&error.code());
    let unexpected = |stack: &ErrorStack| openssl_reason(stack).contains("unexpected eof");
    ended || error.ssl_error().is_some_and(unexpected)
}

impl Protection {
    /// Warns before a password is sent over a connection with weaker protection than `verify-ca`.
    ///
    /// A local connection has no third party.
    pub(crate) fn warn_of(&self, host: &HostConfig, encrypted: bool) {
        if host.is_local() || (encrypted && self.verified) || !self.exposure.is_new(host, encrypted) {
            return;
        }
        let (host, sslmode) = (host.to_string(), self.mode.to_string());
        if encrypted {
            tracing::warn!(
                host,
                sslmode,
                "server certificate not verified, another server could impersonate it; set sslmode=verify-full"
            );
        } else {
            tracing::warn!(
                host,
                sslmode,
                "connection not encrypted, password and data can be read on the network; set sslmode=verify-full"
            );
        }
    }
}
