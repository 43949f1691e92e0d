//! Values that have no parts: their types, forms and zeros.

use super::set::Node;
use crate::quantity::Quantity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

/// What is wrong with a value.
pub(super) enum Wrong {
    /// Its JSON type; this is the type that is wanted.
    Type(&'static str),
    /// Something else.
    Text(String),
}

/// What Go calls the type.
pub(super) fn go_type(node: &Node) -> &'static str {
    match node {
        Node::String => "string",
        Node::Bytes => "[]uint8",
        Node::Int32 => "int32",
        Node::Int64 => "int64",
        Node::Number => "float64",
        Node::Bool => "bool",
        Node::Time => "v1.Time",
        Node::MicroTime => "v1.MicroTime",
        Node::IntOrString => "intstr.IntOrString",
        _ => "interface {}",
    }
}

/// What Go's JSON decoder calls a value that it did not expect.
pub fn json_name(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(number)
            if number.is_i64() && number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) =>
        {
            "number".into()
        }
        Value::Number(number) => format!("number {number}"),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

/// Whether it is the zero value of its JSON type.
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(value) => !value,
        _ => false,
    }
}

/// Checks a value and makes it canonical.
pub(super) fn check(node: &Node, value: &mut Value) -> Result<(), Wrong> {
    let wanted = Wrong::Type(go_type(node));
    match (node, &mut *value) {
        (Node::String, Value::String(_))
        | (Node::Bool, Value::Bool(_))
        | (Node::Number, Value::Number(_)) => Ok(()),
        (Node::Int32, Value::Number(number)) => {
            whole(number).and_then(|n| i32::try_from(n).ok()).map(drop).ok_or(wanted)
        }
        (Node::Int64, Value::Number(number)) => whole(number).map(drop).ok_or(wanted),
        (Node::IntOrString, Value::String(_)) => Ok(()),
        (Node::IntOrString, Value::Number(number)) => {
            whole(number).and_then(|n| i32::try_from(n).ok()).map(drop).ok_or(Wrong::Type("int32"))
        }
        (Node::Bytes, Value::String(text)) => bytes(text).map_err(Wrong::Text),
        (Node::Quantity, Value::String(text)) => quantity(text.trim()).map(|q| *value = q),
        (Node::Quantity, Value::Number(number)) => quantity(&number.to_string()).map(|q| *value = q),
        (Node::Quantity, other) => quantity(&other.to_string()).map(drop),
        (Node::Time, Value::String(text)) => instant(text, "2006-01-02T15:04:05Z07:00", "%Y-%m-%dT%H:%M:%SZ"),
        (Node::MicroTime, Value::String(text)) => {
            instant(text, "2006-01-02T15:04:05.000000Z07:00", "%Y-%m-%dT%H:%M:%S.%6fZ")
        }
        // Instants are read as strings before anything else.
        (Node::Time | Node::MicroTime, _) => Err(Wrong::Type("string")),
        _ => Err(wanted),
    }
}

/// The number as an integer, if it is written as one.
fn whole(number: &Number) -> Option<i64> {
    number.as_i64()
}

fn quantity(text: &str) -> Result<Value, Wrong> {
    Quantity::parse(text).map(|q| q.to_string().into()).map_err(|error| Wrong::Text(error.to_string()))
}

/// Base64 with padding, as Go reads it: line breaks do not count.
fn bytes(text: &mut String) -> Result<(), String> {
    if text.contains(['\r', '\n']) {
        text.retain(|c| !matches!(c, '\r' | '\n'));
    }
    STANDARD.decode(text.as_bytes()).map(drop).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(len) => len,
            base64::DecodeError::InvalidPadding => text.len(),
        };
        format!("illegal base64 data at input byte {at}")
    })
}

/// RFC 3339 in, the same instant in UTC out.
fn instant(text: &mut String, layout: &str, format: &str) -> Result<(), Wrong> {
    let strict = text.as_bytes().get(10) == Some(&b'T');
    let parsed = if strict { text.parse::<jiff::Timestamp>().ok() } else { None };
    match parsed {
        Some(instant) => {
            *text = instant.strftime(format).to_string();
            Ok(())
        }
        None => Err(Wrong::Text(format!(
            "parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""
        ))),
    }
}
