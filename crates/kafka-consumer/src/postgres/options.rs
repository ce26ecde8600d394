//! libpq's options that the client library does not know, taken out of either of libpq's forms of an address.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::target::TargetError;

/// What is handled here, with the variable that stands in where the address is silent.
const HANDLED: [(&str, &str); 8] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslpassword", ""),
    ("passfile", "PGPASSFILE"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("channel_binding", "PGCHANNELBINDING"),
];

/// The options of [`HANDLED`] that are set.
#[derive(Default)]
pub(super) struct Options(BTreeMap<&'static str, String>);

impl Options {
    /// The address without these options, and the options, completed by the variables.
    pub(super) fn take(text: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<(String, Self), TargetError> {
        let mut options = Self::default();
        let rest = if text.contains("://") { options.take_of_url(text)? } else { options.take_of_words(text)? };
        for (name, stand_in) in HANDLED {
            if !stand_in.is_empty()
                && !options.0.contains_key(name)
                && let Some(value) = variable(stand_in)
            {
                options.0.insert(name, value);
            }
        }
        Ok((rest, options))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn keep(&mut self, name: &str, value: String) -> bool {
        let handled = HANDLED.iter().find(|(handled, _)| *handled == name);
        if let Some((handled, _)) = handled {
            self.0.insert(handled, value);
        }
        handled.is_some()
    }

    fn take_of_url(&mut self, text: &str) -> Result<String, TargetError> {
        let Some((address, query)) = text.split_once('?') else { return Ok(text.to_owned()) };
        let mut kept = Vec::new();
        for option in query.split('&') {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| TargetError::Form(format!("{name} is not UTF-8")))?;
            if !self.keep(name, value.into_owned()) {
                kept.push(option);
            }
        }
        Ok(if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) })
    }

    /// `name = value` pairs between spaces; a value with spaces stands in single quotes, and a backslash takes the
    /// meaning from what follows it.
    fn take_of_words(&mut self, text: &str) -> Result<String, TargetError> {
        let mut kept = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=').ok_or_else(|| form("a word is not of the form name=value"))?;
            let after = after.trim_start();
            let (value, length) = value(after)?;
            if !self.keep(name.trim(), value) {
                kept.push(format!("{}={}", name.trim(), &after[..length]));
            }
            rest = after[length..].trim_start();
        }
        Ok(kept.join(" "))
    }
}

/// The value at the beginning of a text, and how many bytes it takes there.
fn value(text: &str) -> Result<(String, usize), TargetError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut letters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, next)| next)),
            '\'' if quoted => return Ok((value, at + 1)),
            space if !quoted && space.is_whitespace() => return Ok((value, at)),
            other => value.push(other),
        }
    }
    if quoted { Err(form("a quote is not closed")) } else { Ok((value, text.len())) }
}

fn form(what: &str) -> TargetError {
    TargetError::Form(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> (String, Options) {
        Options::take(text, &|name| (name == "PGSSLCERT").then(|| "/from/variable".to_owned())).unwrap()
    }

    #[test]
    fn both_forms() {
        let (rest, options) =
            taken("postgres://me@a/db?sslmode=require&application_name=x&sslrootcert=%2Fa%20b%2Fc.pem");
        assert_eq!(rest, "postgres://me@a/db?application_name=x");
        assert_eq!((options.get("sslmode"), options.get("sslrootcert")), (Some("require"), Some("/a b/c.pem")));
        assert_eq!(options.get("sslcert"), Some("/from/variable"));
        let (rest, options) =
            taken("host = a  sslrootcert='/a b/it\\'s.pem' password='x y' sslcert=/mine sslmode=allow");
        assert_eq!(rest, "host=a password='x y'");
        assert_eq!((options.get("sslmode"), options.get("sslrootcert")), (Some("allow"), Some("/a b/it's.pem")));
        assert_eq!(options.get("sslcert"), Some("/mine"));
    }

    #[test]
    fn what_has_no_form_is_refused() {
        for text in ["hunter2", "host='a", "host=a nonsense"] {
            assert!(Options::take(text, &|_| None).is_err(), "{text}");
        }
    }
}
