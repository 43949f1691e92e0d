//! Conversions, sizes and optionals.

use std::sync::Arc;

use super::arith::text;
use super::{Native, room};
use crate::value::{Entries, Failure, List, Map, Outcome, Value, time};

pub(super) fn find(function: &str) -> Option<Native> {
    Some(match function {
        "size" => |_, args| match args {
            [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
                Ok(Value::Int(value.size() as i64))
            }
            _ => Err(Failure::overload()),
        },
        "type" => |_, args| one(args, |value| Ok(Value::Type(value.type_name().into()))),
        "dyn" => |_, args| one(args, |value| Ok(value.clone())),
        "bool" => |_, args| one(args, bool),
        "bytes" => |meter, args| match args {
            [Value::String(text)] => {
                room(meter, text.len())?;
                Ok(Value::Bytes(text.as_bytes().into()))
            }
            [value @ Value::Bytes(_)] => Ok(value.clone()),
            _ => Err(Failure::overload()),
        },
        "double" => |_, args| one(args, double),
        "int" => |_, args| one(args, int),
        "uint" => |_, args| one(args, uint),
        "string" => |meter, args| {
            let text = one(args, string)?;
            room(meter, text.size() as usize)?;
            Ok(text)
        },
        "duration" => |_, args| one(args, duration),
        "timestamp" => |_, args| one(args, timestamp),
        "optional.of" => |_, args| one(args, |value| Ok(Value::some(value.clone()))),
        "optional.ofNonZeroValue" => |_, args| {
            one(args, |value| {
                Ok(if value.is_zero() { Value::Optional(None) } else { Value::some(value.clone()) })
            })
        },
        "optional.none" => |_, _| Ok(Value::Optional(None)),
        "value" => |_, args| match args {
            [Value::Optional(Some(value))] => Ok((**value).clone()),
            [Value::Optional(None)] => Err(Failure::new("optional.none() dereference")),
            _ => Err(Failure::overload()),
        },
        "hasValue" => |_, args| match args {
            [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
            _ => Err(Failure::overload()),
        },
        "optional.unwrap" | "unwrapOpt" => |meter, args| {
            let [Value::List(list)] = args else { return Err(Failure::overload()) };
            let mut found = Vec::new();
            for item in list.values(meter)? {
                match item {
                    Value::Optional(value) => found.extend(value.map(|value| (*value).clone())),
                    other => return Err(Failure::new(format!("value {} is not optional", other.shown()))),
                }
            }
            Ok(Value::list(found))
        },
        "cel.@mapInsert" => |meter, args| {
            let (map, new) = match args {
                [Value::Map(map), key, value] => (map, vec![(key.clone(), value.clone())]),
                [Value::Map(map), Value::Map(more)] => {
                    let mut new = Vec::new();
                    for key in more.keys() {
                        if let Some(found) = more.get(&key) {
                            new.push((key, found?));
                        }
                    }
                    (map, new)
                }
                _ => return Err(Failure::overload()),
            };
            let mut entries = entries(map)?;
            meter.spend(entries.len() as u64 + 1)?;
            for (key, value) in new {
                insert(&mut entries, key, value)?;
            }
            Ok(Value::Map(Map::Made(Arc::new(entries))))
        },
        _ => return None,
    })
}

/// Puts an entry into a map; a key that is there already is an error.
pub(crate) fn insert<'v>(entries: &mut Entries<'v>, key: Value<'v>, value: Value<'v>) -> Outcome<()> {
    let Some(at) = key.key() else {
        return Err(Failure::new(format!("unsupported key type: {}", key.type_name())));
    };
    if entries.contains_key(&at) {
        return Err(Failure::new(format!("insert failed: key {} already exists", key.shown())));
    }
    entries.insert(at, (key, value));
    Ok(())
}

fn entries<'v>(map: &Map<'v>) -> Outcome<Entries<'v>> {
    if let Map::Made(entries) = map {
        return Ok((**entries).clone());
    }
    let mut entries = Entries::new();
    for key in map.keys() {
        if let (Some(at), Some(value)) = (key.key(), map.get(&key)) {
            entries.insert(at, (key, value?));
        }
    }
    Ok(entries)
}

fn one<'v>(args: &[Value<'v>], run: impl FnOnce(&Value<'v>) -> Outcome<Value<'v>>) -> Outcome<Value<'v>> {
    match args {
        [value] => run(value),
        _ => Err(Failure::overload()),
    }
}

fn bool<'v>(value: &Value<'v>) -> Outcome<Value<'v>> {
    match value {
        Value::Bool(_) => Ok(value.clone()),
        Value::String(text) => match &**text {
            "true" | "TRUE" | "True" | "t" | "T" | "1" => Ok(Value::Bool(true)),
            "false" | "FALSE" | "False" | "f" | "F" | "0" => Ok(Value::Bool(false)),
            other => Err(Failure::new(format!("strconv.ParseBool: parsing {other:?}: invalid syntax"))),
        },
        _ => Err(Failure::overload()),
    }
}

fn syntax(function: &str, text: &str) -> Failure {
    Failure::new(format!("strconv.{function}: parsing {text:?}: invalid syntax"))
}

fn double<'v>(value: &Value<'v>) -> Outcome<Value<'v>> {
    Ok(Value::Double(match value {
        Value::Double(value) => *value,
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::String(text) => match text.trim_start_matches(['+', '-']) {
            "" => return Err(syntax("ParseFloat", text)),
            _ => text.parse().map_err(|_| syntax("ParseFloat", text))?,
        },
        _ => return Err(Failure::overload()),
    }))
}

fn int<'v>(value: &Value<'v>) -> Outcome<Value<'v>> {
    let overflow = || Failure::new("integer overflow");
    Ok(Value::Int(match value {
        Value::Int(value) => *value,
        // Both bounds are excluded: they are not told from what lies beyond them.
        Value::Double(value) if *value > i64::MIN as f64 && *value < i64::MAX as f64 => *value as i64,
        Value::Double(_) => return Err(overflow()),
        Value::Uint(value) => i64::try_from(*value).map_err(|_| overflow())?,
        Value::Duration(nanos) => *nanos,
        Value::Timestamp(time) => time.seconds,
        Value::String(text) => text.parse().map_err(|_| syntax("ParseInt", text))?,
        _ => return Err(Failure::overload()),
    }))
}

fn uint<'v>(value: &Value<'v>) -> Outcome<Value<'v>> {
    let overflow = || Failure::new("unsigned integer overflow");
    Ok(Value::Uint(match value {
        Value::Uint(value) => *value,
        Value::Double(value) if *value >= 0.0 && *value < u64::MAX as f64 => *value as u64,
        Value::Double(_) => return Err(overflow()),
        Value::Int(value) => u64::try_from(*value).map_err(|_| overflow())?,
        Value::String(text) => text.parse().map_err(|_| syntax("ParseUint", text))?,
        _ => return Err(Failure::overload()),
    }))
}

/// A value as text.
pub(super) fn string<'v>(value: &Value<'v>) -> Outcome<Value<'v>> {
    Ok(Value::text(match value {
        Value::String(_) => return Ok(value.clone()),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => time::shown_double(*value),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => return Err(Failure::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        Value::Duration(nanos) => time::shown_duration(*nanos),
        Value::Timestamp(time) => time::shown_timestamp(*time),
        Value::Type(name) => name.to_string(),
        Value::Ip(address) => address.to_string(),
        Value::Cidr(cidr) => cidr.to_string(),
        _ => return Err(Failure::overload()),
    }))
}

fn duration<'v>(value: &Value<'v>) -> Outcome<Value<'v>> {
    match value {
        Value::Duration(_) => Ok(value.clone()),
        Value::Int(nanos) => Ok(Value::Duration(*nanos)),
        value => {
            let text = text(value)?;
            let nanos = time::parse_duration(text);
            nanos.map(Value::Duration).ok_or_else(|| Failure::new(format!("time: invalid duration {text:?}")))
        }
    }
}

fn timestamp<'v>(value: &Value<'v>) -> Outcome<Value<'v>> {
    match value {
        Value::Timestamp(_) => Ok(value.clone()),
        Value::Int(seconds) => time::from_seconds(*seconds)
            .map(Value::Timestamp)
            .ok_or_else(|| Failure::new("timestamp overflow")),
        value => {
            let text = text(value)?;
            let time = time::parse_timestamp(text);
            time.map(Value::Timestamp)
                .ok_or_else(|| Failure::new(format!("parsing time {text:?} as RFC 3339: cannot parse")))
        }
    }
}

/// A list of texts.
pub(super) fn texts<'v>(texts: impl IntoIterator<Item = String>) -> Value<'v> {
    Value::List(List::Made(Arc::new(texts.into_iter().map(Value::text).collect()), None))
}
