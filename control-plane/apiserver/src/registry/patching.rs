//! Patches: applied to whatever version is there, again when somebody comes between.

use super::{Call, Registry, Written};
use serde_json::Value;
use skep_api::Status;
use skep_api::patch::{self, PatchType};
use skep_api::schema::FieldValidation;

/// A patch as it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The tree.
    pub tree: &'a Value,
    /// What is to be said of keys that stand twice.
    pub duplicates: &'a [String],
    /// What to do with those, and with unknown fields.
    pub validation: FieldValidation,
}

impl Registry {
    /// Applies a patch.
    pub async fn patch(
        &self,
        call: &Call<'_>,
        kind: PatchType,
        patch: Sent<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        let schema = call.row.schema()?;
        self.change(
            call,
            &|_, old| {
                let mut new = patch::apply(kind, schema, old, patch.tree).map_err(|e| e.to_status())?;
                let told = call.row.check_patched(&mut new, patch.duplicates, patch.validation)?;
                Ok((new, told))
            },
            warnings,
        )
        .await
    }
}
