//! YAML to trees, with limits.
//!
//! Reads events one by one, so that what is nested too deep costs nothing beyond the limit. Plain scalars
//! mean what they mean to Kubernetes' own YAML library, which is YAML 1.1: `yes` and `on` are booleans.

use super::decode::Decoded;
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::collections::HashMap;

/// Deepest nesting, as in JSON.
const MAX_DEPTH: usize = 127;
/// Most bytes that anchors and aliases may add together: a body's most.
const MAX_COPIED: usize = 3 * 1024 * 1024;

const NULLS: &[&str] = &["", "~", "null", "Null", "NULL"];
const TRUES: &[&str] = &["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"];
const FALSES: &[&str] = &["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"];

/// Reads one document.
pub(super) fn load(text: &str) -> Result<Decoded, String> {
    let mut loader = Loader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        copied: 0,
        duplicates: Vec::new(),
        line: 0,
    };
    let mut value = None;
    loop {
        match loader.next()? {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if value.is_some() => return Err("there is more than one document".into()),
            event => value = Some(loader.node(event, 0)?),
        }
    }
    Ok(Decoded { value: value.unwrap_or(Value::Null), duplicates: loader.duplicates })
}

struct Loader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Value>,
    copied: usize,
    duplicates: Vec<String>,
    /// Where the last event begins, from 1.
    line: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(Event::StreamEnd),
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err("recursion limit exceeded".into());
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref())?, anchor),
            Event::SequenceStart(anchor, tag) => {
                known(tag.as_ref())?;
                (self.sequence(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                known(tag.as_ref())?;
                (self.mapping(depth)?, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, depth),
            _ => return Err("unexpected end of YAML input".into()),
        };
        if anchor > 0 {
            self.pay(&value)?;
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn alias(&mut self, anchor: usize, depth: usize) -> Result<Value, String> {
        let value = self.anchors.get(&anchor).cloned().ok_or("an alias refers to what contains it")?;
        self.pay(&value)?;
        if depth + self::depth(&value) > MAX_DEPTH {
            return Err("recursion limit exceeded".into());
        }
        Ok(value)
    }

    /// Counts a copy of a value.
    fn pay(&mut self, value: &Value) -> Result<(), String> {
        self.copied += size(value);
        if self.copied > MAX_COPIED { Err("document contains excessive aliasing".into()) } else { Ok(()) }
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, String> {
        let mut list = Vec::new();
        loop {
            let event = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Array(list));
            }
            list.push(self.node(event, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        let mut map = Map::new();
        let mut merged = Map::new();
        loop {
            let event = self.next()?;
            if matches!(event, Event::MappingEnd) {
                // What is written here wins over what is merged in.
                for (key, value) in merged {
                    map.entry(key).or_insert(value);
                }
                return Ok(Value::Object(map));
            }
            let line = self.line;
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = match self.node(event, depth + 1)? {
                Value::String(text) => text,
                Value::Null => "null".to_owned(),
                Value::Array(_) | Value::Object(_) => return Err("a key must be a scalar".into()),
                other => other.to_string(),
            };
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if merge {
                merge_in(&mut merged, value)?;
                continue;
            }
            if map.contains_key(&key) {
                self.duplicates.push(format!("line {line}: key {key:?} already set in map"));
            }
            map.insert(key, value);
        }
    }
}

/// `<<: *map` or `<<: [*map, *other]`; of several, the first wins.
fn merge_in(merged: &mut Map<String, Value>, value: Value) -> Result<(), String> {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                merged.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(list) if list.iter().all(Value::is_object) => {
            list.into_iter().try_for_each(|value| merge_in(merged, value))
        }
        _ => Err("map merge requires map or sequence of maps as the value".into()),
    }
}

/// Whether a tag is one of YAML's own: all others stand for types that JSON has not.
fn known(tag: Option<&Cow<'_, Tag>>) -> Result<(), String> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => Err(format!("unknown tag {}{}", tag.handle, tag.suffix)),
        _ => Ok(()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => Err(format!("unknown tag {}{}", tag.handle, tag.suffix)),
        Some(tag) if tag.suffix == "str" => Ok(text.into()),
        None if style != ScalarStyle::Plain => Ok(text.into()),
        _ => plain(text),
    }
}

fn plain(text: &str) -> Result<Value, String> {
    if NULLS.contains(&text) {
        return Ok(Value::Null);
    }
    if TRUES.contains(&text) {
        return Ok(true.into());
    }
    if FALSES.contains(&text) {
        return Ok(false.into());
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Ok(text.into());
    }
    let bare = text.replace('_', "");
    if let Some(value) = integer(&bare) {
        return Ok(value);
    }
    let unsigned = bare.strip_prefix(['+', '-']).unwrap_or(&bare);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Err(format!("{text} has no form in JSON"));
    }
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let number = if numeric { bare.parse::<f64>().ok() } else { None };
    match number {
        Some(number) => {
            Number::from_f64(number).map(Value::Number).ok_or_else(|| format!("{text} is out of range"))
        }
        None => Ok(text.into()),
    }
}

/// Decimal, `0x`, `0o`, `0b` and, as in YAML 1.1, octal behind a zero.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let radix = |prefix: &str, radix: u32| digits.strip_prefix(prefix).map(|rest| (rest, radix));
    let (digits, radix) = radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2))
        .or_else(|| radix("0", 8).filter(|(rest, _)| !rest.is_empty()))
        .unwrap_or((digits, 10));
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if !negative {
        return Some(size.into());
    }
    i64::try_from(-i128::from(size)).ok().map(Value::from)
}

/// About how many bytes a copy takes.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => 16 + text.len(),
        Value::Array(list) => 16 + list.iter().map(size).sum::<usize>(),
        Value::Object(map) => 16 + map.iter().map(|(key, value)| 16 + key.len() + size(value)).sum::<usize>(),
        _ => 16,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubernetes() {
        for (text, expected) in [
            ("~", Value::Null),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("12", json!(12)),
            ("-12", json!(-12)),
            ("+7", json!(7)),
            ("0x1F", json!(31)),
            ("0755", json!(493)),
            ("0o17", json!(15)),
            ("0", json!(0)),
            ("089", json!(89.0)),
            ("1_000", json!(1000)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            ("1.2.3", json!("1.2.3")),
            ("1Gi", json!("1Gi")),
            ("-", json!("-")),
            ("2026-01-02", json!("2026-01-02")),
            ("18446744073709551615", json!(18446744073709551615u64)),
            ("yess", json!("yess")),
        ] {
            assert_eq!(plain(text), Ok(expected), "{text}");
        }
        assert!(plain(".inf").is_err() && plain("1e999").is_err());
        let quoted = load("a: 'yes'\nb: \"12\"\nc: |\n  x: [\n  y\nd: !!str 12\ne: !!int 5\n").unwrap().value;
        assert_eq!(quoted, json!({"a": "yes", "b": "12", "c": "x: [\ny\n", "d": "12", "e": 5}));
    }

    #[test]
    fn anchors_and_merges() {
        let text = "base: &b {x: 1, z: 2}\nuse: *b\nall:\n  <<: *b\n  z: 3\nboth:\n  <<: [{w: 1}, *b]\n";
        assert_eq!(
            load(text).unwrap().value,
            json!({"base": {"x": 1, "z": 2}, "use": {"x": 1, "z": 2}, "all": {"x": 1, "z": 3}, "both": {"x": 1, "z": 2, "w": 1}})
        );
        for bad in ["a: *none", "a: &a [*a]", "<<: 1", "{[1]: 2}", "a: 1\n---\nb: 2\n"] {
            assert!(load(bad).is_err(), "{bad}");
        }
        assert_eq!(load("").unwrap().value, Value::Null);
        assert_eq!(load("# nothing\n").unwrap().value, Value::Null);
    }
}
