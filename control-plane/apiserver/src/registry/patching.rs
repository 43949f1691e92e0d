//! Patches: applied to whatever version is there, again when somebody comes between.

use super::{Call, Registry, Written, schema_of};
use serde_json::Value;
use skep_api::Status;
use skep_api::patch::{self, PatchType};
use skep_api::schema::{FieldValidation, check_patched};

impl Registry {
    /// Applies a patch.
    pub async fn patch(
        &self,
        call: &Call<'_>,
        kind: PatchType,
        patch: &Value,
        validation: FieldValidation,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        let schema = schema_of(&call.row.schema)?;
        let gvk = &call.row.gvk;
        self.change(
            call,
            &|_, old| {
                let mut new = patch::apply(kind, schema, old, patch).map_err(|e| e.to_status())?;
                let told = check_patched(schema, gvk, &mut new, &[], validation)?;
                Ok((new, told))
            },
            warnings,
        )
        .await
    }
}
