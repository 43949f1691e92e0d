//! Patches: applied to whatever version is there, again when somebody comes between.

use super::{Call, Registry, Written};
use serde_json::Value;
use skep_api::Status;
use skep_api::patch::{self, PatchType};
use skep_api::schema::FieldValidation;

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
        let schema = call.row.schema()?;
        self.change(
            call,
            &|_, old| {
                let mut new = patch::apply(kind, schema, old, patch).map_err(|e| e.to_status())?;
                let told = call.row.check_patched(&mut new, &[], validation)?;
                Ok((new, told))
            },
            warnings,
        )
        .await
    }
}
