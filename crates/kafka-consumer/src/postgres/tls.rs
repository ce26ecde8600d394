//! TLS to PostgreSQL: libpq's modes, and whom a certificate is believed.

use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use postgres_openssl::MakeTlsConnector;

use super::options::Options;

/// libpq's `sslmode` (<https://www.postgresql.org/docs/current/libpq-ssl.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// Without TLS.
    Disable,
    /// Without, and with TLS where the server insists on it.
    Allow,
    /// With TLS where the server offers it.
    Prefer,
    /// With TLS, whoever the server is.
    Require,
    /// With TLS, to a server that one of the root certificates vouches for.
    VerifyCa,
    /// The same, and the certificate is for the host's name.
    VerifyFull,
}

impl Mode {
    const NAMES: [(&str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode).ok_or(())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, mode)| mode == self).map_or("", |(name, _)| name))
    }
}

/// Whose word is taken for a server's certificate.
pub(super) enum Roots {
    /// Of those in a PEM file.
    File(PathBuf),
    /// Of those that the system trusts.
    System,
}

/// Makes TLS connections as `mode` demands. Errors begin with the option that is wrong.
pub(super) fn connector(
    mode: Mode,
    roots: &Roots,
    options: &Options,
    home: Option<&Path>,
) -> Result<MakeTlsConnector, String> {
    let failed = |error: openssl::error::ErrorStack| format!("sslmode={mode}: {}", reason(&error));
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(failed)?;
    if mode < Mode::VerifyCa {
        builder.set_verify(SslVerifyMode::NONE);
    } else if let Roots::File(path) = roots {
        trust(&mut builder, path).map_err(|error| format!("sslrootcert: {}: {error}", path.display()))?;
    }
    identify(&mut builder, options, home)?;
    let mut connector = MakeTlsConnector::new(builder.build());
    connector.set_callback(move |connection, _| {
        connection.set_verify_hostname(mode == Mode::VerifyFull);
        Ok(())
    });
    Ok(connector)
}

/// Trusts the certificates of a file and no others.
fn trust(builder: &mut SslConnectorBuilder, path: &Path) -> Result<(), String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    let certificates = X509::stack_from_pem(&pem).map_err(|error| reason(&error))?;
    if certificates.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    let mut store = X509StoreBuilder::new().map_err(|error| reason(&error))?;
    for certificate in certificates {
        store.add_cert(certificate).map_err(|error| reason(&error))?;
    }
    builder.set_cert_store(store.build());
    Ok(())
}

/// Shows a certificate of our own, where there is one: `sslcert` and `sslkey`, else libpq's files in the home folder.
fn identify(builder: &mut SslConnectorBuilder, options: &Options, home: Option<&Path>) -> Result<(), String> {
    let usual = |name: &str| home.map(|home| home.join(".postgresql").join(name));
    let named = options.get("sslcert").map(PathBuf::from);
    let Some(certificate) = named.or_else(|| usual("postgresql.crt").filter(|path| path.exists())) else {
        return Ok(());
    };
    let unusable = |error: String| format!("sslcert: {}: {error}", certificate.display());
    fs::metadata(&certificate).map_err(|error| unusable(error.to_string()))?;
    builder.set_certificate_chain_file(&certificate).map_err(|error| unusable(reason(&error)))?;
    let key = options.get("sslkey").map(PathBuf::from).or_else(|| usual("postgresql.key"));
    let key = key.ok_or_else(|| format!("sslkey: the key of {} is not given", certificate.display()))?;
    let unusable = |error: String| format!("sslkey: {}: {error}", key.display());
    keeps_secret(&key).map_err(unusable)?;
    let pem = fs::read(&key).map_err(|error| unusable(error.to_string()))?;
    let password = options.get("sslpassword").unwrap_or_default().as_bytes();
    // Without a callback OpenSSL would ask on the terminal.
    let read = PKey::private_key_from_pem_callback(&pem, |place| {
        let length = password.len().min(place.len());
        place[..length].copy_from_slice(&password[..length]);
        Ok(length)
    });
    let read = read.map_err(|error| unusable(format!("{} (an encrypted key needs sslpassword)", reason(&error))))?;
    let not_its_own = |error| unusable(format!("not the key of {}: {}", certificate.display(), reason(&error)));
    builder.set_private_key(&read).and_then(|()| builder.check_private_key()).map_err(not_its_own)
}

/// libpq's rule for a private key: of ours, and nobody else's to read; root's may be read by its group.
fn keeps_secret(key: &Path) -> Result<(), String> {
    let found = fs::metadata(key).map_err(|error| error.to_string())?;
    let forbidden = if found.uid() == 0 { 0o037 } else { 0o077 };
    if found.permissions().mode() & forbidden == 0 {
        return Ok(());
    }
    Err("others may read it; chmod 600 makes it private".to_owned())
}

/// What OpenSSL says, without its file names and line numbers.
pub(super) fn reason(error: &openssl::error::ErrorStack) -> String {
    let reasons: Vec<&str> = error.errors().iter().filter_map(openssl::error::Error::reason).collect();
    if reasons.is_empty() { "not usable".to_owned() } else { reasons.join(", ") }
}
