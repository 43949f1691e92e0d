//! The `scale` subresource: another view of the number of replicas, the same for every kind that has one.

use super::meta;
use super::{Call, Moment, Registry, schema_of};
use serde_json::Value;
use skep_api::custom::ScaleError;
use skep_api::kinds::scale;
use skep_api::patch::{self, PatchType};
use skep_api::schema::{FieldValidation, check_patched};
use skep_api::{GroupVersionKind, Object, Resource, Status};
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
        as_object(read(call.row, &object.value())?, object.revision())
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
                    let before = before(call.row, old)?;
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
            let mut new = match call.row.scale_paths() {
                None => scale::write(old, &after),
                Some(paths) => paths.write(old, &after).map_err(|e| Status::bad_request(e.to_string()))?,
            };
            meta::set_text(&mut new, "resourceVersion", meta::text(&after, "resourceVersion"));
            Ok((new, told))
        };
        let written = self.change(call, &|_, old| change(old), warnings).await?;
        as_object(read(call.row, &written.object.value())?, written.object.revision())
    }
}

/// What the view shows of an object.
fn read(row: &Resource, object: &Value) -> Result<Value, Status> {
    match row.scale_paths() {
        None => Ok(scale::read(object)),
        Some(paths) => paths.read(object).map_err(Status::internal),
    }
}

/// What a patch of the view starts from; an object that does not say how many there should be starts from none.
fn before(row: &Resource, object: &Value) -> Result<Value, Status> {
    let Some(paths) = row.scale_paths() else { return Ok(scale::read(object)) };
    let refused = |e: ScaleError| Status::bad_request(e.to_string());
    match paths.read(object) {
        Err(ScaleError::Missing(_)) => {
            let none = serde_json::json!({"spec": {"replicas": 0}});
            paths.write(object, &none).and_then(|object| paths.read(&object)).map_err(refused)
        }
        read => read.map_err(refused),
    }
}

fn as_object(value: Value, revision: u64) -> Result<Arc<Object>, Status> {
    Object::from_value(value, revision, &[]).map(Arc::new).map_err(Status::internal)
}
