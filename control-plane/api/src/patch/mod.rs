//! Patches: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and strategic merge patch.

mod json;
mod list;
mod merge;
mod strategic;
#[cfg(test)]
mod tests;

use crate::schema::Schema;
use crate::status::{Reason, Status};
use serde_json::Value;

/// The kinds of patches, each with its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, driven by the schema's merge keys.
    Strategic,
}

impl PatchType {
    /// The media type of server-side apply, which is no patch of these kinds (see [`apply`](crate::apply)).
    pub const APPLY: &str = "application/apply-patch+yaml";

    /// Media types that a patch may have, in the order that a 415 shows them.
    pub const MEDIA_TYPES: [&str; 4] = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        Self::APPLY,
    ];

    /// Those that custom kinds take.
    pub const OF_CUSTOM: [&str; 3] =
        ["application/json-patch+json", "application/merge-patch+json", Self::APPLY];

    /// The type of a media type (without parameters).
    pub fn parse(media_type: &str) -> Option<Self> {
        match media_type {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            _ => None,
        }
    }
}

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PatchError {
    /// The patch is no patch: 400.
    #[error("{0}")]
    Malformed(String),
    /// It does not fit the object: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// The patch says what cannot be carried out, in a way that upstream does not foresee: 500.
    #[error("{0}")]
    Failed(String),
    /// The result is larger than allowed: 413.
    #[error("{0}")]
    TooLarge(String),
}

impl PatchError {
    /// The answer to the request: 400, 422, 500 or 413.
    pub fn to_status(&self) -> Status {
        match self {
            PatchError::Malformed(why) => Status::bad_request(why.clone()),
            // Upstream does not say why.
            PatchError::Unprocessable(_) => Status {
                details: Some(Box::default()),
                ..Status::new(
                    Reason::Invalid,
                    "the server rejected our request due to an error in our request",
                )
            },
            PatchError::Failed(why) => Status { code: 500, ..Status::new(Reason::Unknown, why.clone()) },
            PatchError::TooLarge(why) => Status::too_large(why.clone()),
        }
    }
}

/// A value as Go prints it (`%v`): messages of upstream show maps and lists so.
fn printed(value: &Value) -> String {
    let list = |items: &[Value]| items.iter().map(printed).collect::<Vec<_>>().join(" ");
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", list(items)),
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| format!("{key}:{}", printed(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

/// Applies a patch to an object, which is left alone. The result is to be checked with
/// [`check_patched`](crate::schema::check_patched).
pub fn apply(
    patch_type: PatchType,
    schema: Schema<'_>,
    object: &Value,
    patch: &Value,
) -> Result<Value, PatchError> {
    match patch_type {
        PatchType::Json => json::apply(object, patch),
        PatchType::Merge => merge::apply(object, patch),
        PatchType::Strategic => strategic::apply(schema, object, patch),
    }
}
