//! Server-side apply: a configuration merged into whatever version is there, or made into a new object.

use super::versions::Conversions;
use super::{Call, Registry, Written};
use serde_json::Value;
use skep_api::apply::{self, Operation};
use skep_api::schema::FieldValidation;
use skep_api::{GroupVersion, Object, Status};
use std::sync::Arc;

/// A configuration as it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Configuration<'a> {
    /// The tree, unchecked.
    pub tree: &'a Value,
    /// Paths of keys that stand twice.
    pub duplicates: &'a [String],
    /// What to do with those.
    pub validation: FieldValidation,
    /// Take over what others own.
    pub force: bool,
}

impl Registry {
    /// Applies a configuration to the object that is there; 404 where there is none.
    pub async fn apply(
        &self,
        call: &Call<'_>,
        config: Configuration<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        let versions = Conversions::of(call, self.caches.table());
        let change = |_: &Arc<Object>, old: &Value| merged(call, config, Some(old), &versions);
        self.change_by((Operation::Apply, &change), call, &versions, warnings).await
    }

    /// Makes an object of a configuration; 409 where there is one.
    pub async fn apply_new(
        &self,
        call: &Call<'_>,
        config: Configuration<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        let (body, mut told) = merged(call, config, None, &Conversions::of(call, self.caches.table()))?;
        warnings.append(&mut told);
        self.create_by(Operation::Apply, call, body, warnings).await
    }
}

fn merged(
    call: &Call<'_>,
    config: Configuration<'_>,
    live: Option<&Value>,
    versions: &Conversions,
) -> Result<(Value, Vec<String>), Status> {
    let text = |key: &str| config.tree.get(key).and_then(Value::as_str).unwrap_or_default();
    let version = GroupVersion::parse(text("apiVersion"));
    if version != call.row.gvk.group_version() || text("kind") != call.row.gvk.kind {
        let why =
            format!("invalid object type: {}/{}, Kind={}", version.group, version.version, text("kind"));
        return Err(Status::bad_request(why));
    }
    let schema = call.schema()?;
    let applied = call.as_writer(jiff::Timestamp::now(), |writer| {
        apply::apply(schema, live, config.tree, writer, config.force, versions)
    });
    let mut new = applied.map_err(|why| why.to_status())?;
    let told = call.row.check_patched(&mut new, config.duplicates, config.validation)?;
    Ok((new, told))
}
