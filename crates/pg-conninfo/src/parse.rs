//! libpq's two forms of a connection string: URI and keyword=value.

use crate::error::ConninfoError;

/// Keywords and values in the order of the text. A later value replaces an earlier one.
pub(crate) type Pairs = Vec<(String, String)>;

/// Parses a connection string.
pub(crate) fn parse(text: &str) -> Result<Pairs, ConninfoError> {
    let uri = ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match uri {
        Some(rest) => parse_uri(rest),
        // Parsed as keywords, it would put the password into an error.
        None if text.split(['=', ' ']).next().is_some_and(|word| word.contains("://")) => {
            Err(syntax("the scheme is neither postgres:// nor postgresql://"))
        }
        None => parse_words(text),
    }
}

/// Parses a URI without its scheme: `user:password@host:port,host:port/dbname?keyword=value`.
fn parse_uri(text: &str) -> Result<Pairs, ConninfoError> {
    let mut pairs = Pairs::new();
    let mut rest = text;
    let authority = text.split('/').next().unwrap_or_default();
    if let Some((credentials, _)) = authority.split_once('@') {
        rest = &text[credentials.len() + 1..];
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        push(&mut pairs, "user", user)?;
        push(&mut pairs, "password", password)?;
    }
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    loop {
        let (host, after) = split_host(rest)?;
        hosts.push(host);
        rest = after;
        let mut port = "";
        if let Some(after) = rest.strip_prefix(':') {
            (port, rest) = split_before(after, &['/', '?', ',']);
        }
        ports.push(port);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => break,
        }
    }
    push(&mut pairs, "host", &hosts.join(","))?;
    push(&mut pairs, "port", &ports.join(","))?;
    if let Some(after) = rest.strip_prefix('/') {
        let (database, after) = split_before(after, &['?']);
        push(&mut pairs, "dbname", database)?;
        rest = after;
    }
    match rest.strip_prefix('?') {
        Some(parameters) if !parameters.is_empty() => parse_parameters(parameters, &mut pairs)?,
        _ => {}
    }
    Ok(pairs)
}

/// Splits off a host name, an IPv4 address or a bracketed IPv6 address.
fn split_host(text: &str) -> Result<(&str, &str), ConninfoError> {
    let Some(after) = text.strip_prefix('[') else { return Ok(split_before(text, &[':', '/', '?', ','])) };
    let (address, rest) = after.split_once(']').ok_or_else(|| syntax("an IPv6 address has no closing \"]\""))?;
    if address.is_empty() {
        return Err(syntax("empty IPv6 address"));
    }
    if rest.is_empty() || rest.starts_with([':', '/', '?', ',']) {
        Ok((address, rest))
    } else {
        Err(syntax("unexpected text after an IPv6 address"))
    }
}

fn split_before<'a>(text: &'a str, ends: &[char]) -> (&'a str, &'a str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

fn parse_parameters(text: &str, pairs: &mut Pairs) -> Result<(), ConninfoError> {
    for parameter in text.split('&') {
        let (name, value) = parameter.split_once('=').ok_or_else(|| syntax("a parameter has no \"=\""))?;
        if value.contains('=') {
            return Err(syntax("a parameter has more than one \"=\"; write %3D for one in a value"));
        }
        match (decode(name)?, decode(value)?) {
            // JDBC's spelling, which libpq accepts too.
            (name, value) if name == "ssl" && value == "true" => pairs.push(("sslmode".into(), "require".into())),
            pair => pairs.push(pair),
        }
    }
    Ok(())
}

/// Adds a part of a URI unless it is empty or consists only of separators.
fn push(pairs: &mut Pairs, name: &str, value: &str) -> Result<(), ConninfoError> {
    if !value.chars().all(|letter| letter == ',') {
        pairs.push((name.to_owned(), decode(value)?));
    }
    Ok(())
}

/// Decodes `%XX` sequences.
fn decode(text: &str) -> Result<String, ConninfoError> {
    let invalid = || syntax("a percent sign is not followed by two hexadecimal digits; write %25 for the sign itself");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)).ok_or_else(invalid)?;
        let digits = str::from_utf8(digits).map_err(|_| invalid())?;
        let byte = u8::from_str_radix(digits, 16).map_err(|_| invalid())?;
        if byte == 0 {
            return Err(syntax("%00 is not allowed"));
        }
        bytes.push(byte);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| syntax("a decoded part is not UTF-8"))
}

/// Parses space-separated `keyword = value` pairs.
///
/// Single quotes enclose a value with spaces. A backslash makes the next character literal.
fn parse_words(text: &str) -> Result<Pairs, ConninfoError> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let missing = || syntax("a word is not of the form keyword=value");
        let end = rest.find(|letter: char| letter == '=' || letter.is_whitespace()).ok_or_else(missing)?;
        let after = rest[end..].trim_start().strip_prefix('=').ok_or_else(missing)?.trim_start();
        let (value, length) = split_value(after)?;
        pairs.push((rest[..end].to_owned(), value));
        rest = after[length..].trim_start();
    }
    Ok(pairs)
}

/// Returns the value at the start of a text, and its length in the text in bytes.
fn split_value(text: &str) -> Result<(String, usize), ConninfoError> {
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
    if quoted { Err(syntax("a quote is not closed")) } else { Ok((value, text.len())) }
}

fn syntax(what: &str) -> ConninfoError {
    ConninfoError::Syntax(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let pairs = parse(text).unwrap();
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    /// Includes libpq's own examples (`src/interfaces/libpq/t/001_uri.pl`).
    #[test]
    fn uris() {
        for (uri, expected) in [
            (
                "postgresql://uri-user:secret@host:12345/db",
                "user=uri-user password=secret host=host port=12345 dbname=db",
            ),
            ("postgres://me@a:1,b:2/d?sslmode=require", "user=me host=a,b port=1,2 dbname=d sslmode=require"),
            ("postgres://a,b:2/d", "host=a,b port=,2 dbname=d"),
            ("postgres://%68ost/", "host=host"),
            ("postgres://me:p%40%2F@h", "user=me password=p@/ host=h"),
            ("postgres://me:p?x@h/d", "user=me password=p?x host=h dbname=d"),
            ("postgres://[::1]:5433/d", "host=::1 port=5433 dbname=d"),
            ("postgres:///d?host=/tmp&port=5433", "dbname=d host=/tmp port=5433"),
            ("postgres://?hostaddr=::1", "hostaddr=::1"),
            ("postgres://", ""),
            ("postgres://h/?ssl=true", "host=h sslmode=require"),
            ("postgres://h/d?sslrootcert=%2Fa%20b%2Fc.pem", "host=h dbname=d sslrootcert=/a b/c.pem"),
        ] {
            assert_eq!(shown(uri), expected, "{uri}");
        }
    }

    #[test]
    fn words() {
        assert_eq!(
            shown("host = a  password='x y' passfile='/it\\'s' dbname=d\\ b"),
            "host=a password=x y passfile=/it's dbname=d b"
        );
        assert_eq!(shown("options='' user=me"), "options= user=me");
        assert_eq!(shown(""), "");
    }

    #[test]
    fn invalid_text_is_refused_without_its_secrets() {
        for text in [
            "hunter2",
            "host='a",
            "host=a hunter2",
            "mysql://me:hunter2@localhost/db?a=b",
            "postgres://me:hunter2%@localhost/db",
            "postgres://me:hunter2%zz@localhost/db",
            "postgres://me:hunter2%00@localhost/db",
            "postgres://me:hunter2@[::1/db",
            "postgres://me:hunter2@[::1]x/db",
            "postgres://me:hunter2@h/db?sslmode",
            "postgres://me:hunter2@h/db?options=a=b",
        ] {
            let refused = parse(text).unwrap_err().to_string();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
