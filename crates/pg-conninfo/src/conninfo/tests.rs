#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::keyword::{Handling, KEYWORDS, VARIABLES};

const DEFAULT: &str = "postgres://admin:admin@localhost:5433/warehouse";

fn resolve(text: Option<&str>, variables: &[(&str, &str)]) -> Result<Conninfo, ConninfoError> {
    Conninfo::from(text, DEFAULT, &|name| {
        variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    })
}

fn shown(text: Option<&str>, variables: &[(&str, &str)]) -> String {
    resolve(text, variables).unwrap().to_string()
}

fn mode(text: &str, variables: &[(&str, &str)]) -> SslMode {
    resolve(Some(text), variables).unwrap().ssl_mode()
}

fn refusal(text: Option<&str>, variables: &[(&str, &str)]) -> String {
    resolve(text, variables).err().unwrap().to_string()
}

#[test]
fn connection_strings_and_variables() {
    assert_eq!(shown(None, &[]), "localhost:5433/warehouse");
    assert_eq!(shown(None, &[("PGPASSWORD", "x"), ("PGSSLMODE", "disable")]), "localhost:5433/warehouse");
    assert_eq!(shown(None, &[("PGHOST", "/run/postgresql"), ("PGDATABASE", "d")]), "/run/postgresql:5432/d");
    assert_eq!(shown(None, &[("PGHOST", "a,b"), ("PGPORT", "1,2"), ("PGUSER", "u")]), "a:1,b:2/u");
    let url = "postgres://me:secret@localhost:1,127.0.0.1:2/db?target_session_attrs=read-write&sslmode=disable";
    assert_eq!(shown(Some(url), &[("PGHOST", "elsewhere")]), "localhost:1,127.0.0.1:2/db");
    assert_eq!(shown(Some("host=::1 user=me dbname=db sslmode=disable"), &[]), "::1:5432/db");
    let user = whoami::username().unwrap();
    assert_eq!(shown(Some(""), &[]), format!("localhost:5432/{user}"));
}

#[test]
fn an_address_is_where_it_connects_and_the_host_is_the_name() {
    assert_eq!(shown(Some("hostaddr=10.0.0.1 user=me dbname=db"), &[]), "10.0.0.1:5432/db");
    let variables = [("PGHOSTADDR", "192.0.2.1"), ("PGUSER", "u"), ("PGDATABASE", "d")];
    assert_eq!(shown(None, &variables), "192.0.2.1:5432/d");
    assert_eq!(shown(None, &[("PGHOSTADDR", "192.0.2.1"), ("PGDATABASE", "d")]), "192.0.2.1:5432/d");
    let both = resolve(Some("postgres://u@warehouse.example/d"), &variables).unwrap();
    assert_eq!(both.to_string(), "warehouse.example(192.0.2.1):5432/d");
    let host = &both.hosts()[0];
    assert_eq!(host.config.get_hostaddrs(), ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(host.config.get_hosts(), [tokio_postgres::config::Host::Tcp("warehouse.example".to_owned())]);
    assert_eq!(shown(Some("host=a,b hostaddr=192.0.2.1, dbname=d"), &[]), "a(192.0.2.1):5432,b:5432/d");
    // An empty value overrides the variable.
    assert_eq!(shown(Some("host=localhost hostaddr='' dbname=d"), &variables), "localhost:5432/d");
    assert!(refusal(Some("host=a,b hostaddr=192.0.2.1"), &[]).contains("2 host names, but 1 address"));
    assert!(refusal(Some("host=a,b,c port=1,2"), &[]).contains("2 ports, but 3 hosts"));
    assert!(refusal(None, &[("PGHOSTADDR", "warehouse.example")]).contains("PGHOSTADDR=warehouse.example"));
    assert!(refusal(None, &[("PGHOST", "@abstract")]).contains("PGHOST"));
    assert!(refusal(Some("port=0"), &[]).contains("port=0"));
}

#[test]
fn the_string_beats_the_service_and_the_service_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services");
    fs::write(&file, "[prod]\nhost=192.0.2.7\nport=6000\ndbname=proddb\nuser=u\n[bad]\nhots=x\n").unwrap();
    let file = file.to_str().unwrap();
    let variables = [("PGSERVICE", "prod"), ("PGSERVICEFILE", file)];
    assert_eq!(shown(None, &variables), "192.0.2.7:6000/proddb");
    let named = [("PGSERVICEFILE", file), ("PGHOST", "elsewhere"), ("PGPORT", "1"), ("PGSSLMODE", "disable")];
    assert_eq!(shown(Some("postgres:///d?service=prod"), &named), "192.0.2.7:6000/d");
    assert_eq!(mode("service=prod", &named), SslMode::Disable);
    assert_eq!(shown(Some("service=prod host=other"), &named), "other:6000/proddb");
    assert_eq!(shown(Some(&format!("service=prod servicefile={file}")), &[]), "192.0.2.7:6000/proddb");
    let refused = refusal(None, &[("PGSERVICE", "prod"), ("PGSYSCONFDIR", "/nonexistent")]);
    assert!(refused.contains("service prod") && refused.contains("PGSERVICEFILE"), "{refused}");
    assert!(refusal(Some("service=absent"), &named).contains("service absent"));
    assert!(refusal(Some("service=bad"), &named).contains("unknown keyword"));
}

#[test]
fn a_host_that_is_not_local_gets_verified_tls() {
    let url = "postgres://me:secret@warehouse.example/db";
    assert_eq!(mode(url, &[]), SslMode::VerifyFull);
    assert_eq!(mode(url, &[("PGSSLMODE", "disable")]), SslMode::Disable);
    assert_eq!(mode(url, &[("PGREQUIRESSL", "1")]), SslMode::Require);
    assert_eq!(mode("postgres://localhost/db", &[]), SslMode::Disable);
    assert_eq!(mode("postgres://localhost/db", &[("PGSSLROOTCERT", "system")]), SslMode::VerifyFull);
    assert_eq!(mode("postgres://localhost/db", &[("PGHOSTADDR", "192.0.2.1")]), SslMode::VerifyFull);
    assert_eq!(mode("postgres://localhost,warehouse.example/db", &[]), SslMode::VerifyFull);
    assert_eq!(mode("host=localhost hostaddr=10.0.0.1", &[]), SslMode::VerifyFull);
    assert_eq!(mode("postgres://localhost/db?sslmode=prefer", &[]), SslMode::Prefer);
}

#[test]
fn of_several_servers_the_one_that_can_be_written_to_is_meant() {
    let attributes = |url| resolve(Some(url), &[]).unwrap().attributes();
    assert_eq!(attributes("postgres://localhost/db"), SessionAttributes::Any);
    assert_eq!(attributes("postgres://localhost:1,localhost:2/db"), SessionAttributes::ReadWrite);
    assert_eq!(attributes("postgres://localhost/db?target_session_attrs=primary"), SessionAttributes::Primary);
}

#[test]
fn a_session_keeps_its_name_and_shows_the_users() {
    let name = |text: &str, variables: &[(&str, &str)]| {
        let named = resolve(Some(text), variables).unwrap().named("kafka-consumer status");
        named.hosts()[0].config.get_application_name().map(str::to_owned).unwrap()
    };
    assert_eq!(name("", &[]), "kafka-consumer status");
    assert_eq!(name("", &[("PGAPPNAME", "mine")]), "kafka-consumer status (mine)");
    assert_eq!(name("application_name=me", &[("PGAPPNAME", "mine")]), "kafka-consumer status (me)");
    assert_eq!(name("fallback_application_name=x", &[("PGAPPNAME", "mine")]), "kafka-consumer status (mine)");
    assert_eq!(name("fallback_application_name=x", &[]), "kafka-consumer status (x)");
}

#[test]
fn limits_and_keepalives() {
    let of = |text: &str, variables: &[(&str, &str)]| resolve(Some(text), variables).unwrap();
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!((of("", &[]).limit(false), of("", &[]).limit(true)), (seconds(10), None));
    assert_eq!(of("host=a,b", &[]).limit(false), seconds(4));
    for (text, limit) in [("connect_timeout=7", seconds(7)), ("connect_timeout=0", None), ("connect_timeout=-1", None)]
    {
        assert_eq!((of(text, &[]).limit(false), of(text, &[]).limit(true)), (limit, limit), "{text}");
    }
    assert_eq!(of("", &[("PGCONNECT_TIMEOUT", "2")]).limit(true), seconds(2));
    let config = |text: &str| of(text, &[]).hosts()[0].config.clone();
    let usual = config("");
    assert_eq!(
        (usual.get_keepalives_idle(), usual.get_tcp_user_timeout()),
        (Duration::from_secs(10), seconds(20).as_ref())
    );
    let given = config("keepalives=0 keepalives_idle=3 keepalives_interval=4 keepalives_count=5 tcp_user_timeout=1500");
    assert!(!given.get_keepalives());
    assert_eq!((given.get_keepalives_idle(), given.get_keepalives_interval()), (Duration::from_secs(3), seconds(4)));
    assert_eq!(
        (given.get_keepalives_retries(), given.get_tcp_user_timeout()),
        (Some(5), Some(&Duration::from_millis(1500)))
    );
    assert_eq!(config("tcp_user_timeout=0").get_tcp_user_timeout(), None);
}

#[test]
fn options_reach_the_server() {
    let options = |text: &str, variables: &[(&str, &str)]| {
        resolve(Some(text), variables).unwrap().hosts()[0].config.get_options().map(str::to_owned)
    };
    let url = "postgres://u@localhost/d?options=-c%20statement_timeout%3D5s";
    assert_eq!(options(url, &[]).unwrap(), "-c statement_timeout=5s");
    assert_eq!(options(url, &[("PGGEQO", "off")]).unwrap(), "-c statement_timeout=5s -c geqo=off");
    assert_eq!(options("", &[("PGOPTIONS", "-c work_mem=1MB")]).unwrap(), "-c work_mem=1MB");
    assert_eq!(options("", &[]), None);
    assert!(refusal(None, &[("PGGEQO", "off -c x=y")]).contains("PGGEQO"));
}

/// Valid values of the supported keywords, except those in `FILES`.
fn samples() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("host", "h"),
        ("hostaddr", "192.0.2.1"),
        ("port", "6000"),
        ("dbname", "d"),
        ("user", "u"),
        ("password", "hunter2"),
        ("passfile", "/nonexistent"),
        ("servicefile", "/nonexistent"),
        ("connect_timeout", "7"),
        ("options", "-c a=b"),
        ("application_name", "me"),
        ("fallback_application_name", "me"),
        ("keepalives", "1"),
        ("keepalives_idle", "7"),
        ("keepalives_interval", "7"),
        ("keepalives_count", "7"),
        ("tcp_user_timeout", "7000"),
        ("sslmode", "require"),
        ("sslnegotiation", "postgres"),
        ("sslcertmode", "disable"),
        ("sslpassword", "hunter2"),
        ("sslrootcert", "system"),
        ("sslsni", "0"),
        ("ssl_min_protocol_version", "TLSv1.3"),
        ("ssl_max_protocol_version", "TLSv1.3"),
        ("channel_binding", "require"),
        ("target_session_attrs", "prefer-standby"),
        ("load_balance_hosts", "random"),
    ])
}

/// Keywords whose value is a file that must exist.
const FILES: [&str; 5] = ["service", "sslcert", "sslkey", "sslcrl", "sslcrldir"];

#[test]
fn no_keyword_and_no_variable_is_ignored() {
    let samples = samples();
    for keyword in KEYWORDS {
        let give = |value: &str| {
            let text = format!("{}='{value}'", keyword.name);
            let by_text = resolve(Some(&text), &[]).map(|_| ()).map_err(|error| error.to_string());
            let by_variable = keyword.variable.map(|variable| {
                let found = resolve(Some("host=localhost"), &[(variable, value)]);
                found.map(|_| ()).map_err(|error| error.to_string().replace(variable, keyword.name))
            });
            assert!(by_variable.is_none_or(|found| found == by_text), "{}", keyword.name);
            by_text
        };
        match keyword.handling {
            Handling::Supported if FILES.contains(&keyword.name) => {}
            Handling::Supported => {
                let sample = samples.get(keyword.name).unwrap_or_else(|| panic!("no sample of {}", keyword.name));
                assert_eq!(give(sample), Ok(()), "{}", keyword.name);
            }
            Handling::Accepted([]) => assert_eq!(give("whatever"), Ok(()), "{}", keyword.name),
            Handling::Accepted(values) => {
                for value in values {
                    assert_eq!(give(value), Ok(()), "{}", keyword.name);
                }
                assert!(give("other").unwrap_err().contains(keyword.name));
            }
            Handling::Refused => assert!(give("whatever").unwrap_err().contains(keyword.name)),
        }
    }
    for variable in VARIABLES {
        assert!(variable.handling != Handling::Refused, "{}: nothing refuses it", variable.name);
    }
    let names: Vec<&str> = KEYWORDS.iter().map(|keyword| keyword.name).collect();
    assert!(names.iter().all(|name| names.iter().filter(|other| other == &name).count() == 1));
}

#[test]
fn an_option_that_cannot_be_had_is_named() {
    for (options, named) in [
        ("sslmode=nonsense", "sslmode=nonsense"),
        ("sslmode=require&sslrootcert=system", "sslrootcert=system"),
        ("sslmode=verify-ca&sslrootcert=/no/such", "sslrootcert: /no/such"),
        ("sslmode=require&sslcert=/no/such", "sslcert: /no/such"),
        ("sslmode=verify-ca&sslrootcert=system", "sslrootcert=system"),
        ("sslcrl=/no/such", "sslcrl: /no/such"),
        ("sslcrldir=/no/such", "sslcrldir: /no/such"),
        ("sslnegotiation=direct&sslmode=prefer", "sslnegotiation=direct"),
        ("sslcertmode=require", "sslcertmode"),
        ("sslsni=yes", "sslsni=yes"),
        ("ssl_max_protocol_version=TLSv1.1", "ssl_max_protocol_version"),
        ("ssl_min_protocol_version=SSLv3", "ssl_min_protocol_version=SSLv3"),
        ("target_session_attrs=master", "target_session_attrs=master"),
        ("channel_binding=perhaps", "channel_binding=perhaps"),
        ("connect_timeout=5s", "connect_timeout=5s"),
        ("keepalives=on", "keepalives=on"),
        ("gssencmode=require", "gssencmode=require"),
        ("require_auth=scram-sha-256", "require_auth"),
        ("requirepeer=x", "requirepeer"),
        ("replication=database", "replication=database"),
        ("min_protocol_version=3.2", "min_protocol_version=3.2"),
        ("nonsense=1", "nonsense"),
    ] {
        let url = format!("postgres://me:hunter2@warehouse.example/db?{options}");
        let refused = refusal(Some(&url), &[]);
        assert!(refused.contains(named) && !refused.contains("hunter2"), "{refused}");
    }
    assert!(refusal(None, &[("PGREQUIREAUTH", "none")]).contains("PGREQUIREAUTH"));
    let refused = refusal(Some("Hunter2=x"), &[]);
    assert!(!refused.contains("Hunter2"), "{refused}");
}

#[test]
fn files_are_read_again_for_each_session() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgpass");
    let write = |password: &str| {
        std::fs::write(&file, format!("*:*:*:*:{password}\n")).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    let password = |settings: &Conninfo| {
        let hosts = settings.hosts();
        hosts[0].config.get_password().map(|password| String::from_utf8_lossy(password).into_owned())
    };
    write("one");
    let text = format!("host=localhost user=u dbname=d passfile={}", file.display());
    let former = Conninfo::resolve(Some(&text), DEFAULT).unwrap().named("program");
    write("two");
    let present = former.reloaded();
    assert_eq!((password(&former).as_deref(), password(&present).as_deref()), (Some("one"), Some("two")));
    assert_eq!(present.hosts()[0].config.get_application_name(), Some("program"));
}
