//! Valid objects of all important kinds, from small to rich.

use super::{LIMITED, NAMESPACE};
use anyhow::{Context, bail};
use serde_json::Value;
use skep_api::kinds::ResourceTable;
use skep_api::schema::{self, Format};
use skep_api::{GroupVersion, GroupVersionKind, Resource, Schema};
use std::sync::Arc;

/// The documents, by the name of their file.
const FILES: &[(&str, &str)] = &[
    ("pods", include_str!("objects/pods.yaml")),
    ("workloads", include_str!("objects/workloads.yaml")),
    ("network", include_str!("objects/network.yaml")),
    ("storage", include_str!("objects/storage.yaml")),
    ("small", include_str!("objects/small.yaml")),
    ("custom", include_str!("objects/custom.yaml")),
];

/// Group of the custom resource whose definition is made before all.
pub(super) const GROUP: &str = "differential.example.com";

/// A valid object.
pub struct Example {
    /// File that it is from.
    pub file: &'static str,
    /// Kind and its own name: `Pod/rich`.
    pub name: String,
    /// The object.
    pub object: Value,
    /// Group, version and kind.
    pub gvk: GroupVersionKind,
    plural: String,
    namespaced: bool,
    /// The row of the kind; none for a custom resource.
    row: Option<Arc<Resource>>,
}

impl Example {
    /// The path that objects of the kind are created at.
    pub fn collection(&self) -> String {
        let base = match &*self.gvk.group {
            "" => format!("/api/{}", self.gvk.version),
            group => format!("/apis/{group}/{}", self.gvk.version),
        };
        let namespace = if self.limits() { LIMITED } else { NAMESPACE };
        if self.namespaced {
            format!("{base}/namespaces/{namespace}/{}", self.plural)
        } else {
            format!("{base}/{}", self.plural)
        }
    }

    /// Whether others feel it in their namespace.
    fn limits(&self) -> bool {
        matches!(&*self.gvk.kind, "LimitRange" | "ResourceQuota")
    }

    /// Whether it is a custom resource.
    pub fn custom(&self) -> bool {
        self.row.is_none()
    }

    /// Whether there is a subresource `status`.
    pub fn has_status(&self) -> bool {
        self.row.as_ref().is_none_or(|row| row.has_status())
    }

    /// The schema of the kind; none of a custom resource.
    pub fn schema(&self) -> Option<Schema<'_>> {
        self.row.as_ref()?.schema().ok()
    }

    /// The same with a name that no other case has, and its path.
    pub fn numbered(&self, number: usize) -> (Value, String) {
        let mut object = self.object.clone();
        let name = self.object["metadata"]["name"].as_str().unwrap_or_default();
        let group = self.object["spec"]["group"].as_str().unwrap_or_default();
        let name = match &*self.gvk.kind {
            "CustomResourceDefinition" => {
                let names = &mut object["spec"]["names"];
                for key in ["plural", "singular", "kind", "listKind"] {
                    if let Some(text) = names[key].as_str() {
                        names[key] = format!("{text}{number}").into();
                    }
                }
                if let Some(names) = names.as_object_mut() {
                    names.remove("shortNames");
                }
                format!("{}.{group}", names["plural"].as_str().unwrap_or_default())
            }
            "APIService" => {
                let version = format!("v{}", number + 1);
                object["spec"]["version"] = version.as_str().into();
                format!("{version}.{group}")
            }
            "IPAddress" => format!("198.18.{}.{}", number / 250, number % 250 + 1),
            _ => format!("{name}-{number}"),
        };
        // What only one Service can have.
        if let Some(port) = object.pointer_mut("/spec/ports/0/nodePort") {
            *port = (30_000 + number).into();
        }
        if let Some(address) = object.pointer_mut("/spec/clusterIP").filter(|address| *address != "None") {
            *address = format!("10.96.77.{}", number % 250 + 1).into();
        }
        object["metadata"]["name"] = name.as_str().into();
        let path = format!("{}/{name}", self.collection());
        (object, path)
    }
}

/// All examples.
///
/// # Errors
/// A document that is not YAML, or of an unknown kind.
pub fn examples() -> anyhow::Result<Vec<Example>> {
    let table = ResourceTable::builtin();
    let mut all = Vec::new();
    for (file, text) in FILES {
        for document in text.split("\n---\n") {
            let read =
                schema::decode(document.as_bytes(), Format::Yaml).with_context(|| document.to_owned())?;
            all.push(example(&table, file, read.value).with_context(|| document.to_owned())?);
        }
    }
    Ok(all)
}

fn example(table: &ResourceTable, file: &'static str, object: Value) -> anyhow::Result<Example> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = GroupVersion::parse(&text(&object["apiVersion"]));
    let gvk = GroupVersionKind::new(version.group, version.version, text(&object["kind"]));
    let name = format!("{}/{}", gvk.kind, text(&object["metadata"]["name"]));
    let (plural, namespaced, row) = match table.by_kind(&gvk) {
        Some(row) => (row.plural.to_string(), row.namespaced(), Some(row.clone())),
        None if &*gvk.group == GROUP => ("things".to_owned(), true, None),
        None => bail!("{name} is of no kind in the table"),
    };
    Ok(Example { file, name, object, gvk, plural, namespaced, row })
}

/// The definition of the custom resource of the cases.
pub(super) fn thing() -> anyhow::Result<Value> {
    let read = schema::decode(include_bytes!("objects/thing.yaml"), Format::Yaml);
    Ok(read.context("thing.yaml")?.value)
}
