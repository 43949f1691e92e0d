//! The `scale` subresource: another view of the number of replicas, the same for every kind that has one.

use super::meta;
use super::{Call, Configuration, Moment, Registry, Sent, schema_of};
use serde_json::{Value, json};
use skep_api::custom::ScaleError;
use skep_api::kinds::scale;
use skep_api::patch::{self, PatchType};
use skep_api::schema::check_patched;
use skep_api::{GroupVersionKind, Object, Resource, Status};
use std::sync::Arc;

/// Name of the schema of the view.
const SCHEMA: &str = "io.k8s.api.autoscaling.v1.Scale";

/// How the view is to be changed.
pub enum ScaleChange<'a> {
    /// Replaced by this.
    Replace(Value),
    /// Patched.
    Patch(PatchType, Sent<'a>),
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
                ScaleChange::Patch(kind, patch) => {
                    let schema = schema_of(SCHEMA)?;
                    let before = before(call.row, old)?;
                    let mut after =
                        patch::apply(*kind, schema, &before, patch.tree).map_err(|e| e.to_status())?;
                    let told = check_patched(schema, gvk, &mut after, patch.duplicates, patch.validation)?;
                    (after, told)
                }
            };
            check(call, gvk, &mut after)?;
            let mut new = write(call.row, old, &after)?;
            meta::set_text(&mut new, "resourceVersion", meta::text(&after, "resourceVersion"));
            Ok((new, told))
        };
        let written = self.change(call, &|_, old| change(old), warnings).await?;
        as_object(read(call.row, &written.object.value())?, written.object.revision())
    }

    /// Applies a configuration of the view: one of the object that names the number of replicas alone.
    pub async fn apply_scale(
        &self,
        call: &Call<'_>,
        gvk: &GroupVersionKind,
        config: Configuration<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Object>, Status> {
        let mut sent = config.tree.clone();
        let mut told =
            check_patched(schema_of(SCHEMA)?, gvk, &mut sent, config.duplicates, config.validation)?;
        check(call, gvk, &mut sent)?;
        let mut tree = json!({
            "apiVersion": call.row.gvk.api_version(), "kind": call.row.gvk.kind, "metadata": {"name": call.name},
        });
        // A zero is as good as nothing in the view, but whoever says it means it.
        if let Some(replicas) = config.tree.pointer("/spec/replicas").filter(|replicas| !replicas.is_null()) {
            sent["spec"]["replicas"] = replicas.clone();
            tree = write(call.row, &tree, &sent)?;
        }
        meta::set_text(&mut tree, "namespace", call.namespace);
        meta::set_text(&mut tree, "resourceVersion", meta::text(config.tree, "resourceVersion"));
        let config = Configuration { tree: &tree, duplicates: &[], ..config };
        let written = self.apply(call, config, warnings).await?;
        warnings.append(&mut told);
        as_object(read(call.row, &written.object.value())?, written.object.revision())
    }
}

/// Refuses a view of something else, or of what cannot be.
fn check(call: &Call<'_>, gvk: &GroupVersionKind, view: &mut Value) -> Result<(), Status> {
    meta::check_kind(view, gvk)?;
    meta::check_namespace(view, call.namespace)?;
    meta::check_name(view, call.name)?;
    let errors = scale::validate(view);
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(gvk, call.name, &errors)) }
}

/// An object with what a view of it says.
fn write(row: &Resource, object: &Value, view: &Value) -> Result<Value, Status> {
    match row.scale_paths() {
        None => Ok(scale::write(object, view)),
        Some(paths) => paths.write(object, view).map_err(|e| Status::bad_request(e.to_string())),
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
            let none = json!({"spec": {"replicas": 0}});
            paths.write(object, &none).and_then(|object| paths.read(&object)).map_err(refused)
        }
        read => read.map_err(refused),
    }
}

fn as_object(mut value: Value, revision: u64) -> Result<Arc<Object>, Status> {
    // Go writes no zero here.
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|_, replicas| replicas.as_i64() != Some(0));
    }
    Object::from_value(value, revision, &[]).map(Arc::new).map_err(Status::internal)
}
