//! Messages to trees.

use super::table::{Card, Field, Kind, Presence, Table};
use super::wire::{Reader, Wire};
use super::{Decoded, Envelope, MAGIC, MAX_DEPTH, MAX_VALUES, ProtobufError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, ProtobufError>;

/// The second that Go's zero time is: the first of year 1.
pub(super) const ZERO_TIME: i64 = -62_135_596_800;

/// What is left of depth and size.
pub(super) struct Limits {
    depth: usize,
    values: usize,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self { depth: MAX_DEPTH, values: MAX_VALUES }
    }

    fn value(&mut self) -> Result<()> {
        self.values = self.values.checked_sub(1).ok_or(ProtobufError::TooLarge)?;
        Ok(())
    }

    /// Runs `inner` one level deeper.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth = self.depth.checked_sub(1).ok_or(ProtobufError::TooDeep)?;
        let result = inner(self);
        self.depth += 1;
        result
    }
}

/// Reads an object with its envelope.
pub(super) fn envelope(bytes: &[u8], limits: &mut Limits) -> Result<Decoded> {
    let read = Envelope::read(bytes)?;
    let api_version = text("apiVersion", read.api_version)?;
    let kind = text("kind", read.kind)?;
    let table = Table::get();
    let Some(message) = table.of_kind(&api_version, &kind) else {
        return Err(ProtobufError::UnknownKind { api_version, kind });
    };
    let mut map = Map::new();
    map.insert("apiVersion".into(), api_version.as_str().into());
    map.insert("kind".into(), kind.as_str().into());
    merge(table, message, read.raw, &mut map, limits)?;
    Ok(Decoded { api_version, kind, value: Value::Object(map) })
}

/// Reads a message without an envelope.
#[cfg(test)]
pub(super) fn bare(table: &Table, message: u16, bytes: &[u8]) -> Result<Value> {
    let mut map = Map::new();
    merge(table, message, bytes, &mut map, &mut Limits::new())?;
    Ok(Value::Object(map))
}

fn text(field: &'static str, bytes: &[u8]) -> Result<String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| ProtobufError::Utf8(field))
}

/// Reads a message into `map`; what stands there already is merged with.
fn merge(
    table: &Table,
    message: u16,
    bytes: &[u8],
    map: &mut Map<String, Value>,
    limits: &mut Limits,
) -> Result<()> {
    limits.deeper(|limits| {
        let fields = table.fields(message);
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.field()? {
            if let Ok(at) = fields.binary_search_by_key(&number, |field| field.number)
                && let Some(field) = fields.get(at)
            {
                set(table, field, wire, map, limits)?;
            }
        }
        fill(table, message, map, limits)
    })
}

/// Puts one field into the tree.
fn set(
    table: &Table,
    field: &Field,
    wire: Wire<'_>,
    map: &mut Map<String, Value>,
    limits: &mut Limits,
) -> Result<()> {
    limits.value()?;
    match (field.card, field.kind) {
        (Card::One, Kind::Message(message)) => {
            let bytes = bytes_of(field, wire)?;
            if field.presence == Presence::Inline {
                return merge(table, message, bytes, map, limits);
            }
            let slot = map.entry(field.name).or_insert_with(|| json!({}));
            match slot {
                Value::Object(inner) => merge(table, message, bytes, inner, limits),
                _ => Err(ProtobufError::WireType(field.name)),
            }
        }
        (Card::One, _) => {
            let value = value(table, field, wire, limits)?;
            if left_out(field, &value) {
                map.remove(field.name);
            } else {
                map.insert(field.name.into(), value);
            }
            Ok(())
        }
        (Card::List, kind) => {
            let Value::Array(list) = map.entry(field.name).or_insert_with(|| json!([])) else {
                return Err(ProtobufError::WireType(field.name));
            };
            match (kind, wire) {
                (Kind::Int | Kind::Bool | Kind::Double, Wire::Bytes(packed)) => {
                    let mut packed = Reader::new(packed);
                    while !packed.is_empty() {
                        limits.value()?;
                        let wire = match kind {
                            Kind::Double => Wire::Fixed64(packed.fixed64()?),
                            _ => Wire::Varint(packed.varint()?),
                        };
                        list.push(value(table, field, wire, limits)?);
                    }
                }
                _ => list.push(value(table, field, wire, limits)?),
            }
            Ok(())
        }
        (Card::Map, _) => {
            let (mut key, mut held) = (String::new(), None);
            let mut reader = Reader::new(bytes_of(field, wire)?);
            while let Some((number, wire)) = reader.field()? {
                match number {
                    1 => key = text(field.name, bytes_of(field, wire)?)?,
                    2 => held = Some(value(table, field, wire, limits)?),
                    _ => {}
                }
            }
            let held = match held {
                Some(held) => held,
                None => zero(table, field, limits)?,
            };
            match map.entry(field.name).or_insert_with(|| json!({})) {
                Value::Object(entries) => {
                    entries.insert(key, held);
                    Ok(())
                }
                _ => Err(ProtobufError::WireType(field.name)),
            }
        }
    }
}

fn bytes_of<'a>(field: &Field, wire: Wire<'a>) -> Result<&'a [u8]> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(ProtobufError::WireType(field.name)),
    }
}

/// One value of a field: of a list an element, of a map what a key leads to.
fn value(table: &Table, field: &Field, wire: Wire<'_>, limits: &mut Limits) -> Result<Value> {
    let wrong = |why: String| ProtobufError::Value { field: field.name, why };
    match (field.kind, wire) {
        (Kind::Int, Wire::Varint(number)) => Ok(number.cast_signed().into()),
        (Kind::Bool, Wire::Varint(number)) => Ok((number != 0).into()),
        (Kind::Double, Wire::Fixed64(bits)) => {
            let number = serde_json::Number::from_f64(f64::from_bits(bits));
            number.map(Value::Number).ok_or_else(|| wrong("not a finite number".into()))
        }
        (Kind::String, Wire::Bytes(bytes)) => text(field.name, bytes).map(Value::String),
        (Kind::Bytes, Wire::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
        (Kind::Quantity, Wire::Bytes(bytes)) => {
            let amount = text(field.name, single(field, bytes)?)?;
            Ok(if amount.is_empty() { "0".into() } else { amount.into() })
        }
        (Kind::IntOrString, Wire::Bytes(bytes)) => int_or_string(field, bytes),
        (Kind::Time | Kind::MicroTime, Wire::Bytes(bytes)) => time(field, bytes),
        (Kind::Raw, Wire::Bytes(bytes)) => limits.deeper(|limits| match single(field, bytes)? {
            [] => Ok(Value::Null),
            raw if raw.starts_with(&MAGIC) => Ok(envelope(raw, limits)?.value),
            raw => serde_json::from_slice(raw).map_err(|error| wrong(error.to_string())),
        }),
        (Kind::Strings, Wire::Bytes(bytes)) => {
            let mut items = Vec::new();
            let mut reader = Reader::new(bytes);
            while let Some((number, wire)) = reader.field()? {
                if number == 1 {
                    limits.value()?;
                    items.push(text(field.name, bytes_of(field, wire)?)?.into());
                }
            }
            Ok(Value::Array(items))
        }
        (Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings, Wire::Bytes(bytes)) => {
            union(table, field, bytes, limits)
        }
        (Kind::Message(message), Wire::Bytes(bytes)) => {
            let mut map = Map::new();
            merge(table, message, bytes, &mut map, limits)?;
            Ok(Value::Object(map))
        }
        _ => Err(ProtobufError::WireType(field.name)),
    }
}

/// The bytes of a message's one field, number 1.
fn single<'a>(field: &Field, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let mut inner: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        if number == 1 {
            inner = bytes_of(field, wire)?;
        }
    }
    Ok(inner)
}

fn int_or_string(field: &Field, bytes: &[u8]) -> Result<Value> {
    let (mut kind, mut number, mut string) = (0, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((at, wire)) = reader.field()? {
        match (at, wire) {
            (1, Wire::Varint(value)) => kind = value,
            // An int32 in Go: higher bits are lost there as here.
            (2, Wire::Varint(value)) => number = value.cast_signed() as i32,
            (3, Wire::Bytes(value)) => string = text(field.name, value)?,
            (1..=3, _) => return Err(ProtobufError::WireType(field.name)),
            _ => {}
        }
    }
    match kind {
        0 => Ok(number.into()),
        1 => Ok(string.into()),
        _ => Err(ProtobufError::Value { field: field.name, why: "impossible IntOrString.Type".into() }),
    }
}

/// An instant; null for Go's zero time. Kubernetes keeps whole seconds, or microseconds.
fn time(field: &Field, bytes: &[u8]) -> Result<Value> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    let mut reader = Reader::new(bytes);
    while let Some((at, wire)) = reader.field()? {
        match (at, wire) {
            (1, Wire::Varint(value)) => seconds = value.cast_signed(),
            (2, Wire::Varint(value)) => nanos = value.cast_signed() as i32,
            (1 | 2, _) => return Err(ProtobufError::WireType(field.name)),
            _ => {}
        }
    }
    let micro = field.kind == Kind::MicroTime;
    let nanos = if micro { nanos / 1000 * 1000 } else { 0 };
    if seconds == ZERO_TIME && nanos == 0 {
        return Ok(Value::Null);
    }
    let instant = jiff::Timestamp::new(seconds, nanos)
        .map_err(|error| ProtobufError::Value { field: field.name, why: error.to_string() })?;
    Ok(if micro { format!("{instant:.6}") } else { instant.to_string() }.into())
}

/// A schema, or else what the union has in its place.
fn union(table: &Table, field: &Field, bytes: &[u8], limits: &mut Limits) -> Result<Value> {
    limits.deeper(|limits| {
        let (mut schema, mut allows, mut list) = (None, false, Vec::new());
        let read = |bytes, limits: &mut Limits| {
            let mut map = Map::new();
            limits.value()?;
            if let Some(message) = table.json_schema {
                merge(table, message, bytes, &mut map, limits)?;
            }
            Ok(Value::Object(map))
        };
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.field()? {
            match (field.kind, number, wire) {
                (Kind::SchemaOrBool, 1, Wire::Varint(value)) => allows = value != 0,
                (Kind::SchemaOrBool, 2, Wire::Bytes(bytes)) => schema = Some(read(bytes, limits)?),
                (Kind::SchemaOrBool, 1 | 2, _) => return Err(ProtobufError::WireType(field.name)),
                (_, 1, Wire::Bytes(bytes)) => schema = Some(read(bytes, limits)?),
                (Kind::SchemaOrArray, 2, Wire::Bytes(bytes)) => list.push(read(bytes, limits)?),
                (_, 2, Wire::Bytes(bytes)) => {
                    limits.value()?;
                    list.push(text(field.name, bytes)?.into());
                }
                (_, 1 | 2, _) => return Err(ProtobufError::WireType(field.name)),
                _ => {}
            }
        }
        Ok(match (field.kind, schema) {
            (Kind::SchemaOrBool, None) => allows.into(),
            (Kind::SchemaOrBool, Some(schema)) => schema,
            (_, _) if !list.is_empty() => list.into(),
            (_, schema) => schema.unwrap_or_default(),
        })
    })
}

/// Whether JSON of Go has no such value, as of the zero time and of `omitempty`.
fn left_out(field: &Field, value: &Value) -> bool {
    let zero = match (field.kind, value) {
        (Kind::Time | Kind::MicroTime | Kind::Raw, value) => return value.is_null(),
        (Kind::SchemaOrArray | Kind::SchemaOrStrings, value) => return value.is_null(),
        (Kind::Int, value) => value.as_i64() == Some(0),
        (Kind::Double, value) => value.as_f64() == Some(0.0),
        (Kind::Bool, value) => value == &Value::Bool(false),
        (Kind::String | Kind::Bytes, value) => value.as_str() == Some(""),
        (Kind::Strings, value) => value.as_array().is_some_and(Vec::is_empty),
        _ => false,
    };
    zero && field.presence == Presence::Omit
}

/// Fills in what JSON of Go shows though it is not on the wire. Lists and maps that are nil, which it shows
/// as null, stay out.
fn fill(table: &Table, message: u16, map: &mut Map<String, Value>, limits: &mut Limits) -> Result<()> {
    for field in table.fields(message) {
        match (field.presence, field.kind) {
            (Presence::Inline, Kind::Message(inner)) => {
                limits.deeper(|limits| fill(table, inner, map, limits))?;
            }
            (Presence::Keep, kind)
                if field.card == Card::One && !may_be_null(kind) && !map.contains_key(field.name) =>
            {
                limits.value()?;
                let zero = zero(table, field, limits)?;
                map.insert(field.name.into(), zero);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether Go writes the zero value of such a type as null.
fn may_be_null(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Bytes
            | Kind::Time
            | Kind::MicroTime
            | Kind::Raw
            | Kind::Strings
            | Kind::SchemaOrArray
            | Kind::SchemaOrStrings
    )
}

fn zero(table: &Table, field: &Field, limits: &mut Limits) -> Result<Value> {
    Ok(match field.kind {
        Kind::String | Kind::Bytes => "".into(),
        Kind::Bool => false.into(),
        Kind::Int | Kind::Double | Kind::IntOrString => 0.into(),
        Kind::Quantity => "0".into(),
        Kind::Time | Kind::MicroTime | Kind::Raw => Value::Null,
        Kind::Strings => json!([]),
        Kind::SchemaOrArray | Kind::SchemaOrStrings => Value::Null,
        Kind::SchemaOrBool => false.into(),
        Kind::Message(message) => {
            let mut map = Map::new();
            merge(table, message, &[], &mut map, limits)?;
            Value::Object(map)
        }
    })
}
