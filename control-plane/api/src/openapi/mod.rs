//! OpenAPI documents, versions 3 and 2, built on demand from the resource table and its schemas.
//!
//! They are what `kubectl explain` and client-side strategic merge read: components with their merge keys,
//! list types and kinds, and paths with what can be done there. Nothing is kept; a document is written
//! type by type, so that building one costs little more than its own size.

mod component;
mod custom;
pub mod gnostic;
mod operation;
#[cfg(test)]
mod tests;

use crate::resource::{GroupVersion, GroupVersionKind, Resource, SchemaRef};
use crate::schema::{Schema, Schemas};
use bytes::{BufMut, Bytes, BytesMut};
use component::{Version, gvk_value};
use serde_json::{Map, Value, json};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The media type of [`v2`] and [`v3`] documents.
pub const MEDIA_TYPE: &str = "application/json";

/// `/openapi/v3`: where the document of each group version is, with a hash that changes when the rows or
/// this build do.
pub fn v3_index<R: Borrow<Resource>>(rows: &[R]) -> Value {
    let mut paths = Map::new();
    for gv in group_versions(rows) {
        let path = v3_path(&gv);
        let url = format!("/openapi/v3/{path}?hash={}", hash(rows, Some(&gv)));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The path below `/openapi/v3/` of a group version's document: `api/v1`, `apis/apps/v1`.
pub fn v3_path(gv: &GroupVersion) -> String {
    operation::root(gv).trim_start_matches('/').to_owned()
}

/// The group version of such a path.
pub fn v3_group_version(path: &str) -> Option<GroupVersion> {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["api", version] => Some(GroupVersion::new("", (*version).to_owned())),
        ["apis", group, version] => Some(GroupVersion::new((*group).to_owned(), (*version).to_owned())),
        _ => None,
    }
}

/// An entity tag of what the rows of one group version (or all of them, for version 2) make.
pub fn hash<R: Borrow<Resource>>(rows: &[R], gv: Option<&GroupVersion>) -> String {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    SCHEMA_HASH.hash(&mut hasher);
    for row in rows.iter().map(Borrow::borrow) {
        if gv.is_none_or(|gv| row.gvk.group_version() == *gv) {
            (&row.gvk, &row.plural, row.verbs, row.built_in_schema(), row.namespaced()).hash(&mut hasher);
            if let Some(custom) = &row.custom {
                (custom.schema_digest, row.list_kind(), &row.selectable_fields).hash(&mut hasher);
            }
            for sub in &row.subresources {
                (&sub.name, &sub.kind, sub.verbs).hash(&mut hasher);
            }
        }
    }
    format!("{:016X}", hasher.finish())
}

/// Changes with the built-in types.
const SCHEMA_HASH: &str = env!("SKEP_SCHEMA_HASH");

/// `/openapi/v3/{path}`: the document of one group version as JSON; `None` where no row is of it.
pub fn v3<R: Borrow<Resource>>(rows: &[R], schemas: &Schemas, gv: &GroupVersion) -> Option<Bytes> {
    let rows: Vec<&Resource> = rows.iter().map(Borrow::borrow).collect();
    let own: Vec<&Resource> = rows.iter().copied().filter(|row| row.gvk.group_version() == *gv).collect();
    if own.is_empty() {
        return None;
    }
    let mut out = Writer::new(json!({"openapi": "3.0.0", "info": info()}));
    out.paths(&rows, &own, schemas, Version::V3);
    out.raw(",\"components\":{\"schemas\":");
    out.components(&rows, &own, schemas, Version::V3);
    out.raw(",\"securitySchemes\":");
    out.json(&security());
    out.raw("}}");
    Some(out.bytes.freeze())
}

/// `/openapi/v2`: one document of all rows, as JSON.
pub fn v2<R: Borrow<Resource>>(rows: &[R], schemas: &Schemas) -> Bytes {
    let rows: Vec<&Resource> = rows.iter().map(Borrow::borrow).collect();
    let head = json!({
        "swagger": "2.0", "info": info(), "security": [{"BearerToken": []}], "securityDefinitions": security(),
    });
    let mut out = Writer::new(head);
    out.paths(&rows, &rows, schemas, Version::V2);
    out.raw(",\"definitions\":");
    out.components(&rows, &rows, schemas, Version::V2);
    out.raw("}");
    out.bytes.freeze()
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.36.0"})
}

fn security() -> Value {
    json!({"BearerToken": {
        "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header",
    }})
}

fn group_versions<R: Borrow<Resource>>(rows: &[R]) -> BTreeSet<GroupVersion> {
    rows.iter().map(|row| row.borrow().gvk.group_version()).collect()
}

/// Writes a document part by part.
struct Writer {
    bytes: BytesMut,
}

impl Writer {
    /// Begins with the members of `head`, and leaves the object open.
    fn new(head: Value) -> Self {
        let mut writer = Writer { bytes: BytesMut::with_capacity(256 * 1024) };
        writer.json(&head);
        let open = writer.bytes.len().saturating_sub(1);
        writer.bytes.truncate(open);
        writer
    }

    fn raw(&mut self, text: &str) {
        self.bytes.put_slice(text.as_bytes());
    }

    fn json(&mut self, value: &Value) {
        // Writing a tree to memory has nothing to fail on.
        let _ = serde_json::to_writer((&mut self.bytes).writer(), value);
    }

    fn object(&mut self, members: impl Iterator<Item = (String, Value)>) {
        self.raw("{");
        for (at, (key, value)) in members.enumerate() {
            if at > 0 {
                self.raw(",");
            }
            self.json(&Value::String(key));
            self.raw(":");
            self.json(&value);
        }
        self.raw("}");
    }

    fn paths(&mut self, all: &[&Resource], own: &[&Resource], schemas: &Schemas, version: Version) {
        self.raw(",\"paths\":");
        let type_of = |gvk: &GroupVersionKind| type_name(all, schemas, gvk);
        let items = own.iter().flat_map(|row| operation::paths(row, version, &type_of));
        self.object(items);
    }

    fn components(&mut self, all: &[&Resource], own: &[&Resource], schemas: &Schemas, version: Version) {
        let kinds = kinds(all, own, schemas);
        let more = ["DeleteOptions", "Patch", "Status", "APIResourceList", "ObjectMeta", "ListMeta"]
            .map(|name| format!("{META}.{name}"));
        let roots = kinds.keys().chain(&more).filter_map(|name| schemas.get(name));
        let types = component::reachable(schemas, roots.collect::<Vec<Schema<'_>>>());
        let none: &[Value] = &[];
        // `Patch` is an object of any form: no structure, and so not among the types that are reached.
        let patch = schemas.types().iter().filter(|t| t.name == more[1]);
        let scalars = schemas.types().iter().filter(|t| !matches!(t.shape, crate::schema::Node::Struct(_)));
        let known: BTreeSet<&str> = types.iter().map(|t| t.name.as_ref()).collect();
        let extra: Vec<_> = scalars.chain(patch).filter(|t| !known.contains(t.name.as_ref())).collect();
        let mut written = BTreeSet::new();
        let each =
            types.into_iter().chain(extra).filter(|t| written.insert(t.name.to_string())).map(|this| {
                let kinds = kinds.get(this.name.as_ref()).map_or(none, Vec::as_slice);
                (this.name.to_string(), component::component(schemas, this, version, kinds))
            });
        let customs =
            own.iter().filter_map(|row| Some(custom::components(row, custom_type(row)?, schemas, version)));
        self.object(each.chain(customs.flatten()));
    }
}

/// The name of the type of a custom row.
fn custom_type(row: &Resource) -> Option<&str> {
    match &row.schema {
        SchemaRef::Own { root, .. } => Some(root),
        SchemaRef::BuiltIn(_) => None,
    }
}

/// The kinds of the types that rows and their subresources speak of.
fn kinds(all: &[&Resource], own: &[&Resource], schemas: &Schemas) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut add = |name: String, gvk: &GroupVersionKind| {
        let value = gvk_value(gvk);
        let known = found.entry(name).or_default();
        if !known.contains(&value) {
            known.push(value);
        }
    };
    for row in own {
        if let Some(schema) = row.built_in_schema() {
            add(schema.to_string(), &row.gvk);
            if row.verbs.contains(&"list") {
                let list = GroupVersionKind { kind: row.list_kind(), ..row.gvk.clone() };
                add(format!("{schema}List"), &list);
            }
        }
        for sub in &row.subresources {
            if let Some(name) = type_name(all, schemas, &sub.kind) {
                add(name, &sub.kind);
            }
        }
    }
    let built_in: Vec<&Resource> = all.iter().copied().filter(|row| row.custom.is_none()).collect();
    for gv in group_versions(&built_in) {
        let options = GroupVersionKind { group: gv.group, version: gv.version, kind: "DeleteOptions".into() };
        add(format!("{META}.DeleteOptions"), &options);
    }
    add(format!("{META}.Status"), &GroupVersionKind::new("", "v1", "Status"));
    found
}

/// The name of a kind's type: that of its row, or else the type of that name in the package of its group.
fn type_name(rows: &[&Resource], schemas: &Schemas, gvk: &GroupVersionKind) -> Option<String> {
    if let Some(row) = rows.iter().find(|row| row.gvk == *gvk) {
        if let Some(name) = custom_type(row) {
            return Some(name.to_owned());
        }
        return row.built_in_schema().filter(|name| schemas.get(name).is_some()).map(ToString::to_string);
    }
    let package = match gvk.group.split('.').next() {
        None | Some("") => "core",
        Some(package) => package,
    };
    let name = format!("io.k8s.api.{package}.{}.{}", gvk.version, gvk.kind);
    schemas.get(&name).map(|_| name)
}
