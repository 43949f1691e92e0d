//! A version of a custom resource, made ready to be served.

use super::definition::{Definition, Scale, Version};
use super::evaluate::Rules;
use super::meta::{Malformed, coerce_embedded, coerce_metadata};
use super::rules::Compiler;
use super::strategy::CustomStrategy;
use super::structural::{Additional, Structural};
use super::{apply_defaults, drop_nulls, nodes, numbers, prune};
use crate::resource::{GroupVersionKind, Str};
use crate::schema::{Schema, Schemas};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a schema set of a custom resource knows beyond its types: how objects are cleaned and defaulted.
#[derive(Debug)]
pub struct Guide {
    /// The schema, with defaults that are themselves pruned; none where the definition has none.
    schema: Option<Arc<Structural>>,
    /// Nothing is pruned.
    preserve: bool,
}

impl Guide {
    /// The schema; none where the definition has none.
    pub fn schema(&self) -> Option<&Arc<Structural>> {
        self.schema.as_ref()
    }

    /// Brings an object to the form that is stored: metadata is made canonical, fields that the schema does not know
    /// are dropped, and nulls where none may be. Returns the paths of what was dropped; the error is about metadata
    /// of a wrong type, in Go's words.
    pub fn clean(&self, value: &mut Value) -> Result<Vec<String>, String> {
        self.cleaned(value, Malformed::Refuse)
    }

    fn cleaned(&self, value: &mut Value, malformed: Malformed) -> Result<Vec<String>, String> {
        let mut dropped = Vec::new();
        if let Some(meta) = value.get_mut("metadata") {
            let unknown = coerce_metadata(meta, malformed)?;
            dropped.extend(unknown.into_iter().map(|path| format!("metadata.{path}")));
        }
        // The root's metadata was seen to, and no schema has a say in it.
        let meta = value.as_object_mut().and_then(|map| map.remove("metadata"));
        let nothing = Structural::default();
        let schema = self.schema.as_deref();
        if !self.preserve {
            dropped.append(&mut prune(schema.unwrap_or(&nothing), value, true));
            drop_nulls(schema, value);
        }
        numbers::canonical(value);
        let embedded = coerce_embedded(schema.unwrap_or(&nothing), value, false, malformed);
        if let (Some(meta), Some(map)) = (meta, value.as_object_mut()) {
            map.insert("metadata".into(), meta);
        }
        dropped.append(&mut embedded.map_err(|error| error.to_string())?);
        Ok(dropped)
    }

    /// Fills in the defaults of the schema.
    pub fn apply_defaults(&self, value: &mut Value) {
        if let Some(schema) = &self.schema {
            apply_defaults(schema, value);
        }
    }

    /// Brings an object that was stored, perhaps under an older schema, or that a webhook converted, to what this
    /// version shows: pruned, with defaults, and with a generation. What is malformed in its metadata is dropped.
    pub fn read(&self, value: &mut Value) {
        // With malformed parts dropped, there is nothing left to refuse but an object without any form.
        if self.cleaned(value, Malformed::Drop).is_err() {
            return;
        }
        self.apply_defaults(value);
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut)
            && meta.get("generation").and_then(Value::as_i64).unwrap_or(0) == 0
        {
            meta.insert("generation".into(), 1.into());
        }
    }
}

/// A version of a definition, made ready.
#[derive(Clone, Debug)]
pub struct Custom {
    /// Group, version and accepted kind.
    pub gvk: GroupVersionKind,
    /// The types of its objects. What is behind [`Schemas::guide`] checks, prunes and defaults them.
    pub schemas: Arc<Schemas>,
    /// The name of the resource's type in that set, as OpenAPI documents have it.
    pub name: Str,
    /// The kind's pure functions.
    pub strategy: Arc<CustomStrategy>,
}

impl Custom {
    /// Makes a version of a definition ready; none where the definition has no such version.
    pub fn new(definition: &Definition, version: &str, compiler: &dyn Compiler) -> Option<Self> {
        let this = definition.version(version)?;
        let gvk = definition.gvk(version);
        let name = type_name(&gvk);
        let schema = this.schema.as_ref().map(|schema| Arc::new(pruned_defaults(schema)));
        let (types, nodes) = nodes::compile(&name, schema.as_deref(), definition.preserve_unknown);
        let rules = schema.as_deref().and_then(|schema| Rules::compile(compiler, schema, true));
        let guide = Arc::new(Guide { schema: schema.clone(), preserve: definition.preserve_unknown });
        let strategy = Arc::new(CustomStrategy::new(gvk.clone(), this, schema, rules));
        Some(Custom {
            schemas: Arc::new(Schemas::custom(types, nodes, guide)),
            name: name.into(),
            strategy,
            gvk,
        })
    }

    /// The type of its objects: what the generic code checks, defaults and applies by.
    pub fn schema(&self) -> Option<Schema<'_>> {
        self.schemas.get(&self.name)
    }

    /// As [`Guide::read`].
    pub fn read(&self, value: &mut Value) {
        if let Some(guide) = self.schemas.guide() {
            guide.read(value);
        }
    }

    /// The version as the definition has it.
    pub fn version(&self) -> &Version {
        self.strategy.version()
    }

    /// Where objects keep what `Scale` shows; none where that is no subresource.
    pub fn scale(&self) -> Option<&Scale> {
        self.version().scale.as_ref()
    }
}

/// The name of a kind's type in OpenAPI documents: `com.example.stable.v1.CronTab`.
pub fn type_name(gvk: &GroupVersionKind) -> String {
    let parts: Vec<&str> = gvk.group.rsplit('.').collect();
    format!("{}.{}.{}", parts.join("."), gvk.version, gvk.kind)
}

/// The schema with defaults of which only that is left which the schema and metadata know.
pub fn pruned_defaults(schema: &Structural) -> Structural {
    let mut out = schema.clone();
    prune_below(&mut out, schema, &mut Vec::new());
    out
}

/// How a default lies in an object.
enum Step {
    Field(String),
    Item,
}

fn prune_below(schema: &mut Structural, root: &Structural, way: &mut Vec<Step>) {
    if let Some(default) = schema.default.take() {
        schema.default = Some(pruned(default, root, way));
    }
    for (name, field) in &mut schema.properties {
        way.push(Step::Field(name.clone()));
        prune_below(field, root, way);
        way.pop();
    }
    if let Some(items) = schema.items.as_deref_mut() {
        way.push(Step::Item);
        prune_below(items, root, way);
        way.pop();
    }
    if let Some(Additional::Schema(further)) = &mut schema.additional {
        way.push(Step::Field("*".into()));
        prune_below(further, root, way);
        way.pop();
    }
}

/// A default as it would look in an object that has nothing else.
fn pruned(default: Value, root: &Structural, way: &[Step]) -> Value {
    let mut object = default.clone();
    for step in way.iter().rev() {
        object = match step {
            Step::Field(name) => Value::Object(Map::from_iter([(name.clone(), object)])),
            Step::Item => json!([object]),
        };
    }
    if coerce_embedded(root, &mut object, true, Malformed::Drop).is_err() {
        return default;
    }
    prune(root, &mut object, true);
    let mut here = &object;
    for step in way {
        let next = match step {
            Step::Field(name) => here.get(name),
            Step::Item => here.get(0),
        };
        match next {
            Some(next) => here = next,
            None => return default,
        }
    }
    here.clone()
}
