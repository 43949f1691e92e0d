//! The formats of strings that are checked (`k8s.io/kube-openapi/pkg/validation/strfmt`).

use super::pattern::Pattern;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

type Check = fn(&str) -> bool;

/// One row a format, by its name without dashes.
const FORMATS: &[(&str, Check)] = &[
    ("bsonobjectid", |s| s.len() == 24 && s.bytes().all(|b| b.is_ascii_hexdigit())),
    ("uri", is_uri),
    ("email", is_email),
    ("hostname", is_hostname),
    ("ipv4", |s| is_ipv4(s)),
    ("ipv6", |s| s.parse::<Ipv6Addr>().is_ok()),
    ("cidr", is_cidr),
    ("mac", is_mac),
    ("uuid", |s| PATTERNS.uuid.matches(s)),
    ("uuid3", |s| PATTERNS.uuid3.matches(s)),
    ("uuid4", |s| PATTERNS.uuid4.matches(s)),
    ("uuid5", |s| PATTERNS.uuid5.matches(s)),
    ("isbn", |s| is_isbn10(s) || is_isbn13(s)),
    ("isbn10", is_isbn10),
    ("isbn13", is_isbn13),
    ("creditcard", is_credit_card),
    ("ssn", |s| s.len() == 11 && PATTERNS.ssn.matches(s)),
    ("hexcolor", |s| PATTERNS.hexcolor.matches(s)),
    ("rgbcolor", |s| PATTERNS.rgbcolor.matches(s)),
    ("byte", |s| PATTERNS.base64.matches(s)),
    ("password", |_| true),
    ("date", is_date),
    ("duration", is_duration),
    ("datetime", is_date_time),
    ("k8sshortname", is_short_name),
    ("k8slongname", |s| !s.is_empty() && s.len() <= 253 && s.split('.').all(is_label)),
];

struct Patterns {
    uuid: Pattern,
    uuid3: Pattern,
    uuid4: Pattern,
    uuid5: Pattern,
    ssn: Pattern,
    hexcolor: Pattern,
    rgbcolor: Pattern,
    base64: Pattern,
    credit_card: Pattern,
    word: Pattern,
    letters: Pattern,
    duration: Pattern,
    time: Pattern,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let hex = |third: &str, fourth: &str| {
        Pattern::new(&format!("(?i)^[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{third}-?{fourth}-?[0-9a-f]{{12}}$"))
    };
    let byte = r"(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])";
    Patterns {
        uuid: hex("[0-9a-f]{4}", "[0-9a-f]{4}"),
        uuid3: hex("3[0-9a-f]{3}", "[0-9a-f]{4}"),
        uuid4: hex("4[0-9a-f]{3}", "[89ab][0-9a-f]{3}"),
        uuid5: hex("5[0-9a-f]{3}", "[89ab][0-9a-f]{3}"),
        ssn: Pattern::new(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"),
        hexcolor: Pattern::new("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
        rgbcolor: Pattern::new(&format!(r"^rgb\(\s*{byte}\s*,\s*{byte}\s*,\s*{byte}\s*\)$")),
        base64: Pattern::new(
            r"^(?:[A-Za-z0-9+\/]{4})*(?:[A-Za-z0-9+\/]{2}==|[A-Za-z0-9+\/]{3}=|[A-Za-z0-9+\/]{4})$",
        ),
        credit_card: Pattern::new(
            r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$",
        ),
        word: Pattern::new(r"^[a-zA-Z0-9\p{S}\p{L}]+$"),
        letters: Pattern::new(r"^[a-zA-Z\p{L}]+$"),
        duration: Pattern::new(r"^[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)$"),
        time: Pattern::new(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"),
    }
});

/// The check of a format; none for one that is not known. Dashes in its name do not count.
pub(super) fn check(format: &str) -> Option<Check> {
    let name = format.replace('-', "");
    FORMATS.iter().find(|row| row.0 == name).map(|row| row.1)
}

/// Whether values of a schema of that type are checked by the format.
pub fn is_known(kind: super::Kind, format: &str) -> bool {
    match kind {
        super::Kind::Any | super::Kind::String => check(format).is_some(),
        super::Kind::Integer => matches!(format, "int32" | "int64"),
        super::Kind::Number => matches!(format, "float" | "double"),
        _ => false,
    }
}

fn is_uri(text: &str) -> bool {
    // An absolute URI or an absolute path, without control characters and with whole escapes.
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    let bytes = text.as_bytes();
    let escapes = bytes.iter().enumerate().filter(|(_, b)| **b == b'%').all(|(at, _)| {
        let hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
        hex(at + 1) && hex(at + 2)
    });
    if !escapes {
        return false;
    }
    if text.starts_with('/') || text == "*" {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let good = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let host = rest.strip_prefix("//").map(|r| r.split(['/', '?', '#']).next().unwrap_or_default());
    good && host.is_none_or(|host| !host.contains([' ', '<', '>', '"']))
}

/// `user@host`, alone or as `name <user@host>`.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.strip_suffix('>') {
        Some(inside) => inside.rsplit_once('<').map(|(_, address)| address),
        None => Some(text),
    };
    let Some((user, host)) = address.and_then(|a| a.rsplit_once('@')) else { return false };
    let atom = |text: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(c))
    };
    let quoted = user.len() > 2 && user.starts_with('"') && user.ends_with('"');
    (quoted || user.split('.').all(atom)) && host.split('.').all(atom)
}

/// A name alone, or labels that end in one of letters. Letters and symbols of all scripts count.
fn is_hostname(text: &str) -> bool {
    if text.len() > 255 || text.split('.').any(|label| label.len() > 63) {
        return false;
    }
    let word = |text: &str| PATTERNS.word.matches(text);
    match text.rsplit_once('.') {
        // Upstream takes a dash in the second place alone here.
        None => {
            let mut chars = text.chars();
            let head = chars.next().is_some_and(|c| word(&c.to_string()));
            let rest = chars.as_str();
            let rest = rest.strip_prefix('-').unwrap_or(rest);
            head && (rest.is_empty() || word(rest))
        }
        Some((labels, last)) => {
            let label = |label: &str| {
                !label.starts_with('-') && !label.ends_with('-') && word(&label.replace('-', ""))
            };
            labels.split('.').all(label) && last.chars().count() >= 2 && PATTERNS.letters.matches(last)
        }
    }
}

/// As [`Ipv4Addr`], but zeros may lead.
fn is_ipv4(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let byte = |part: &&str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && part.parse::<u32>().is_ok_and(|n| n < 256)
    };
    if parts.len() == 4 && parts.iter().all(byte) {
        return true;
    }
    // An IPv6 address may end in an IPv4 one, and counts for upstream.
    text.contains('.') && text.parse::<Ipv6Addr>().is_ok()
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let bits = if bits.bytes().all(|b| b.is_ascii_digit()) { bits.parse::<u32>().ok() } else { None };
    match bits {
        Some(bits) if address.contains(':') => bits <= 128 && address.parse::<Ipv6Addr>().is_ok(),
        Some(bits) => bits <= 32 && (is_ipv4(address) || address.parse::<Ipv4Addr>().is_ok()),
        None => false,
    }
}

/// Six, eight or twenty bytes, with colons or dashes between bytes, or with points between pairs of them.
fn is_mac(text: &str) -> bool {
    let hex = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    let whole = |separator: char, digits: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| hex(part, digits))
    };
    whole(':', 2, [6, 8, 20]) || whole('-', 2, [6, 8, 20]) || whole('.', 4, [3, 4, 10])
}

fn digits_of_isbn(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_whitespace() && *c != '-').collect()
}

fn is_isbn10(text: &str) -> bool {
    let text = digits_of_isbn(text);
    let (Some(head), Some(last)) = (text.get(..9), text.get(9..)) else { return false };
    let last = match last {
        "X" => 10,
        last if last.len() == 1 => match last.parse::<u32>() {
            Ok(digit) => digit,
            Err(_) => return false,
        },
        _ => return false,
    };
    let Some(digits) = head.chars().map(|c| c.to_digit(10)).collect::<Option<Vec<_>>>() else { return false };
    let sum: u32 = digits.iter().zip(1..).map(|(digit, at)| digit * at).sum();
    (sum + 10 * last).is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let text = digits_of_isbn(text);
    let digits = text.chars().map(|c| c.to_digit(10)).collect::<Option<Vec<_>>>().unwrap_or_default();
    let [head @ .., last] = digits.as_slice() else { return false };
    let sum: u32 = head.iter().zip([1, 3].iter().cycle()).map(|(digit, factor)| digit * factor).sum();
    head.len() == 12 && *last == (10 - sum % 10) % 10
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if !PATTERNS.credit_card.matches(&digits) {
        return false;
    }
    let sum: u32 = digits
        .chars()
        .rev()
        .filter_map(|c| c.to_digit(10))
        .enumerate()
        .map(|(at, digit)| match at % 2 {
            0 => digit,
            _ if digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn is_date(text: &str) -> bool {
    let shaped = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() });
    shaped && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    if !is_date(date) || !PATTERNS.time.matches(time) {
        return false;
    }
    let part = |from: usize| time.get(from..from + 2).unwrap_or_default();
    part(0) <= "23" && part(3) <= "59" && part(6) <= "59"
}

/// A duration of Go, or numbers with the names of units.
fn is_duration(text: &str) -> bool {
    if PATTERNS.duration.matches(text) {
        return true;
    }
    // Units by their short names, and by the beginnings of their long ones.
    const EXACT: &[&str] = &["ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk"];
    const BEGIN: &[&str] = &["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let behind = rest[at..].trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let end = behind.find(|c: char| !c.is_ascii_alphabetic() && c != 'µ').unwrap_or(behind.len());
        let unit = behind[..end].to_lowercase();
        if EXACT.contains(&unit.as_str()) || BEGIN.iter().any(|b| unit.starts_with(b)) {
            return true;
        }
        rest = &behind[end..];
    }
    false
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    matches!((bytes.first(), bytes.last()), (Some(a), Some(b)) if alnum(a) && alnum(b))
        && bytes.iter().all(|b| alnum(b) || *b == b'-')
}

fn is_short_name(text: &str) -> bool {
    text.len() <= 63 && is_label(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_know_their_own() {
        // Good and bad ones, most of them upstream's own.
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f1f77bcf86cd79943901", ""]),
            (
                "uri",
                &["http://foo.bar#com", "https://foobar.com/p?x=1", "/a/b", "irc://x", "rtmp://foobar.com"],
                &["a", "xyz://%zz", "", "foo bar"],
            ),
            ("email", &["mail@gmail.com", "Ann <ann@example.com>"], &["somewhere", "@x", "a b@c", ""]),
            (
                "hostname",
                &["somewhere.com", "www.example.de", "foo", "a-b.com"],
                &["a..b.com", "-a.com", "x_y.com", ""],
            ),
            (
                "ipv4",
                &["192.168.254.1", "0.0.0.0", "192.168.000.001"],
                &["2001:db8::1", "1.2.3", "1.2.3.256", ""],
            ),
            ("ipv6", &["::1", "2001:db8::1"], &["127.0.0.1", "x", ""]),
            (
                "cidr",
                &["192.168.254.1/24", "2001:db8::/32", "010.0.0.0/8"],
                &["192.168.254.2", "1.2.3.4/33", "/8"],
            ),
            (
                "mac",
                &["01:02:03:04:05:06", "01-02-03-04-05-06", "0102.0304.0506"],
                &["01:02:03:04:05", "0102", ""],
            ),
            (
                "uuid",
                &["a8098c1a-f86e-11da-bd1a-00112444be1e", "A8098C1AF86E11DABD1A00112444BE1E"],
                &["not-a-uuid", ""],
            ),
            ("uuid3", &["bcd02e22-68f0-3046-a512-327cca9def8f"], &["bcd02e22-68f0-4046-a512-327cca9def8f"]),
            ("uuid4", &["025b0d74-00a2-4048-bf57-227c5111bb34"], &["025b0d74-00a2-4048-7f57-227c5111bb34"]),
            ("uuid5", &["886313e1-3b8a-5372-9b90-0c9aee199e5d"], &["886313e1-3b8a-4372-9b90-0c9aee199e5d"]),
            ("isbn", &["0321751043", "978-0321751041"], &["836217463", ""]),
            ("isbn10", &["0321751043", "080442957X"], &["0321751042", "978-0321751041"]),
            ("isbn13", &["978 0321751041"], &["978-0321751042", "0321751043"]),
            ("creditcard", &["4111-1111-1111-1111"], &["9999-9999-9999-999", "4111-1111-1111-1112"]),
            ("ssn", &["111-11-1111"], &["999 99 999", "111111111"]),
            ("hexcolor", &["#FFFFFF", "fff"], &["#fffffffz", "#ff"]),
            ("rgbcolor", &["rgb(255,255,255)", "rgb( 0, 1, 2 )"], &["rgb(300,0,0)", "rgb(1,2)"]),
            ("byte", &["YWJj", "YWI="], &["YWJ", "a b", ""]),
            ("password", &["", "anything"], &[]),
            ("date", &["2014-12-15", "2024-02-29"], &["2014-12-15T19:30:20Z", "2023-02-29", "2014-1-1"]),
            (
                "duration",
                &["1h30m", "300ms", "22 ns", "3 days", "1 hour", "-1.5h", "0"],
                &["ZYX", "", "5", "1 x"],
            ),
            (
                "date-time",
                &["2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20+01:00"],
                &["2014-12-15", "2014-12-15T24:00:00Z", "2014-12-15T19:30:20"],
            ),
            ("k8s-short-name", &["a-b", "0"], &["a.b", "A", "-a", "a_b"]),
            ("k8s-long-name", &["a-b.c", "x"], &["a..b", "A.b", ""]),
        ];
        assert_eq!(rows.len(), FORMATS.len());
        for (format, good, bad) in rows {
            let check = check(format).unwrap();
            for text in *good {
                assert!(check(text), "{format}: {text}");
            }
            for text in *bad {
                assert!(!check(text), "{format}: {text}");
            }
        }
        assert!(super::check("whatever").is_none());
    }
}
