//! Schemas of kinds, and what is done by them: reading, checking, pruning and defaulting objects.
//!
//! A [`Schemas`] set is a table of types whose fields carry everything that is known of them: JSON type,
//! default, how lists and maps merge ([`ListType`], [`Merge`]). The set of the built-in kinds is made at
//! build time and lies in the binary; a CustomResourceDefinition makes a set of its own. Patches,
//! server-side apply and OpenAPI are driven by the same table.

mod builtin;
mod check;
mod decode;
mod defaults;
mod message;
mod scalar;
mod set;
#[cfg(test)]
mod tests;
mod yaml;

pub use check::{Checked, FieldValidation, check, check_patched, inspect};
pub use decode::{DecodeError, Decoded, Format, decode};
pub use defaults::{apply_defaults, apply_defaults_of, forget_empty_lists};
pub use scalar::json_name;
pub use set::{Doc, Field, ListType, Merge, Node, Schema, Schemas, Type};

use crate::resource::GroupVersionKind;
use crate::status::Status;
use serde_json::Value;

/// Reads the body of a request as an object of `gvk`: decodes, checks and prunes it.
///
/// Returns the tree and the warnings to send. Errors are 400 in upstream's words.
pub fn read(
    schema: Schema<'_>,
    gvk: &GroupVersionKind,
    body: &[u8],
    format: Format,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let decoded = decode(body, format).map_err(|e| e.to_status(gvk))?;
    let mut value = decoded.value;
    let warnings = check(schema, gvk, &mut value, &decoded.duplicates, validation)?;
    Ok((value, warnings))
}
