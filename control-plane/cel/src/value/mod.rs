//! Values while an expression runs. What comes from an object stays JSON until it is read.

mod compare;
mod json;
pub(crate) mod net;
pub(crate) mod pattern;
pub(crate) mod semver;
pub(crate) mod time;
pub(crate) mod url;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use serde_json::Value as Json;
use skep_api::quantity::Quantity;

use crate::ast::Literal;
use crate::call::named::Format;
use crate::decl::{Decl, ListKind};
use crate::types::Kube;

pub(crate) use compare::{contains, equal, find_keyed, order};
use net::Cidr;
use semver::Semver;
use time::Moment;
use url::Url;

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Something in the expression failed; `&&`, `||` and comprehensions may not mind.
    #[error("{0}")]
    Error(Arc<str>),
    /// The expression has used up what it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    Limit,
}

impl Failure {
    pub(crate) fn new(message: impl Into<Arc<str>>) -> Self {
        Failure::Error(message.into())
    }

    /// Types do not fit, found while running.
    pub(crate) fn overload() -> Self {
        Failure::new("no such overload")
    }
}

pub(crate) type Outcome<T> = Result<T, Failure>;

/// Bounds the work that costs do not see: parts compared, patterns compiled, bytes made.
#[derive(Debug)]
pub(crate) struct Meter {
    left: Cell<u64>,
}

/// Steps one run may take: parts compared or bytes made.
const WORK: u64 = 200_000_000;

impl Meter {
    pub(crate) fn new() -> Self {
        Meter { left: Cell::new(WORK) }
    }

    /// Uses up work; fails when there is none left.
    pub(crate) fn spend(&self, steps: u64) -> Outcome<()> {
        let left = self.left.get().checked_sub(steps).ok_or(Failure::Limit)?;
        self.left.set(left);
        Ok(())
    }
}

/// Text, of an object or made.
#[derive(Clone, Debug)]
pub enum Text<'v> {
    /// Of an object.
    Borrowed(&'v str),
    /// Made.
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'v> {
    /// `null`
    Null,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint`
    Uint(u64),
    /// `double`
    Double(f64),
    /// `string`
    String(Text<'v>),
    /// `bytes`
    Bytes(Arc<[u8]>),
    /// `google.protobuf.Timestamp`
    Timestamp(Moment),
    /// `google.protobuf.Duration`, in nanoseconds
    Duration(i64),
    /// `list`
    List(List<'v>),
    /// `map`, or an object
    Map(Map<'v>),
    /// A type, by name
    Type(Arc<str>),
    /// `optional_type`
    Optional(Option<Arc<Value<'v>>>),
    /// `kubernetes.Quantity`
    Quantity(Quantity),
    /// `kubernetes.URL`
    Url(Arc<Url>),
    /// `net.IP`
    Ip(IpAddr),
    /// `net.CIDR`
    Cidr(Cidr),
    /// `kubernetes.NamedFormat`
    Format(&'static Format),
    /// `kubernetes.Semver`
    Semver(Arc<Semver>),
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'v> {
    /// Of an object.
    Json {
        /// Its elements.
        items: &'v [Json],
        /// What they are.
        element: &'v Decl,
        /// What makes it equal to another.
        kind: &'v ListKind,
    },
    /// Made. The kind tells what the list on the left of a sum was.
    Made(Arc<Vec<Value<'v>>>, Option<&'v ListKind>),
}

/// A map or an object.
#[derive(Clone, Debug)]
pub enum Map<'v> {
    /// Of an object.
    Json(&'v serde_json::Map<String, Json>, &'v Decl),
    /// Made.
    Made(Arc<Entries<'v>>),
}

/// Entries of a map that was made, in the order of their keys.
pub type Entries<'v> = BTreeMap<Key, (Value<'v>, Value<'v>)>;

/// A key of a map: numbers are the same whatever their type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Number(i128),
    /// A string.
    Text(Arc<str>),
}

impl<'v> Value<'v> {
    /// Text that was made.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Value::String(Text::Shared(text.into()))
    }

    /// A list that was made.
    pub fn list(items: Vec<Value<'v>>) -> Self {
        Value::List(List::Made(Arc::new(items), None))
    }

    /// An optional with a value.
    pub fn some(value: Value<'v>) -> Self {
        Value::Optional(Some(Arc::new(value)))
    }

    /// The value of a literal.
    pub(crate) fn literal(literal: &Literal) -> Self {
        match literal {
            Literal::Null => Value::Null,
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Int(value) => Value::Int(*value),
            Literal::Uint(value) => Value::Uint(*value),
            Literal::Double(value) => Value::Double(*value),
            Literal::String(value) => Value::String(Text::Shared(value.clone())),
            Literal::Bytes(value) => Value::Bytes(value.clone()),
        }
    }

    /// The name of its type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Quantity(_) => Kube::Quantity.name(),
            Value::Url(_) => Kube::Url.name(),
            Value::Ip(_) => Kube::Ip.name(),
            Value::Cidr(_) => Kube::Cidr.name(),
            Value::Format(_) => Kube::Format.name(),
            Value::Semver(_) => Kube::Semver.name(),
        }
    }

    /// Its size as costs see it: characters, bytes, elements; 1 for what has no size.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            Value::String(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(list) => list.len(),
            Value::Map(map) => map.len(),
            Value::Url(url) => url.text.len(),
            Value::Ip(IpAddr::V4(_)) => 4,
            Value::Ip(IpAddr::V6(_)) => 16,
            Value::Cidr(cidr) => usize::from(cidr.bits.div_ceil(8)),
            _ => 1,
        };
        size as u64
    }

    /// As the key of a map.
    pub(crate) fn key(&self) -> Option<Key> {
        Some(match self {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Number(i128::from(*value)),
            Value::Uint(value) => Key::Number(i128::from(*value)),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 1.8e19 => {
                Key::Number(*value as i128)
            }
            Value::String(Text::Shared(text)) => Key::Text(text.clone()),
            Value::String(Text::Borrowed(text)) => Key::Text((*text).into()),
            _ => return None,
        })
    }

    /// Whether it is nothing of its kind: null, zero, empty.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Value::Null | Value::Optional(None) => true,
            Value::Bool(value) => !value,
            Value::Int(value) | Value::Duration(value) => *value == 0,
            Value::Uint(value) => *value == 0,
            Value::Double(value) => *value == 0.0,
            Value::String(text) => text.is_empty(),
            Value::Bytes(bytes) => bytes.is_empty(),
            Value::List(list) => list.is_empty(),
            Value::Map(map) => map.is_empty(),
            Value::Timestamp(time) => time.is_first(),
            _ => false,
        }
    }

    /// As errors show it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Value::String(text) => text.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Uint(value) => value.to_string(),
            Value::Double(value) => time::shown_double(*value),
            Value::Bool(value) => value.to_string(),
            Value::Null => "null".to_owned(),
            other => other.type_name().to_owned(),
        }
    }
}

impl<'v> List<'v> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            List::Json { items, .. } => items.len(),
            List::Made(items, _) => items.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element; `None` past the end.
    pub(crate) fn get(&self, index: usize) -> Option<Outcome<Value<'v>>> {
        match self {
            List::Json { items, element, .. } => items.get(index).map(|item| Value::of_json(item, element)),
            List::Made(items, _) => items.get(index).cloned().map(Ok),
        }
    }

    /// All elements.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Outcome<Value<'v>>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// All elements, read.
    pub(crate) fn values(&self, meter: &Meter) -> Outcome<Vec<Value<'v>>> {
        meter.spend(self.len() as u64)?;
        self.iter().collect()
    }

    pub(crate) fn kind(&self) -> Option<&'v ListKind> {
        match self {
            List::Json { kind, .. } => Some(kind),
            List::Made(_, kind) => *kind,
        }
    }
}

impl<'v> Map<'v> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        match self {
            Map::Json(map, _) => map.len(),
            Map::Made(entries) => entries.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key; `None` where there is none.
    pub(crate) fn get(&self, key: &Value<'_>) -> Option<Outcome<Value<'v>>> {
        match (self, key) {
            (Map::Json(map, decl), Value::String(name)) => json::field(map, decl, name),
            (Map::Json(..), _) => None,
            (Map::Made(entries), key) => entries.get(&key.key()?).map(|(_, value)| Ok(value.clone())),
        }
    }

    /// The value of a field.
    pub(crate) fn field(&self, name: &Arc<str>) -> Option<Outcome<Value<'v>>> {
        match self {
            Map::Json(map, decl) => json::field(map, decl, name),
            Map::Made(entries) => entries.get(&Key::Text(name.clone())).map(|(_, value)| Ok(value.clone())),
        }
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<Value<'v>> {
        match self {
            Map::Json(map, decl) => json::keys(map, decl),
            Map::Made(entries) => entries.values().map(|(key, _)| key.clone()).collect(),
        }
    }
}
