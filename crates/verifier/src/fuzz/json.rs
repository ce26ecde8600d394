//! A parser of JSON objects, written from RFC 8259.

/// Returns the names and the raw values of an object's members.
pub(super) fn members(text: &str) -> Option<Vec<(String, &str)>> {
    let mut scanner = Scanner { text, at: 0 };
    let mut members = Vec::new();
    scanner.space();
    scanner.expect(b'{')?;
    scanner.space();
    if !scanner.eat(b'}') {
        loop {
            let name = scanner.name()?;
            members.push((string(name)?, scanner.value()?));
            scanner.space();
            if !scanner.eat(b',') {
                break;
            }
            scanner.space();
        }
        scanner.expect(b'}')?;
    }
    scanner.space();
    (scanner.at == text.len()).then_some(members)
}

/// Returns the text of a raw string. `None` for another value, and if its escapes are no valid UTF-16.
pub(super) fn string(raw: &str) -> Option<String> {
    let mut characters = raw.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut units = Vec::new();
    while let Some(character) = characters.next() {
        let unescaped = match character {
            '\\' => match characters.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let digits: String = characters.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).ok()?);
                    continue;
                }
                literal => literal,
            },
            literal => literal,
        };
        units.extend_from_slice(unescaped.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).ok()
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.eat(byte).then_some(())
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| b" \t\n\r".contains(&byte)) {
            self.at += 1;
        }
    }

    /// Skips a name and its colon. Returns the raw name.
    fn name(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.skip_string()?;
        let name = &self.text[start..self.at];
        self.space();
        self.expect(b':')?;
        self.space();
        Some(name)
    }

    /// Skips a value and returns it. Does not recurse, because a value may be nested in thousands of others.
    fn value(&mut self) -> Option<&'a str> {
        let start = self.at;
        let mut open = Vec::new();
        loop {
            match self.peek()? {
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    self.space();
                    let close = if bracket == b'{' { b'}' } else { b']' };
                    if !self.eat(close) {
                        open.push(close);
                        if close == b'}' {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b'"' => self.skip_string()?,
                b'-' | b'0'..=b'9' => self.skip_number()?,
                _ => self.skip_literal()?,
            }
            // The value is complete. It may have been the last one in others.
            loop {
                let Some(close) = open.last().copied() else { return Some(&self.text[start..self.at]) };
                self.space();
                if self.eat(b',') {
                    self.space();
                    if close == b'}' {
                        self.name()?;
                    }
                    break;
                }
                self.expect(close)?;
                open.pop();
            }
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                0..=0x1f => return None,
                b'\\' => {
                    let escape = self.peek()?;
                    self.at += 1;
                    match escape {
                        b'u' => (0..4).try_for_each(|_| self.skip_one(u8::is_ascii_hexdigit))?,
                        _ if b"\"\\/bfnrt".contains(&escape) => {}
                        _ => return None,
                    }
                }
                _ => {}
            }
        }
    }

    fn skip_number(&mut self) -> Option<()> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.skip_digits()?;
        }
        if self.eat(b'.') {
            self.skip_digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'+') || self.eat(b'-');
            self.skip_digits()?;
        }
        Some(())
    }

    fn skip_digits(&mut self) -> Option<()> {
        self.skip_one(u8::is_ascii_digit)?;
        while self.skip_one(u8::is_ascii_digit).is_some() {}
        Some(())
    }

    fn skip_one(&mut self, fits: impl Fn(&u8) -> bool) -> Option<()> {
        let _ = self.peek().filter(fits)?;
        self.at += 1;
        Some(())
    }

    fn skip_literal(&mut self) -> Option<()> {
        let literal = ["true", "false", "null"].into_iter().find(|word| self.text[self.at..].starts_with(word))?;
        self.at += literal.len();
        Some(())
    }
}
