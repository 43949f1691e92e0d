//! Which texts would be read as something else than a text if they were not quoted, by the rules of YAML 1.1.

const WORDS: &[&str] = &[
    "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "n", "N", "no", "No", "NO",
    "false", "False", "FALSE", "off", "Off", "OFF", "", "~", "null", "Null", "NULL", ".nan", ".NaN", ".NAN",
    ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF",
];

/// Whether a plain scalar of these characters would be no text.
pub(super) fn is_special(text: &str) -> bool {
    if WORDS.contains(&text) {
        return true;
    }
    match text.as_bytes().first() {
        Some(b'.') => is_float(&without_separators(text)),
        Some(b'+' | b'-' | b'0'..=b'9') => {
            let plain = text.replace('_', "");
            is_timestamp(text) || is_integer(&plain) || is_float(&plain) || is_base_60(text)
        }
        _ => false,
    }
}

/// A number without the underscores between two digits.
fn without_separators(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let separates = |at: usize| digit(at.checked_sub(1)) && digit(at.checked_add(1));
    text.char_indices().filter(|(at, c)| !(*c == '_' && separates(*at))).map(|(_, c)| c).collect()
}

/// An integer in Go's notation that fits into 64 bits.
fn is_integer(text: &str) -> bool {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', b'o' | b'O', ..] => (&digits[2..], 8),
        [b'0', b'b' | b'B', ..] => (&digits[2..], 2),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return false;
    }
    let most = match (negative, text.starts_with('+')) {
        (true, _) => 1 << 63,
        // Only what has no sign may be unsigned.
        (false, true) => i64::MAX.cast_unsigned(),
        (false, false) => u64::MAX,
    };
    u64::from_str_radix(digits, radix).is_ok_and(|value| value <= most)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?` within the range of a double.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let form = !unsigned.is_empty()
        && unsigned.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+'));
    form && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`: minutes and seconds, say.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let numeric = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let mut sixtieths = parts.peekable();
    first.starts_with(|c: char| c.is_ascii_digit())
        && numeric(first)
        && sixtieths.peek().is_some()
        && sixtieths.all(|part| matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']))
        && numeric(fraction)
}

/// A date, or a date and a time: `2006-1-2T15:4:5.9Z07:00` (or with `t`), `2006-1-2 15:4:5.9`, `2006-1-2`.
fn is_timestamp(text: &str) -> bool {
    let mut scan = Scan(text.as_bytes());
    scan.timestamp().is_some() && scan.0.is_empty()
}

/// What is left to be read.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    fn timestamp(&mut self) -> Option<()> {
        let year = self.digits(4, 4)?;
        self.one(b"-")?;
        let month = self.digits(1, 2)?;
        self.one(b"-")?;
        let day = self.digits(1, 2)?;
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            1..=12 => 31,
            _ => return None,
        };
        if !(1..=days).contains(&day) {
            return None;
        }
        if self.0.is_empty() {
            return Some(());
        }
        let zoned = self.one(b"Tt ")? != b' ';
        while !zoned && self.one(b" ").is_some() {}
        for most in [23, 59, 59] {
            if most == 59 {
                self.one(b":")?;
            }
            self.digits(1, 2).filter(|number| *number <= most)?;
        }
        if let [b'.' | b',', b'0'..=b'9', ..] = self.0 {
            self.0 = &self.0[1..];
            while self.digits(1, 1).is_some() {}
        }
        if zoned && self.one(b"Z").is_none() {
            self.one(b"+-")?;
            self.digits(2, 2).filter(|hours| *hours <= 24)?;
            self.one(b":")?;
            self.digits(2, 2).filter(|minutes| *minutes <= 60)?;
        }
        Some(())
    }

    fn one(&mut self, any: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        any.contains(first).then(|| self.0 = rest)?;
        Some(*first)
    }

    fn digits(&mut self, least: usize, most: usize) -> Option<u32> {
        let count = self.0.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(count).filter(|_| count >= least)?;
        self.0 = rest;
        Some(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
    }
}
