//! A pull reader of JSON that was written by a serializer: it finds the parts, and takes their form for granted.

use std::borrow::Cow;

/// A place in a text of JSON. All methods answer `None` where the text is not what was asked for.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Cursor { text, at: 0 }
    }

    /// The next byte that is no space; 0 at the end.
    pub(super) fn peek(&mut self) -> u8 {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return *byte,
                None => return 0,
            }
        }
    }

    /// Steps over a byte, if it is the next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    /// Steps over a null, if it is the next value.
    pub(super) fn null(&mut self) -> bool {
        let found = self.peek() == b'n';
        if found {
            self.at += 4;
        }
        found
    }

    /// The bytes of a string.
    pub(super) fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        let quoted = self.quoted()?;
        let inner = quoted.get(1..quoted.len() - 1)?;
        if !inner.contains(&b'\\') {
            return Some(Cow::Borrowed(inner));
        }
        let text: String = serde_json::from_slice(quoted).ok()?;
        Some(Cow::Owned(text.into_bytes()))
    }

    /// A string with its quotes, as it stands.
    fn quoted(&mut self) -> Option<&'a [u8]> {
        if self.peek() != b'"' {
            return None;
        }
        let begin = self.at;
        let mut at = begin + 1;
        loop {
            let rest = self.text.get(at..)?;
            at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            if self.text.get(at) == Some(&b'"') {
                break;
            }
            at += 2;
        }
        self.at = at + 1;
        self.text.get(begin..self.at)
    }

    /// A number or a word, as it stands.
    pub(super) fn literal(&mut self) -> Option<&'a str> {
        self.peek();
        let rest = self.text.get(self.at..)?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let length = rest.iter().position(|byte| !plain(byte)).unwrap_or(rest.len());
        self.at += length;
        std::str::from_utf8(rest.get(..length)?).ok().filter(|text| !text.is_empty())
    }

    /// The whole next value, as it stands.
    pub(super) fn raw(&mut self) -> Option<&'a [u8]> {
        let first = self.peek();
        let begin = self.at;
        let mut depth = 0_usize;
        match first {
            b'"' => return self.quoted(),
            b'{' | b'[' => {}
            _ => return self.literal().map(str::as_bytes),
        }
        loop {
            match self.text.get(self.at)? {
                b'"' => {
                    self.quoted()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return self.text.get(begin..self.at);
            }
        }
    }

    /// The next key of an object whose `{` has been taken; `Some(None)` behind its end. `first` is true at its beginning.
    pub(super) fn key(&mut self, first: &mut bool) -> Option<Option<Cow<'a, [u8]>>> {
        if !self.more(first, b'}')? {
            return Some(None);
        }
        let key = self.string()?;
        self.take(b':').then_some(Some(key))
    }

    /// Whether an array whose `[` has been taken has another element; behind its end where not.
    pub(super) fn element(&mut self, first: &mut bool) -> Option<bool> {
        self.more(first, b']')
    }

    fn more(&mut self, first: &mut bool, end: u8) -> Option<bool> {
        if self.take(end) {
            return Some(false);
        }
        if !std::mem::take(first) && !self.take(b',') {
            return None;
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        let text = br#"{"a": [1,-2.5e3,"x\"y","}"],"b":{"c":[{}],"d":"]"},"e":null,"f":true}"#;
        let mut cursor = Cursor::new(text);
        assert!(cursor.take(b'{'));
        let mut first = true;
        let mut next = |cursor: &mut Cursor<'static>| {
            cursor.key(&mut first).unwrap().map(|key| String::from_utf8(key.into_owned()).unwrap())
        };
        assert_eq!(next(&mut cursor).unwrap(), "a");
        assert!(cursor.take(b'['));
        let mut begun = true;
        assert_eq!(cursor.element(&mut begun), Some(true));
        assert_eq!(cursor.literal(), Some("1"));
        assert_eq!(cursor.element(&mut begun), Some(true));
        assert_eq!(cursor.literal(), Some("-2.5e3"));
        assert_eq!(cursor.element(&mut begun), Some(true));
        assert_eq!(cursor.string().unwrap().as_ref(), b"x\"y");
        assert_eq!(cursor.element(&mut begun), Some(true));
        assert_eq!(cursor.raw().unwrap(), b"\"}\"");
        assert_eq!(cursor.element(&mut begun), Some(false));
        assert_eq!(next(&mut cursor).unwrap(), "b");
        assert_eq!(cursor.raw().unwrap(), br#"{"c":[{}],"d":"]"}"#);
        assert_eq!(next(&mut cursor).unwrap(), "e");
        assert!(cursor.null());
        assert_eq!(next(&mut cursor).unwrap(), "f");
        assert_eq!(cursor.raw().unwrap(), b"true");
        assert_eq!(next(&mut cursor), None);
    }

    #[test]
    fn what_ends_early_is_no_value() {
        for text in ["", "{", "[1", "\"a", "\"a\\", "{\"a\"", "{\"a\":[1"] {
            assert_eq!(Cursor::new(text.as_bytes()).raw(), None, "{text}");
        }
        assert_eq!(Cursor::new(b"1").string(), None);
        assert_eq!(Cursor::new(b"]").literal(), None);
    }
}
