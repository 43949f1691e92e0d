//! A CustomResourceDefinition in typed form, as far as serving its resources goes.

use super::structural::{Structural, Unsupported};
use crate::resource::{GroupVersionKind, Scope, Str};
use serde_json::Value;
use std::sync::Arc;

/// What a CustomResourceDefinition says of the resources it defines. Read from an object that passed validation;
/// what is missing reads as empty.
#[derive(Clone, Debug)]
pub struct Definition {
    /// API group.
    pub group: Str,
    /// Whether objects live in namespaces.
    pub scope: Scope,
    /// Names that are asked for (`spec.names`).
    pub names: Names,
    /// Names that are accepted (`status.acceptedNames`); empty ones until that is decided.
    pub accepted: Names,
    /// All versions, in their order.
    pub versions: Vec<Version>,
    /// How objects are brought from one version to another.
    pub conversion: Conversion,
    /// `spec.preserveUnknownFields`: nothing is pruned (objects from the time before v1).
    pub preserve_unknown: bool,
}

/// `CustomResourceDefinitionNames`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// `crontabs`.
    pub plural: String,
    /// `crontab`.
    pub singular: String,
    /// `ct`.
    pub short_names: Vec<String>,
    /// `CronTab`.
    pub kind: String,
    /// `CronTabList`.
    pub list_kind: String,
    /// `all`.
    pub categories: Vec<String>,
}

/// One version of a CustomResourceDefinition.
#[derive(Clone, Debug)]
pub struct Version {
    /// `v1beta1`.
    pub name: Str,
    /// Whether clients may ask for it.
    pub served: bool,
    /// Whether objects are stored in it.
    pub storage: bool,
    /// Whether clients are warned.
    pub deprecated: bool,
    /// What they are told; none is upstream's sentence ([`Definition::deprecation`]).
    pub warning: Option<String>,
    /// The schema, with its tree; none where the definition has none.
    pub schema: Option<Arc<Structural>>,
    /// Whether `status` is a subresource.
    pub status: bool,
    /// The `scale` subresource.
    pub scale: Option<Scale>,
    /// `additionalPrinterColumns`.
    pub columns: Vec<PrinterColumn>,
    /// `selectableFields`: simple paths, without the leading point, as field selectors name them.
    pub selectable: Vec<Str>,
}

/// Where an object keeps what `Scale` shows; simple paths with a leading point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Below `.spec`.
    pub spec_replicas: String,
    /// Below `.status`.
    pub status_replicas: String,
    /// Below `.spec` or `.status`; none for no selector.
    pub selector: Option<String>,
}

/// One of `additionalPrinterColumns`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrinterColumn {
    /// Header.
    pub name: String,
    /// OpenAPI type, or `date`.
    pub kind: String,
    /// OpenAPI format; may be empty.
    pub format: String,
    /// For people; may be empty.
    pub description: String,
    /// 0 shows always.
    pub priority: i32,
    /// Which value.
    pub json_path: String,
}

/// `spec.conversion`.
#[derive(Clone, Debug, PartialEq)]
pub enum Conversion {
    /// Only `apiVersion` changes.
    None,
    /// A webhook converts.
    Webhook {
        /// `clientConfig`, as the definition has it.
        client: Value,
        /// Versions of ConversionReview that the webhook understands, those it likes best first.
        review_versions: Vec<String>,
    },
}

impl Definition {
    /// Reads a definition. An error says that a schema is not one that can be served; validation of definitions
    /// keeps such out.
    pub fn read(object: &Value) -> Result<Self, Unsupported> {
        let empty = Value::Null;
        let spec = object.get("spec").unwrap_or(&empty);
        let names = |tree: Option<&Value>| Names::read(tree.unwrap_or(&Value::Null));
        let versions = spec.get("versions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Ok(Definition {
            group: text(spec, "group").into(),
            scope: if text(spec, "scope") == "Namespaced" { Scope::Namespaced } else { Scope::Cluster },
            names: names(spec.get("names")),
            accepted: names(object.pointer("/status/acceptedNames")),
            versions: versions.iter().map(Version::read).collect::<Result<_, _>>()?,
            conversion: Conversion::read(spec.get("conversion").unwrap_or(&empty)),
            preserve_unknown: flag(spec, "preserveUnknownFields"),
        })
    }

    /// The version of that name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name)
    }

    /// The version that objects are stored in.
    pub fn storage(&self) -> Option<&Version> {
        self.versions.iter().find(|v| v.storage)
    }

    /// Group, version and kind of objects in a version, by the accepted names.
    pub fn gvk(&self, version: &str) -> GroupVersionKind {
        let kind = if self.accepted.kind.is_empty() { &self.names.kind } else { &self.accepted.kind };
        GroupVersionKind::new(self.group.clone(), version.to_owned(), kind.clone())
    }

    /// The warning that clients of a version get; none where it is not deprecated.
    pub fn deprecation(&self, version: &str) -> Option<String> {
        let this = self.version(version).filter(|v| v.deprecated)?;
        if let Some(warning) = &this.warning {
            return Some(warning.clone());
        }
        let (group, kind) = (&self.group, &self.names.kind);
        let better = self
            .versions
            .iter()
            .filter(|v| v.served && !v.deprecated && super::precedence(&v.name) > super::precedence(version))
            .max_by_key(|v| super::precedence(&v.name));
        let message = format!("{group}/{version} {kind} is deprecated");
        Some(match better {
            Some(better) => format!("{message}; use {group}/{} {kind}", better.name),
            None => message,
        })
    }
}

impl Names {
    /// Reads names.
    pub fn read(tree: &Value) -> Self {
        Names {
            plural: text(tree, "plural"),
            singular: text(tree, "singular"),
            short_names: texts(tree, "shortNames"),
            kind: text(tree, "kind"),
            list_kind: text(tree, "listKind"),
            categories: texts(tree, "categories"),
        }
    }

    /// As `status.acceptedNames` has them.
    pub fn to_value(&self) -> Value {
        let mut map = serde_json::Map::new();
        for (key, text) in [("plural", &self.plural), ("kind", &self.kind)] {
            map.insert(key.into(), text.as_str().into());
        }
        for (key, text) in [("singular", &self.singular), ("listKind", &self.list_kind)] {
            if !text.is_empty() {
                map.insert(key.into(), text.as_str().into());
            }
        }
        for (key, list) in [("shortNames", &self.short_names), ("categories", &self.categories)] {
            if !list.is_empty() {
                map.insert(key.into(), list.clone().into());
            }
        }
        Value::Object(map)
    }
}

impl Version {
    fn read(tree: &Value) -> Result<Self, Unsupported> {
        let schema = tree.pointer("/schema/openAPIV3Schema").filter(|s| !s.is_null());
        let list = |key: &str| tree.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let path = |field: &Value| text(field, "jsonPath").trim_start_matches('.').to_owned().into();
        Ok(Version {
            name: text(tree, "name").into(),
            served: flag(tree, "served"),
            storage: flag(tree, "storage"),
            deprecated: flag(tree, "deprecated"),
            warning: tree.get("deprecationWarning").and_then(Value::as_str).map(str::to_owned),
            schema: schema.map(|tree| Structural::parse(tree).map(Arc::new)).transpose()?,
            status: tree.pointer("/subresources/status").is_some_and(|s| !s.is_null()),
            scale: tree.pointer("/subresources/scale").filter(|s| !s.is_null()).map(Scale::of),
            columns: list("additionalPrinterColumns").iter().map(PrinterColumn::read).collect(),
            selectable: list("selectableFields").iter().map(path).collect(),
        })
    }
}

impl Scale {
    fn of(tree: &Value) -> Self {
        Scale {
            spec_replicas: text(tree, "specReplicasPath"),
            status_replicas: text(tree, "statusReplicasPath"),
            selector: Some(text(tree, "labelSelectorPath")).filter(|p| !p.is_empty()),
        }
    }
}

impl PrinterColumn {
    fn read(tree: &Value) -> Self {
        PrinterColumn {
            name: text(tree, "name"),
            kind: text(tree, "type"),
            format: text(tree, "format"),
            description: text(tree, "description"),
            priority: tree.get("priority").and_then(Value::as_i64).unwrap_or(0) as i32,
            json_path: text(tree, "jsonPath"),
        }
    }
}

impl Conversion {
    fn read(tree: &Value) -> Self {
        if text(tree, "strategy") != "Webhook" {
            return Conversion::None;
        }
        let webhook = tree.get("webhook").unwrap_or(&Value::Null);
        Conversion::Webhook {
            client: webhook.get("clientConfig").cloned().unwrap_or(Value::Null),
            review_versions: texts(webhook, "conversionReviewVersions"),
        }
    }
}

fn text(tree: &Value, key: &str) -> String {
    tree.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn flag(tree: &Value, key: &str) -> bool {
    tree.get(key) == Some(&Value::Bool(true))
}

fn texts(tree: &Value, key: &str) -> Vec<String> {
    let list = tree.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}
