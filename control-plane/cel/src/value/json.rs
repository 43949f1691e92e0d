//! JSON as values, by its declaration.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map as Object, Number, Value as Json};

use super::{Failure, List, Map, Outcome, Text, Value, time};
use crate::decl::{Decl, ListKind, Scalar, Shape};
use crate::names;

/// What untyped JSON is made of.
static ANY: Decl = Decl {
    ty: crate::types::Type::Dyn,
    max_elements: crate::decl::MAX_REQUEST_BYTES,
    min_size: 1,
    nullable: true,
    shape: Shape::Any,
};
static ATOMIC: ListKind = ListKind::Atomic;

fn invalid<T>(message: String) -> Outcome<T> {
    Err(Failure::new(message))
}

fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_f64() => "float64",
        Json::Number(_) => "int64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

fn whole(number: &Number) -> Option<i64> {
    let exact = |number: f64| number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| number.as_f64().filter(|number| exact(*number)).map(|number| number as i64))
}

impl<'v> Value<'v> {
    /// Reads JSON that a declaration describes. Elements and fields are read when they are asked for.
    ///
    /// # Errors
    /// When it is not what the declaration says.
    pub fn of_json(json: &'v Json, decl: &'v Decl) -> Outcome<Self> {
        if json.is_null() {
            if decl.nullable {
                return Ok(Value::Null);
            }
            return invalid("invalid data, got null for schema with nullable=false".to_owned());
        }
        match (&decl.shape, json) {
            (Shape::Any, json) => Ok(any(json)),
            (Shape::IntOrString, Json::String(text)) => Ok(Value::String(Text::Borrowed(text))),
            (Shape::IntOrString, Json::Number(number)) if whole(number).is_some() => {
                Ok(Value::Int(whole(number).unwrap_or_default()))
            }
            (Shape::IntOrString, _) => invalid(
                "invalid data, expected XIntOrString value to be either a string or integer".to_owned(),
            ),
            (Shape::Object(_) | Shape::Map(_), Json::Object(map)) => Ok(Value::Map(Map::Json(map, decl))),
            (Shape::Object(_) | Shape::Map(_), _) => {
                invalid("invalid data, expected a map for the provided schema with type=object".to_owned())
            }
            (Shape::List(element, kind), Json::Array(items)) => {
                Ok(Value::List(List::Json { items, element, kind }))
            }
            (Shape::List(..), _) => {
                invalid("invalid data, expected an array for the provided schema with type=array".to_owned())
            }
            (Shape::Scalar(scalar), json) => self::scalar(json, *scalar),
        }
    }

    /// JSON of which nothing is known.
    pub fn dynamic(json: &'v Json) -> Self {
        any(json)
    }
}

fn any(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value),
            (None, Some(value)) => Value::Uint(value),
            _ => Value::Double(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(Text::Borrowed(text)),
        Json::Array(items) => Value::List(List::Json { items, element: &ANY, kind: &ATOMIC }),
        Json::Object(map) => Value::Map(Map::Json(map, &ANY)),
    }
}

fn scalar(json: &Json, scalar: Scalar) -> Outcome<Value<'_>> {
    match (scalar, json) {
        (Scalar::Bool, Json::Bool(value)) => Ok(Value::Bool(*value)),
        (Scalar::Bool, other) => invalid(format!("invalid data, expected bool, got {}", kind_of(other))),
        (Scalar::Int, Json::Number(number)) if whole(number).is_some() => {
            Ok(Value::Int(whole(number).unwrap_or_default()))
        }
        (Scalar::Int, other) => invalid(format!("invalid data, expected int, got {}", kind_of(other))),
        (Scalar::Double, Json::Number(number)) => Ok(Value::Double(number.as_f64().unwrap_or_default())),
        (Scalar::Double, other) => invalid(format!("invalid data, expected float, got {}", kind_of(other))),
        (Scalar::String, Json::String(text)) => Ok(Value::String(Text::Borrowed(text))),
        (Scalar::Bytes, Json::String(text)) => match STANDARD.decode(text) {
            Ok(bytes) => Ok(Value::Bytes(bytes.into())),
            Err(why) => invalid(format!("Invalid byte formatted string {text}: {why}")),
        },
        (Scalar::Duration, Json::String(text)) => match time::parse_duration(text) {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => invalid(format!("Invalid duration {text}: time: invalid duration \"{text}\"")),
        },
        (Scalar::Date, Json::String(text)) => match time::parse_date(text) {
            Some(time) => Ok(Value::Timestamp(time)),
            None => invalid(format!("Invalid date formatted string {text}: cannot parse as a date")),
        },
        (Scalar::DateTime, Json::String(text)) => match time::parse_date_time(text) {
            Some(time) => Ok(Value::Timestamp(time)),
            None => {
                invalid(format!("Invalid date-time formatted string {text}: cannot parse as a date-time"))
            }
        },
        (_, other) => invalid(format!("invalid data, expected string, got {}", kind_of(other))),
    }
}

/// The value of a field or key, if it is there and known.
pub(super) fn field<'v>(
    map: &'v Object<String, Json>,
    decl: &'v Decl,
    name: &str,
) -> Option<Outcome<Value<'v>>> {
    match &decl.shape {
        Shape::Object(object) => {
            let field = object.field(name)?;
            // A null field of an object is one that is not there.
            let value = map.get(&*field.json).filter(|value| !value.is_null())?;
            Some(Value::of_json(value, &field.decl))
        }
        Shape::Map(element) => map.get(name).map(|value| Value::of_json(value, element)),
        _ => map.get(name).map(|value| Ok(any(value))),
    }
}

/// The keys that expressions see.
pub(super) fn keys<'v>(map: &'v Object<String, Json>, decl: &'v Decl) -> Vec<Value<'v>> {
    let Shape::Object(object) = &decl.shape else {
        return map.keys().map(|key| Value::String(Text::Borrowed(key))).collect();
    };
    let known = |key: &'v String| {
        let (escaped, _) = object.by_json.get(key.as_str())?;
        let name: Arc<str> = match escaped {
            Some(escaped) => escaped.clone(),
            None => key.as_str().into(),
        };
        Some(Value::String(Text::Shared(name)))
    };
    map.keys().filter_map(known).collect()
}

/// The declaration of what lies at a name of JSON, if expressions know it.
pub(super) fn declared<'v>(decl: &'v Decl, name: &str) -> Option<&'v Decl> {
    match &decl.shape {
        Shape::Object(object) => object.by_json.get(name).map(|(_, decl)| &**decl),
        Shape::Map(element) => Some(element),
        Shape::Any => Some(&ANY),
        _ => None,
    }
}

/// The keys of a list that is a map, as they stand in an element of it.
pub(super) fn map_key<'j>(item: &'j Json, keys: &[Arc<str>]) -> Vec<&'j Json> {
    keys.iter().map(|key| item.get(&**key).unwrap_or(&Json::Null)).collect()
}

/// As [`map_key`], of an element in an expression.
pub(super) fn value_key<'v>(value: &Value<'v>, keys: &[Arc<str>]) -> Vec<Option<Value<'v>>> {
    let Value::Map(map) = value else { return vec![None; keys.len()] };
    let name = |key: &Arc<str>| names::escape(key).map_or_else(|| key.clone(), Arc::from);
    keys.iter().map(|key| map.field(&name(key)).and_then(Result::ok)).collect()
}
