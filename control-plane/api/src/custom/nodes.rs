//! A schema of a custom resource as the table that server-side apply works with.

use super::structural::{Additional, Kind, List, MapType, Structural};
use crate::resource::Str;
use crate::schema::{Doc, Field, ListType, Merge, Node, Schemas, Type};
use serde_json::Value;
use std::collections::BTreeMap;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The types of a resource; the first is that of the resource, of the name given. `preserve` says that unknown fields
/// stay anywhere. Without a schema, everything is deduced from what is there.
pub(super) fn compile(name: &str, schema: Option<&Structural>, preserve: bool) -> (Vec<Type>, Vec<Node>) {
    let mut builder = Builder { types: Vec::new(), nodes: Vec::new(), copied: BTreeMap::new() };
    let nothing = Structural { kind: Kind::Object, preserve_unknown: true, ..Structural::default() };
    let root = schema.unwrap_or(&nothing).as_root();
    builder.object(name, &root, preserve);
    (builder.types, builder.nodes)
}

struct Builder {
    types: Vec<Type>,
    nodes: Vec<Node>,
    /// Built-in types that were taken over, by name.
    copied: BTreeMap<String, u32>,
}

fn index(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl Builder {
    /// What values of a schema are. That unknown fields stay holds of all that lies below, too.
    fn node(&mut self, name: &str, schema: &Structural, preserve: bool) -> Node {
        let preserve = preserve || schema.preserve_unknown;
        match schema.kind {
            _ if schema.int_or_string => Node::IntOrString,
            Kind::String => Node::String,
            Kind::Integer => Node::Int64,
            Kind::Number => Node::Number,
            Kind::Boolean => Node::Bool,
            Kind::Array => {
                let element = match schema.items.as_deref() {
                    Some(items) => self.node(&format!("{name}[]"), items, preserve),
                    None => Node::Any,
                };
                let list = match schema.list {
                    Some(List::Set) => ListType::Set,
                    Some(List::Map) => {
                        ListType::Map(schema.map_keys.iter().map(|key| Str::from(key.clone())).collect())
                    }
                    Some(List::Atomic) | None => ListType::Atomic,
                };
                Node::List(self.push(element), list)
            }
            Kind::Object | Kind::Any if schema.embedded || !schema.properties.is_empty() => {
                self.object(name, schema, preserve)
            }
            Kind::Object | Kind::Any => {
                let atomic = schema.map == Some(MapType::Atomic);
                match &schema.additional {
                    Some(Additional::Schema(further)) => {
                        let element = self.node(&format!("{name}.*"), further, preserve);
                        Node::Map(self.push(element), atomic)
                    }
                    Some(Additional::Allowed(false)) => self.object(name, schema, preserve),
                    Some(Additional::Allowed(true)) | None if atomic => Node::Any,
                    Some(Additional::Allowed(true)) | None => Node::Deduced,
                }
            }
        }
    }

    fn push(&mut self, node: Node) -> u32 {
        match self.nodes.iter().position(|known| *known == node) {
            Some(at) => index(at),
            None => {
                self.nodes.push(node);
                index(self.nodes.len() - 1)
            }
        }
    }

    /// A structure: fields that are named, and perhaps others.
    fn object(&mut self, name: &str, schema: &Structural, preserve: bool) -> Node {
        let at = self.types.len();
        let shape = Node::Struct(index(at));
        let preserve = preserve || schema.preserve_unknown;
        let open = match &schema.additional {
            None => preserve || (schema.properties.is_empty() && !schema.embedded),
            Some(Additional::Allowed(allowed)) => *allowed,
            Some(Additional::Schema(_)) => true,
        };
        self.types.push(Type {
            name: name.to_owned().into(),
            doc: Doc::default(),
            shape: shape.clone(),
            fields: Vec::new().into(),
            atomic: schema.map == Some(MapType::Atomic),
            open,
            unions: None,
        });
        let mut fields: BTreeMap<Str, Field> = BTreeMap::new();
        for (field, inner) in &schema.properties {
            let node = self.node(&format!("{name}.{field}"), inner, preserve);
            let default = inner.default.as_ref().map(Value::to_string);
            fields.insert(field.clone().into(), plain(field, node, default));
        }
        if schema.embedded {
            for field in ["apiVersion", "kind"] {
                fields.insert(field.into(), plain(field, Node::String, None));
            }
            let builtin = Schemas::builtin();
            if let Some(Node::Struct(meta)) = builtin.get(OBJECT_META).map(|schema| schema.node()) {
                let node = self.copy(builtin, &Node::Struct(*meta));
                fields.insert("metadata".into(), plain("metadata", node, None));
            }
        }
        if let Some(this) = self.types.get_mut(at) {
            this.fields = fields.into_values().collect();
        }
        shape
    }

    /// Takes a built-in type over, with all that it reaches.
    fn copy(&mut self, set: &Schemas, node: &Node) -> Node {
        match node {
            Node::Struct(at) => match set.type_at(*at) {
                Some(this) if matches!(this.shape, Node::Struct(_)) => self.copy_type(set, this),
                Some(this) => this.shape.clone(),
                None => Node::Any,
            },
            Node::List(at, list) => {
                let element = set.node_at(*at).map_or(Node::Any, |inner| self.copy(set, inner));
                Node::List(self.push(element), list.clone())
            }
            Node::Map(at, atomic) => {
                let element = set.node_at(*at).map_or(Node::Any, |inner| self.copy(set, inner));
                Node::Map(self.push(element), *atomic)
            }
            scalar => scalar.clone(),
        }
    }

    fn copy_type(&mut self, set: &Schemas, this: &Type) -> Node {
        if let Some(at) = self.copied.get(this.name.as_ref()) {
            return Node::Struct(*at);
        }
        let at = self.types.len();
        let shape = Node::Struct(index(at));
        self.copied.insert(this.name.to_string(), index(at));
        self.types.push(Type { shape: shape.clone(), doc: Doc::default(), ..this.clone() });
        let field = |builder: &mut Self, field: &Field| Field {
            node: builder.copy(set, &field.node),
            doc: Doc::default(),
            ..field.clone()
        };
        let fields: Vec<Field> = this.fields.iter().map(|f| field(self, f)).collect();
        if let Some(copy) = self.types.get_mut(at) {
            copy.fields = fields.into();
        }
        shape
    }
}

fn plain(name: &str, node: Node, default: Option<String>) -> Field {
    Field {
        name: name.to_owned().into(),
        doc: Doc::default(),
        node,
        required: false,
        value: false,
        published: default.is_some(),
        default: default.map(Str::from),
        zero: None,
        merge: Merge::default(),
        go: None,
        inline: None,
        granular: false,
    }
}
