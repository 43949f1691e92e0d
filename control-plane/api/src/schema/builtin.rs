//! The types of the built-in kinds, as the build script writes them.

use super::set::Schemas;

pub(super) static SCHEMAS: Schemas = Schemas::fixed(&[], &[], "");
