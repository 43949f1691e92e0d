//! The rows that a CustomResourceDefinition adds to the resource table.

use super::conditions::is_true;
use super::convert::{Means, OfVersion, Versions};
use crate::webhook::{Target, Webhooks};
use serde_json::Value;
use skep_api::custom::rules::Compiler;
use skep_api::custom::{Conversion, Custom, Definition, Version};
use skep_api::resource::{CustomRow, Stored};
use skep_api::{GroupResource, GroupVersionKind, Resource, SchemaRef, Subresource};
use std::sync::Arc;

/// What can be done with custom resources, in the order in which discovery tells of it.
const VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const CHANGE: &[&str] = &["get", "patch", "update"];

/// What a definition makes.
#[derive(Clone)]
pub(super) struct Made {
    /// The part of the definition that it was made of: while that stays the same, so do the rows' conversions, and watches
    /// go on.
    of: (Value, Value),
    /// One a version that is served.
    pub(super) served: Vec<Arc<Resource>>,
    /// That of the stored version, served or not: by it objects are deleted that must go.
    pub(super) stored: Option<Arc<Resource>>,
}

fn source(definition: &Value) -> (Value, Value) {
    let part = |pointer: &str| definition.pointer(pointer).cloned().unwrap_or_default();
    (part("/spec"), part("/status/acceptedNames"))
}

/// Whether the resources of a definition are to be served.
fn is_served(definition: &Value, read: &Definition) -> bool {
    let named =
        [&read.accepted.plural, &read.accepted.singular, &read.accepted.kind, &read.accepted.list_kind];
    (is_true(definition, "NamesAccepted") || is_true(definition, "Established"))
        && named.iter().all(|name| !name.is_empty())
}

impl Made {
    /// Whether both serve the same rows.
    pub(super) fn is_same(&self, other: &Made) -> bool {
        let pairs = || self.served.iter().zip(&other.served);
        self.served.len() == other.served.len() && pairs().all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// What a definition makes, given what it made before. None while its names are not accepted, or where it cannot be served.
pub(super) fn make(
    definition: &Value,
    before: Option<&Made>,
    compiler: &dyn Compiler,
    webhooks: &Arc<Webhooks>,
) -> Option<Made> {
    let mut made = match before.filter(|made| made.of == source(definition)) {
        Some(made) => made.clone(),
        None => anew(definition, compiler, webhooks)?,
    };
    let (announced, terminating) = (is_true(definition, "Established"), is_true(definition, "Terminating"));
    for row in &mut made.served {
        let custom = row.custom.as_deref().cloned().unwrap_or_default();
        if (custom.announced, custom.terminating) != (announced, terminating) {
            let custom = Some(Arc::new(CustomRow { announced, terminating, ..custom }));
            *row = Arc::new(Resource { custom, ..Resource::clone(row) });
        }
    }
    Some(made)
}

fn anew(definition: &Value, compiler: &dyn Compiler, webhooks: &Arc<Webhooks>) -> Option<Made> {
    let name = definition.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let read = Definition::read(definition)
        .inspect_err(|why| tracing::error!(name, %why, "a CustomResourceDefinition cannot be served"))
        .ok()
        .filter(|read| is_served(definition, read))?;
    let storage = read.storage()?;
    let by_name = read
        .versions
        .iter()
        .filter_map(|v| Some((v.name.to_string(), Arc::new(Custom::new(&read, &v.name, compiler)?))))
        .collect();
    let means = match &read.conversion {
        Conversion::None => Means::Rename,
        Conversion::Webhook { client, review_versions } => Means::Webhook {
            webhooks: webhooks.clone(),
            target: Target::read(client).map_err(|e| e.to_string()),
            reviews: review_versions.clone(),
        },
    };
    let all = Arc::new(Versions { by_name, storage: read.gvk(&storage.name), means });
    let row = |version: &Version| row(definition, &read, version, &all);
    Some(Made {
        of: source(definition),
        served: read.versions.iter().filter(|v| v.served).filter_map(row).map(Arc::new).collect(),
        stored: row(storage).map(Arc::new),
    })
}

/// The schema of a version as it was given.
fn schema(definition: &Value, version: &str) -> Option<Value> {
    let versions = definition.pointer("/spec/versions")?.as_array()?;
    let this = versions.iter().find(|v| v.get("name").and_then(Value::as_str) == Some(version))?;
    this.pointer("/schema/openAPIV3Schema").cloned()
}

fn row(definition: &Value, read: &Definition, version: &Version, all: &Arc<Versions>) -> Option<Resource> {
    let custom = all.by_name.get(&*version.name)?;
    let names = &read.accepted;
    let convert = OfVersion { all: all.clone(), served: custom.gvk.clone() };
    let mut subresources = Vec::new();
    if version.status {
        subresources.push(Subresource { name: "status".into(), kind: custom.gvk.clone(), verbs: CHANGE });
    }
    if version.scale.is_some() {
        let kind = GroupVersionKind::new("autoscaling", "v1", "Scale");
        subresources.push(Subresource { name: "scale".into(), kind, verbs: CHANGE });
    }
    let texts = |list: &[String]| list.iter().map(|text| text.clone().into()).collect();
    Some(Resource {
        gvk: custom.gvk.clone(),
        plural: names.plural.clone().into(),
        singular: names.singular.clone().into(),
        short_names: texts(&names.short_names),
        categories: texts(&names.categories),
        scope: read.scope,
        subresources,
        verbs: VERBS,
        selectable_fields: version.selectable.clone(),
        schema: SchemaRef::Own { schemas: custom.schemas.clone(), root: custom.name.clone() },
        stored: Some(Stored::new(
            GroupResource::new(read.group.clone(), names.plural.clone()),
            all.storage.clone(),
            Arc::new(convert),
        )),
        strategy: custom.strategy.clone(),
        warnings: read.deprecation(&version.name).into_iter().collect(),
        custom: Some(Arc::new(
            CustomRow {
                list_kind: names.list_kind.clone().into(),
                scale: version.scale.clone(),
                ..CustomRow::default()
            }
            .with_schema(schema(definition, &version.name)),
        )),
    })
}
