//! `format` of strings, and values as texts within it.

use super::convert::string;
use super::room;
use crate::value::{Failure, Map, Meter, Outcome, Value};

/// Places of `%f` and `%e` where none are given.
const PLACES: usize = 6;
/// Most places that may be asked for.
const MOST_PLACES: usize = 1000;

/// Text in quotes, as the language writes it.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Fills the clauses of a format.
pub(super) fn format<'v>(meter: &Meter, format: &str, args: &[Value<'_>]) -> Outcome<Value<'v>> {
    let mut out = String::new();
    let (mut rest, mut next) = (format, 0);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let places = places(&mut rest)?;
        let Some(clause) = rest.chars().next() else {
            return Err(Failure::new("unexpected end of string"));
        };
        rest = &rest[clause.len_utf8()..];
        let Some(arg) = args.get(next) else {
            return Err(Failure::new(format!("index {next} out of range")));
        };
        next += 1;
        let part = self::clause(meter, clause, places, arg)?;
        out.push_str(&part);
        room(meter, out.len())?;
    }
    out.push_str(rest);
    room(meter, out.len())?;
    Ok(Value::text(out))
}

fn places(rest: &mut &str) -> Outcome<Option<usize>> {
    let Some(after) = rest.strip_prefix('.') else { return Ok(None) };
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let places = after[..digits].parse::<usize>().ok().filter(|places| *places <= MOST_PLACES);
    let places = places.ok_or_else(|| Failure::new("error while converting precision to integer"))?;
    *rest = &after[digits..];
    Ok(Some(places))
}

fn clause(meter: &Meter, clause: char, places: Option<usize>, arg: &Value<'_>) -> Outcome<String> {
    let wrong = |wanted: &str| {
        let found = arg.type_name();
        Err(Failure::new(format!("error during formatting: {wanted}, was given {found}")))
    };
    match (clause, arg) {
        ('s', arg) => plain(meter, arg),
        ('d', Value::Int(value)) => Ok(value.to_string()),
        ('d', Value::Uint(value)) => Ok(value.to_string()),
        ('d', _) => wrong("decimal clause can only be used on integers"),
        ('f' | 'e', arg) => {
            let value = match arg {
                Value::Double(value) => *value,
                Value::String(text) if matches!(&**text, "NaN" | "Infinity" | "-Infinity") => {
                    text.parse().unwrap_or(f64::NAN)
                }
                _ if clause == 'f' => return wrong("fixed-point clause can only be used on doubles"),
                _ => return wrong("scientific clause can only be used on doubles"),
            };
            let places = places.unwrap_or(PLACES);
            Ok(if clause == 'f' { fixed(value, places) } else { scientific(value, places) })
        }
        ('b', Value::Int(value)) => Ok(signed(*value, |value| format!("{value:b}"))),
        ('b', Value::Uint(value)) => Ok(format!("{value:b}")),
        ('b', Value::Bool(value)) => Ok(u8::from(*value).to_string()),
        ('b', _) => wrong("only integers and bools can be formatted as binary"),
        ('o', Value::Int(value)) => Ok(signed(*value, |value| format!("{value:o}"))),
        ('o', Value::Uint(value)) => Ok(format!("{value:o}")),
        ('o', _) => wrong("octal clause can only be used on integers"),
        ('x' | 'X', arg) => {
            let hex = match arg {
                Value::Int(value) => signed(*value, |value| format!("{value:x}")),
                Value::Uint(value) => format!("{value:x}"),
                Value::String(text) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
                Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                _ => return wrong("only integers, byte buffers, and strings can be formatted as hex"),
            };
            Ok(if clause == 'X' { hex.to_ascii_uppercase() } else { hex })
        }
        (other, _) => Err(Failure::new(format!("unrecognized formatting clause \"{other}\""))),
    }
}

fn signed(value: i64, show: impl Fn(u64) -> String) -> String {
    let digits = show(value.unsigned_abs());
    if value < 0 { format!("-{digits}") } else { digits }
}

fn special(value: f64) -> Option<&'static str> {
    match value {
        value if value.is_nan() => Some("NaN"),
        value if value.is_infinite() => Some(if value > 0.0 { "∞" } else { "-∞" }),
        _ => None,
    }
}

fn fixed(value: f64, places: usize) -> String {
    if let Some(special) = special(value) {
        return special.to_owned();
    }
    // Thousands are set apart, as American English has it.
    let text = format!("{value:.places$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::with_capacity(digits.len() * 4 / 3 + 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or(format!("{sign}{grouped}"), |fraction| format!("{sign}{grouped}.{fraction}"))
}

fn scientific(value: f64, places: usize) -> String {
    if let Some(special) = special(value) {
        return special.to_owned();
    }
    let text = format!("{value:.places$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, power) = exponent.strip_prefix('-').map_or(("", exponent), |power| ("⁻", power));
    let power: String = format!("{power:0>2}").chars().map(raised).collect();
    format!("{digits}×10{sign}{power}")
}

fn raised(digit: char) -> char {
    let index = digit.to_digit(10).unwrap_or(0) as usize;
    ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'].get(index).copied().unwrap_or('⁰')
}

/// A value as `%s` shows it.
fn plain(meter: &Meter, value: &Value<'_>) -> Outcome<String> {
    match value {
        Value::List(list) => {
            let mut parts = Vec::with_capacity(list.len().min(1024));
            for item in list.values(meter)? {
                parts.push(inner(meter, &item)?);
            }
            Ok(format!("[{}]", parts.join(", ")))
        }
        Value::Map(map) => entries(meter, map),
        Value::Null => Ok("null".to_owned()),
        Value::Optional(_)
        | Value::Quantity(_)
        | Value::Url(_)
        | Value::Format(_)
        | Value::Semver(_)
        | Value::Ip(_)
        | Value::Cidr(_) => {
            let found = value.type_name();
            let why = "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps";
            Err(Failure::new(format!("{why}, was given {found}")))
        }
        other => Ok(string(other)?.shown()),
    }
}

fn entries(meter: &Meter, map: &Map<'_>) -> Outcome<String> {
    let mut parts = Vec::new();
    for key in map.keys() {
        if !matches!(key, Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_)) {
            let found = key.type_name();
            return Err(Failure::new(format!("no formatting function for map key of type {found}")));
        }
        let value = map.get(&key).unwrap_or(Ok(Value::Null))?;
        parts.push((inner(meter, &key)?, inner(meter, &value)?));
    }
    parts.sort();
    let parts: Vec<String> = parts.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Ok(format!("{{{}}}", parts.join(", ")))
}

/// A value within a list or map.
fn inner(meter: &Meter, value: &Value<'_>) -> Outcome<String> {
    meter.spend(1)?;
    let text = plain(meter, value)?;
    room(meter, text.len())?;
    Ok(match value {
        Value::String(_) => format!("{text:?}"),
        Value::Bytes(_) => format!("b{text:?}"),
        Value::Timestamp(_) => format!("timestamp({text:?})"),
        Value::Duration(_) => format!("duration({text:?})"),
        Value::Double(value) if value.is_finite() => format!("{value:.PLACES$}"),
        Value::Double(_) => format!("{text:?}"),
        _ => text,
    })
}
