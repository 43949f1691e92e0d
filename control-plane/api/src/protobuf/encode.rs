//! Trees to messages.

use super::decode::ZERO_TIME;
use super::table::{Card, Field, Kind, Presence, Table};
use super::wire::{put_bytes, put_fixed64, put_int};
use super::{MAGIC, MAX_DEPTH, ProtobufError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

type Result<T> = std::result::Result<T, ProtobufError>;

/// Puts the four bytes and `runtime.Unknown` around a message.
pub(super) fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut meta = Vec::with_capacity(api_version.len() + kind.len() + 4);
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(MAGIC.len() + meta.len() + raw.len() + 16);
    out.extend_from_slice(&MAGIC);
    put_bytes(&mut out, 1, &meta);
    put_bytes(&mut out, 2, raw);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// The bytes of a message; `name` is the field it stands in.
pub(super) fn message(
    table: &Table,
    message: u16,
    value: &Value,
    name: &'static str,
    depth: usize,
) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    match value {
        Value::Object(map) => fields(table, message, map, &mut out, depth)?,
        Value::Null => fields(table, message, &Map::new(), &mut out, depth)?,
        _ => return Err(ProtobufError::Value { field: name, why: "an object is wanted".into() }),
    }
    Ok(out)
}

fn fields(
    table: &Table,
    message: u16,
    map: &Map<String, Value>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<()> {
    if depth >= MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    for field in table.fields(message) {
        if let (Presence::Inline, Kind::Message(inner)) = (field.presence, field.kind) {
            let mut nested = Vec::new();
            fields(table, inner, map, &mut nested, depth + 1)?;
            put_bytes(out, field.number, &nested);
            continue;
        }
        let wrong = |why: &str| ProtobufError::Value { field: field.name, why: why.to_owned() };
        match (field.card, map.get(field.name).unwrap_or(&Value::Null)) {
            (Card::One, Value::Null) => absent(table, field, out, depth)?,
            (Card::One, value) => put(table, field, field.number, value, out, depth)?,
            (_, Value::Null) => {}
            (Card::List, Value::Array(list)) => {
                for value in list {
                    put(table, field, field.number, value, out, depth)?;
                }
            }
            (Card::Map, Value::Object(entries)) => {
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_by_key(|(key, _)| *key);
                for (key, value) in sorted {
                    let mut entry = Vec::new();
                    put_bytes(&mut entry, 1, key.as_bytes());
                    put(table, field, 2, value, &mut entry, depth)?;
                    put_bytes(out, field.number, &entry);
                }
            }
            (Card::List, _) => return Err(wrong("a list is wanted")),
            (Card::Map, _) => return Err(wrong("a map is wanted")),
        }
    }
    Ok(())
}

/// What Go writes of a single field that is not there: nothing of pointers and slices, zero of values.
fn absent(table: &Table, field: &Field, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    if field.presence == Presence::Pointer {
        return Ok(());
    }
    match field.kind {
        Kind::Bytes | Kind::Strings => Ok(()),
        _ => put(table, field, field.number, &Value::Null, out, depth),
    }
}

/// Writes one value under `number`; null is the zero value.
fn put(
    table: &Table,
    field: &Field,
    number: u32,
    value: &Value,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<()> {
    let wrong = |why: &str| ProtobufError::Value { field: field.name, why: why.to_owned() };
    let string = || match value {
        Value::Null => Ok(""),
        value => value.as_str().ok_or_else(|| wrong("a string is wanted")),
    };
    match field.kind {
        Kind::String => put_bytes(out, number, string()?.as_bytes()),
        Kind::Bytes => {
            let bytes = STANDARD.decode(string()?).map_err(|_| wrong("not base64"))?;
            put_bytes(out, number, &bytes);
        }
        Kind::Bool => {
            let bool = value.as_bool().or(value.is_null().then_some(false));
            put_int(out, number, bool.ok_or_else(|| wrong("a boolean is wanted"))?.into());
        }
        Kind::Int => {
            let int = value.as_i64().or(value.is_null().then_some(0));
            put_int(out, number, int.ok_or_else(|| wrong("an integer is wanted"))?.cast_unsigned());
        }
        Kind::Double => {
            let double = value.as_f64().or(value.is_null().then_some(0.0));
            put_fixed64(out, number, double.ok_or_else(|| wrong("a number is wanted"))?.to_bits());
        }
        kind => {
            let mut nested = Vec::new();
            match kind {
                Kind::Quantity => {
                    let amount = match value {
                        Value::Number(number) => number.to_string(),
                        _ => string()?.to_owned(),
                    };
                    let amount = if amount.is_empty() { "0" } else { &amount };
                    put_bytes(&mut nested, 1, amount.as_bytes());
                }
                Kind::IntOrString => {
                    let (kind, number, text) = match value {
                        Value::String(text) => (1, 0, text.as_str()),
                        Value::Null => (0, 0, ""),
                        value => {
                            let number = value.as_i64().and_then(|n| i32::try_from(n).ok());
                            (0, number.ok_or_else(|| wrong("an int32 or a string is wanted"))?, "")
                        }
                    };
                    put_int(&mut nested, 1, kind);
                    put_int(&mut nested, 2, i64::from(number).cast_unsigned());
                    put_bytes(&mut nested, 3, text.as_bytes());
                }
                Kind::Time | Kind::MicroTime if value.is_null() => {}
                Kind::Time | Kind::MicroTime => {
                    let instant: jiff::Timestamp = string()?.parse().map_err(|_| wrong("not a time"))?;
                    // Go counts seconds downwards from a fraction before 1970, jiff towards zero.
                    let seconds = instant.as_nanosecond().div_euclid(1_000_000_000) as i64;
                    let nanos = instant.as_nanosecond().rem_euclid(1_000_000_000) as i32;
                    let micros = if kind == Kind::MicroTime { nanos / 1000 * 1000 } else { 0 };
                    if (seconds, nanos) != (ZERO_TIME, 0) {
                        put_int(&mut nested, 1, seconds.cast_unsigned());
                        put_int(&mut nested, 2, i64::from(micros).cast_unsigned());
                    }
                }
                Kind::Raw if value.is_null() => {}
                Kind::Raw => {
                    let raw = serde_json::to_vec(value).map_err(|error| wrong(&error.to_string()))?;
                    put_bytes(&mut nested, 1, &raw);
                }
                Kind::Strings => strings(field, 1, value, &mut nested)?,
                Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => {
                    union(table, field, value, &mut nested, depth)?;
                }
                Kind::Message(inner) => nested = message(table, inner, value, field.name, depth + 1)?,
                Kind::String | Kind::Bytes | Kind::Bool | Kind::Int | Kind::Double => {}
            }
            put_bytes(out, number, &nested);
        }
    }
    Ok(())
}

fn strings(field: &Field, number: u32, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    let wrong = || ProtobufError::Value { field: field.name, why: "a list of strings is wanted".into() };
    match value {
        Value::Null => Ok(()),
        Value::Array(list) => list.iter().try_for_each(|item| {
            put_bytes(out, number, item.as_str().ok_or_else(wrong)?.as_bytes());
            Ok(())
        }),
        _ => Err(wrong()),
    }
}

fn union(table: &Table, field: &Field, value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    let Some(schema) = table.json_schema else { return Ok(()) };
    let nested = |value| message(table, schema, value, field.name, depth + 1);
    match (field.kind, value) {
        (Kind::SchemaOrBool, Value::Bool(allows)) => put_int(out, 1, (*allows).into()),
        (Kind::SchemaOrBool, Value::Object(_)) => {
            put_int(out, 1, 1);
            put_bytes(out, 2, &nested(value)?);
        }
        (Kind::SchemaOrBool, Value::Null) => put_int(out, 1, 0),
        (Kind::SchemaOrArray | Kind::SchemaOrStrings, Value::Object(_)) => {
            put_bytes(out, 1, &nested(value)?);
        }
        (Kind::SchemaOrArray, Value::Array(list)) => {
            for value in list {
                put_bytes(out, 2, &nested(value)?);
            }
        }
        (Kind::SchemaOrStrings, Value::Array(_)) => strings(field, 2, value, out)?,
        (_, Value::Null) => {}
        _ => {
            let why = "a schema or what may stand in its place is wanted".to_owned();
            return Err(ProtobufError::Value { field: field.name, why });
        }
    }
    Ok(())
}
