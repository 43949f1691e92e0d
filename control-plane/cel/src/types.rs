//! Types of expressions.

use std::fmt;
use std::sync::Arc;

use crate::decl::Object;

/// The type of an expression.
#[derive(Clone, Debug)]
pub enum Type {
    /// Known only when evaluated.
    Dyn,
    /// What has been found wrong already.
    Error,
    /// `null`
    Null,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `uint`
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// `google.protobuf.Timestamp`
    Timestamp,
    /// `google.protobuf.Duration`
    Duration,
    /// `list(T)`
    List(Arc<Type>),
    /// `map(K, V)`
    Map(Arc<(Type, Type)>),
    /// `optional_type(T)`
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    /// An object with named fields.
    Object(Arc<Object>),
    /// A type of the Kubernetes libraries.
    Kube(Kube),
    /// A type parameter of a function, or a type not yet known.
    Param(u32),
}

/// Types of the Kubernetes libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kube {
    /// `quantity()`
    Quantity,
    /// `url()`
    Url,
    /// `ip()`
    Ip,
    /// `cidr()`
    Cidr,
    /// `format.named()`
    Format,
    /// `semver()`
    Semver,
}

impl Kube {
    /// As upstream names it.
    pub fn name(self) -> &'static str {
        match self {
            Kube::Quantity => "kubernetes.Quantity",
            Kube::Url => "kubernetes.URL",
            Kube::Ip => "net.IP",
            Kube::Cidr => "net.CIDR",
            Kube::Format => "kubernetes.NamedFormat",
            Kube::Semver => "kubernetes.Semver",
        }
    }
}

/// Names that are types as values.
pub(crate) const NAMED: &[(&str, Type)] = &[
    ("bool", Type::Bool),
    ("bytes", Type::Bytes),
    ("double", Type::Double),
    ("dyn", Type::Dyn),
    ("google.protobuf.Duration", Type::Duration),
    ("google.protobuf.Timestamp", Type::Timestamp),
    ("int", Type::Int),
    ("null_type", Type::Null),
    ("string", Type::String),
    ("uint", Type::Uint),
    ("net.IP", Type::Kube(Kube::Ip)),
    ("net.CIDR", Type::Kube(Kube::Cidr)),
];

/// The type that a name stands for as a value.
pub(crate) fn named(name: &str) -> Option<Type> {
    match name {
        "list" => Some(Type::list(Type::Dyn)),
        "map" => Some(Type::map(Type::Dyn, Type::Dyn)),
        "type" => Some(Type::Type(Arc::new(Type::Dyn))),
        "optional_type" => Some(Type::Optional(Arc::new(Type::Dyn))),
        _ => NAMED.iter().find(|(one, _)| *one == name).map(|(_, ty)| ty.clone()),
    }
}

impl Type {
    /// `list(element)`
    pub fn list(element: Type) -> Self {
        Type::List(Arc::new(element))
    }

    /// `map(key, value)`
    pub fn map(key: Type, value: Type) -> Self {
        Type::Map(Arc::new((key, value)))
    }

    /// `optional_type(inner)`
    pub fn optional(inner: Type) -> Self {
        Type::Optional(Arc::new(inner))
    }

    /// Its name without parameters, as `type()` compares.
    pub(crate) fn name(&self) -> &str {
        match self {
            Type::Dyn => "dyn",
            Type::Error => "!error!",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Duration => "google.protobuf.Duration",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Optional(_) => "optional_type",
            Type::Type(_) => "type",
            Type::Object(object) => &object.name,
            Type::Kube(kube) => kube.name(),
            Type::Param(_) => "T",
        }
    }

    /// Whether it is dynamic.
    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn)
    }

    /// The types it is made of.
    pub(crate) fn parts(&self) -> [Option<&Type>; 2] {
        match self {
            Type::List(one) | Type::Optional(one) | Type::Type(one) => [Some(one), None],
            Type::Map(both) => [Some(&both.0), Some(&both.1)],
            _ => [None, None],
        }
    }

    /// Whether a value of it has always the size 1.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
            Type::Optional(inner) => inner.is_scalar(),
            _ => false,
        }
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Object(a), Type::Object(b)) => Arc::ptr_eq(a, b) || a.name == b.name,
            (Type::Kube(a), Type::Kube(b)) => a == b,
            (Type::Param(a), Type::Param(b)) => a == b,
            _ => {
                std::mem::discriminant(self) == std::mem::discriminant(other) && self.parts() == other.parts()
            }
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Null => f.write_str("null"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::List(one) => write!(f, "list({one})"),
            Type::Optional(one) => write!(f, "optional_type({one})"),
            Type::Type(one) => write!(f, "type({one})"),
            Type::Map(both) => write!(f, "map({}, {})", both.0, both.1),
            Type::Param(number) => write!(f, "_var{number}"),
            other => f.write_str(other.name()),
        }
    }
}
