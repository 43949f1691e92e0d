//! The `scale` subresource: another view of the number of replicas, the same for every kind that has one.

use super::meta;
use super::{Call, Moment, Registry, schema_of};
use serde_json::Value;
use skep_api::kinds::scale;
use skep_api::patch::{self, PatchType};
use skep_api::schema::{FieldValidation, check_patched};
use skep_api::{GroupVersionKind, Object, Status};
use std::sync::Arc;

/// Name of the schema of the view.
const SCHEMA: &str = "io.k8s.api.autoscaling.v1.Scale";

/// How the view is to be changed.
pub enum ScaleChange<'a> {
    /// Replaced by this.
    Replace(Value),
    /// Patched.
    Patch(PatchType, &'a Value, FieldValidation),
}

impl Registry {
    /// Reads the view.
    pub async fn scale(&self, call: &Call<'_>) -> Result<Arc<Object>, Status> {
        let object = self.get(call.row, call.namespace, call.name, Moment::Latest).await?;
        as_object(scale::read(&object.value()), object.revision())
    }

    /// Changes the number of replicas through the view, whose kind is `gvk`.
    pub async fn change_scale(
        &self,
        call: &Call<'_>,
        gvk: &GroupVersionKind,
        how: &ScaleChange<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Object>, Status> {
        let change = |old: &Value| {
            let (mut after, told) = match how {
                ScaleChange::Replace(body) => (body.clone(), Vec::new()),
                ScaleChange::Patch(kind, patch, validation) => {
                    let schema = schema_of(SCHEMA)?;
                    let before = scale::read(old);
                    let mut after = patch::apply(*kind, schema, &before, patch).map_err(|e| e.to_status())?;
                    let told = check_patched(schema, gvk, &mut after, &[], *validation)?;
                    (after, told)
                }
            };
            meta::check_kind(&mut after, gvk)?;
            meta::check_namespace(&mut after, call.namespace)?;
            meta::check_name(&mut after, call.name)?;
            let errors = scale::validate(&after);
            if !errors.is_empty() {
                return Err(Status::invalid(gvk, call.name, &errors));
            }
            let mut new = scale::write(old, &after);
            meta::set_text(&mut new, "resourceVersion", meta::text(&after, "resourceVersion"));
            Ok((new, told))
        };
        let written = self.change(call, &|_, old| change(old), warnings).await?;
        as_object(scale::read(&written.object.value()), written.object.revision())
    }
}

fn as_object(value: Value, revision: u64) -> Result<Arc<Object>, Status> {
    Object::from_value(value, revision, &[]).map(Arc::new).map_err(Status::internal)
}
