//! Every connection setting of libpq (PostgreSQL 18, <https://www.postgresql.org/docs/18/libpq-connect.html>).

/// A keyword of a connection string.
#[derive(Debug)]
pub struct Keyword {
    /// Name in a connection string.
    pub name: &'static str,
    /// Environment variable that provides the value if neither the connection string nor the service does.
    pub variable: Option<&'static str>,
    /// Effect of the keyword.
    pub handling: Handling,
    /// Difference from libpq, or the reason for the handling. Empty if there is none.
    pub note: &'static str,
}

/// Environment variable of libpq without a keyword.
#[derive(Debug)]
pub struct Variable {
    /// Name of the variable.
    pub name: &'static str,
    /// Effect of the variable.
    pub handling: Handling,
    /// Difference from libpq, or the reason for the handling.
    pub note: &'static str,
}

/// Effect of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Has the same meaning as in libpq.
    Supported,
    /// Has no effect. Only the listed values are accepted; an empty list accepts all.
    Accepted(&'static [&'static str]),
    /// Is refused by name.
    Refused,
}

use Handling::{Accepted, Refused, Supported};

const fn keyword(name: &'static str, variable: &'static str, handling: Handling, note: &'static str) -> Keyword {
    Keyword { name, variable: if variable.is_empty() { None } else { Some(variable) }, handling, note }
}

const NO_GSS: &str = "GSSAPI is not supported";
const NO_OAUTH: &str = "OAuth is not supported";

/// Keywords of libpq, each with its variable and its effect.
pub const KEYWORDS: &[Keyword] = &[
    keyword("host", "PGHOST", Supported, "`localhost` if neither `host` nor `hostaddr` is given; no abstract sockets"),
    keyword("hostaddr", "PGHOSTADDR", Supported, "address to connect to; the certificate is verified against `host`"),
    keyword("port", "PGPORT", Supported, ""),
    keyword("dbname", "PGDATABASE", Supported, "a name, never a connection string"),
    keyword("user", "PGUSER", Supported, "the operating system's user by default"),
    keyword("password", "PGPASSWORD", Supported, ""),
    keyword("passfile", "PGPASSFILE", Supported, ""),
    keyword("service", "PGSERVICE", Supported, "no LDAP"),
    keyword("servicefile", "PGSERVICEFILE", Supported, ""),
    keyword("connect_timeout", "PGCONNECT_TIMEOUT", Supported, "5 s by default, 2 s with several hosts"),
    keyword("client_encoding", "PGCLIENTENCODING", Accepted(&[]), "sessions use UTF8"),
    keyword("options", "PGOPTIONS", Supported, "pinned settings override it"),
    keyword("application_name", "PGAPPNAME", Supported, "appended to the session's own name in parentheses"),
    keyword("fallback_application_name", "", Supported, "used if there is no `application_name`"),
    keyword("keepalives", "", Supported, ""),
    keyword("keepalives_idle", "", Supported, "10 s by default"),
    keyword("keepalives_interval", "", Supported, ""),
    keyword("keepalives_count", "", Supported, ""),
    keyword("tcp_user_timeout", "", Supported, "20 s by default"),
    keyword("sslmode", "PGSSLMODE", Supported, "`verify-full` by default, unless all hosts are local"),
    keyword("sslnegotiation", "PGSSLNEGOTIATION", Supported, ""),
    keyword("sslcompression", "PGSSLCOMPRESSION", Accepted(&["0", "1"]), "OpenSSL offers no compression"),
    keyword("sslcert", "PGSSLCERT", Supported, ""),
    keyword("sslkey", "PGSSLKEY", Supported, "a file; no OpenSSL engine"),
    keyword("sslcertmode", "PGSSLCERTMODE", Supported, "`require` is refused"),
    keyword("sslpassword", "", Supported, ""),
    keyword("sslrootcert", "PGSSLROOTCERT", Supported, "`system` by default if there is no `~/.postgresql/root.crt`"),
    keyword("sslcrl", "PGSSLCRL", Supported, "must be readable"),
    keyword("sslcrldir", "PGSSLCRLDIR", Supported, ""),
    keyword("sslsni", "PGSSLSNI", Supported, ""),
    keyword("sslkeylogfile", "", Refused, "session keys are never written to a file"),
    keyword("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Supported, ""),
    keyword("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Supported, ""),
    keyword("min_protocol_version", "PGMINPROTOCOLVERSION", Accepted(&["3.0"]), "sessions use protocol 3.0"),
    keyword(
        "max_protocol_version",
        "PGMAXPROTOCOLVERSION",
        Accepted(&["3.0", "3.2", "latest"]),
        "sessions use protocol 3.0",
    ),
    keyword("channel_binding", "PGCHANNELBINDING", Supported, ""),
    keyword(
        "require_auth",
        "PGREQUIREAUTH",
        Refused,
        "the authentication method cannot be restricted; channel_binding=require enforces SCRAM",
    ),
    keyword("requirepeer", "PGREQUIREPEER", Refused, "the peer of a Unix socket cannot be checked"),
    keyword("gssencmode", "PGGSSENCMODE", Accepted(&["disable", "prefer"]), NO_GSS),
    keyword("krbsrvname", "PGKRBSRVNAME", Accepted(&[]), NO_GSS),
    keyword("gsslib", "PGGSSLIB", Accepted(&[]), NO_GSS),
    keyword("gssdelegation", "PGGSSDELEGATION", Accepted(&["0", "1"]), NO_GSS),
    keyword("scram_client_key", "", Refused, "SCRAM requires a password"),
    keyword("scram_server_key", "", Refused, "SCRAM requires a password"),
    keyword("oauth_issuer", "", Refused, NO_OAUTH),
    keyword("oauth_client_id", "", Refused, NO_OAUTH),
    keyword("oauth_client_secret", "", Refused, NO_OAUTH),
    keyword("oauth_scope", "", Refused, NO_OAUTH),
    keyword("replication", "", Accepted(&["0", "false", "off", "no"]), "sessions run SQL"),
    keyword("target_session_attrs", "PGTARGETSESSIONATTRS", Supported, "`read-write` by default with several hosts"),
    keyword("load_balance_hosts", "PGLOADBALANCEHOSTS", Supported, ""),
];

const fn variable(name: &'static str, handling: Handling, note: &'static str) -> Variable {
    Variable { name, handling, note }
}

/// Variables of libpq without a keyword, each with its effect.
pub const VARIABLES: &[Variable] = &[
    variable("PGSYSCONFDIR", Supported, "folder of the system's `pg_service.conf`"),
    variable("PGREQUIRESSL", Supported, "`1` means `sslmode=require` if no `sslmode` is given"),
    variable("PGGEQO", Supported, "`on` or `off`"),
    variable("PGDATESTYLE", Accepted(&[]), "pinned to ISO"),
    variable("PGTZ", Accepted(&[]), "pinned to UTC"),
    variable("PGREALM", Accepted(&[]), NO_GSS),
    variable("PGLOCALEDIR", Accepted(&[]), "messages are in English"),
    variable("PGOAUTHDEBUG", Accepted(&[]), NO_OAUTH),
];

/// Finds a keyword by its name.
pub(crate) fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}
