//! Field paths and the errors that validation reports (`k8s.io/apimachinery/pkg/util/validation/field`).

use crate::status::StatusCause;
use serde_json::Value;
use std::fmt;

/// A path to a field, as in `spec.containers[0].name`; cheap to extend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The path of a top-level field.
    pub fn new(name: &str) -> Self {
        Path(name.to_owned())
    }

    /// `self.name`; `name` alone below the root.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Path(name.to_owned()) } else { Path(format!("{}.{name}", self.0)) }
    }

    /// `self[i]`.
    pub fn index(&self, i: usize) -> Self {
        Path(format!("{}[{i}]", self.0))
    }

    /// `self[key]`, for an entry of a map.
    pub fn key(&self, key: &str) -> Self {
        Path(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Self {
        Path(text.to_owned())
    }
}

impl From<&Path> for Path {
    fn from(path: &Path) -> Self {
        path.clone()
    }
}

/// What is wrong with a field (`field.ErrorType`).
#[derive(Clone, Debug, PartialEq)]
pub enum FieldErrorKind {
    /// A value must be there.
    Required,
    /// A value stands twice where it may stand once.
    Duplicate(Value),
    /// The value is not allowed.
    Invalid(Value),
    /// The value stands twice, and is too large to be shown.
    DuplicateUnshown,
    /// The value is not allowed, and too large to be shown.
    InvalidUnshown,
    /// The value is none of the known ones.
    NotSupported {
        /// What was given.
        value: Value,
        /// What is known, in the order to show.
        supported: Vec<String>,
    },
    /// No value may be there.
    Forbidden,
    /// Longer than allowed.
    TooLong {
        /// The most that is allowed.
        max: usize,
    },
    /// More entries than allowed.
    TooMany {
        /// How many there are.
        actual: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// It names something that is not there.
    NotFound(Value),
    /// The JSON type is not the field's.
    TypeInvalid(Value),
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Which field.
    pub path: Path,
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Why, for people; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(path: impl Into<Path>, kind: FieldErrorKind, detail: impl Into<String>) -> Self {
        FieldError { path: path.into(), kind, detail: detail.into() }
    }

    /// A value must be there.
    pub fn required(path: impl Into<Path>, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Required, detail)
    }

    /// The value is not allowed, and why.
    pub fn invalid(path: impl Into<Path>, value: Value, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Invalid(value), detail)
    }

    /// The value stands twice.
    pub fn duplicate(path: impl Into<Path>, value: Value) -> Self {
        Self::new(path, FieldErrorKind::Duplicate(value), "")
    }

    /// The value is not allowed, and why; it is not shown.
    pub fn invalid_unshown(path: impl Into<Path>, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::InvalidUnshown, detail)
    }

    /// The value stands twice; it is not shown.
    pub fn duplicate_unshown(path: impl Into<Path>) -> Self {
        Self::new(path, FieldErrorKind::DuplicateUnshown, "")
    }

    /// The value is none of `supported`.
    pub fn not_supported(path: impl Into<Path>, value: Value, supported: &[&str]) -> Self {
        let supported = supported.iter().map(|s| (*s).to_owned()).collect();
        Self::new(path, FieldErrorKind::NotSupported { value, supported }, "")
    }

    /// No value may be there, and why.
    pub fn forbidden(path: impl Into<Path>, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Forbidden, detail)
    }

    /// Longer than `max` bytes.
    pub fn too_long(path: impl Into<Path>, max: usize) -> Self {
        Self::new(path, FieldErrorKind::TooLong { max }, "")
    }

    /// More than `max` entries.
    pub fn too_many(path: impl Into<Path>, actual: usize, max: usize) -> Self {
        Self::new(path, FieldErrorKind::TooMany { actual, max }, "")
    }

    /// It names something that is not there.
    pub fn not_found(path: impl Into<Path>, value: Value) -> Self {
        Self::new(path, FieldErrorKind::NotFound(value), "")
    }

    /// The JSON type is not the field's.
    pub fn type_invalid(path: impl Into<Path>, value: Value, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::TypeInvalid(value), detail)
    }

    /// The message without the path.
    fn body(&self) -> String {
        use FieldErrorKind as K;
        let head = match &self.kind {
            K::Required => "Required value".to_owned(),
            K::Forbidden => "Forbidden".to_owned(),
            K::TooLong { .. } => "Too long".to_owned(),
            K::TooMany { actual, .. } => format!("Too many: {actual}"),
            K::Duplicate(v) => format!("Duplicate value: {}", shown(v)),
            K::DuplicateUnshown => "Duplicate value".to_owned(),
            K::InvalidUnshown => "Invalid value".to_owned(),
            K::Invalid(v) => format!("Invalid value: {}", shown(v)),
            K::NotSupported { value, .. } => format!("Unsupported value: {}", shown(value)),
            K::NotFound(v) => format!("Not found: {}", shown(v)),
            K::TypeInvalid(v) => format!("Invalid value: {}", shown(v)),
        };
        let tail = match &self.kind {
            K::NotSupported { supported, .. } if !supported.is_empty() => {
                let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
                format!("supported values: {}", list.join(", "))
            }
            K::TooLong { max } => format!("may not be more than {max} bytes"),
            K::TooMany { max: 1, .. } => "must have at most 1 item".to_owned(),
            K::TooMany { max, .. } => format!("must have at most {max} items"),
            _ => self.detail.clone(),
        };
        if tail.is_empty() { head } else { format!("{head}: {tail}") }
    }

    /// The cause as `Status.details.causes` lists it.
    pub fn cause(&self) -> StatusCause {
        use FieldErrorKind as K;
        let reason = match self.kind {
            K::Required => "FieldValueRequired",
            K::Duplicate(_) | K::DuplicateUnshown => "FieldValueDuplicate",
            K::Invalid(_) | K::InvalidUnshown => "FieldValueInvalid",
            K::NotSupported { .. } => "FieldValueNotSupported",
            K::Forbidden => "FieldValueForbidden",
            K::TooLong { .. } => "FieldValueTooLong",
            K::TooMany { .. } => "FieldValueTooMany",
            K::NotFound(_) => "FieldValueNotFound",
            K::TypeInvalid(_) => "FieldValueTypeInvalid",
        };
        StatusCause { reason: reason.into(), message: self.body(), field: self.path.to_string() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// A value as upstream shows it: strings quoted, the rest as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "null".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_upstreams() {
        let path = Path::new("spec").child("ports").index(2).child("protocol");
        let error = FieldError::not_supported(&path, "ICMP".into(), &["SCTP", "TCP", "UDP"]);
        assert_eq!(
            error.to_string(),
            "spec.ports[2].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\""
        );
        assert_eq!(error.cause().reason, "FieldValueNotSupported");
        assert_eq!(FieldError::required("metadata.name", "").to_string(), "metadata.name: Required value");
    }
}
