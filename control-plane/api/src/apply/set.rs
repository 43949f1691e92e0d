//! Sets of fields, as `managedFields` writes them (`FieldsV1`).

use crate::schema::Schema;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// One step of a path. The order is that of the wire: fields, keyed items, set items, indices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Element {
    /// `f:NAME`: a field of a structure or key of a map.
    Field(Box<str>),
    /// `k:{…}`: the item of a list with these key fields, as canonical JSON.
    Key(Box<str>),
    /// `v:…`: the item of a set with this value, as canonical JSON.
    Value(Box<str>),
    /// `i:N`: the item of a list at this place.
    Index(u64),
}

impl Element {
    fn parse(text: &str) -> Result<Option<Self>, String> {
        let (kind, rest) = text.split_once(':').ok_or_else(|| format!("missing colon: {text}"))?;
        let canonical = || {
            let value: Value = serde_json::from_str(rest).map_err(|e| format!("{text}: {e}"))?;
            Ok::<_, String>(value.to_string().into_boxed_str())
        };
        Ok(Some(match kind {
            "f" => Element::Field(rest.into()),
            "k" => Element::Key(canonical()?),
            "v" => Element::Value(canonical()?),
            "i" => Element::Index(rest.parse().map_err(|e| format!("{text}: {e}"))?),
            // Kinds of a later version say nothing to this one.
            _ => return Ok(None),
        }))
    }

    pub(super) fn wire(&self) -> String {
        match self {
            Element::Field(name) => format!("f:{name}"),
            Element::Key(json) => format!("k:{json}"),
            Element::Value(json) => format!("v:{json}"),
            Element::Index(at) => format!("i:{at}"),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(json) => {
                let fields: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
                let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "[{}]", fields.join(","))
            }
            Element::Value(json) => write!(f, "[={json}]"),
            Element::Index(at) => write!(f, "[{at}]"),
        }
    }
}

/// A path as messages show it: `.spec.containers[name="a"].image`.
pub(super) fn shown(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// A set of fields. No node is without members in or below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet(BTreeMap<Element, Node>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: FieldSet,
}

impl Node {
    fn some(self) -> Option<Self> {
        (self.member || !self.below.is_empty()).then_some(self)
    }
}

impl FieldSet {
    /// Reads `fieldsV1`.
    pub(super) fn decode(fields: &Value) -> Result<Self, String> {
        let map = fields.as_object().ok_or("fieldsV1 is not an object")?;
        let mut set = FieldSet::default();
        for (key, value) in map {
            if key == "." {
                continue;
            }
            let Some(element) = Element::parse(key)? else { continue };
            let inner = value.as_object().ok_or_else(|| format!("{key} is not an object"))?;
            let node =
                Node { member: inner.is_empty() || inner.contains_key("."), below: FieldSet::decode(value)? };
            if let Some(node) = node.some() {
                set.0.insert(element, node);
            }
        }
        Ok(set)
    }

    /// Writes `fieldsV1`.
    pub(super) fn encode(&self) -> Value {
        let fields = self.0.iter().map(|(element, node)| {
            let mut below = node.below.encode();
            if let (true, Some(map)) = (node.member, below.as_object_mut())
                && !map.is_empty()
            {
                map.insert(".".into(), json!({}));
            }
            (element.wire(), below)
        });
        Value::Object(fields.collect())
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a field; the object as a whole is nobody's.
    pub(super) fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = self.0.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// The fields below an element.
    pub(super) fn below(&self, element: &Element) -> Option<&FieldSet> {
        self.0.get(element).map(|node| &node.below).filter(|set| !set.is_empty())
    }

    /// Whether a direct child is in it.
    pub(super) fn has(&self, element: &Element) -> bool {
        self.0.get(element).is_some_and(|node| node.member)
    }

    /// Takes the field at a dotted path out, with all that is below.
    pub(super) fn forget(&mut self, path: &str) {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let element = Element::Field(first.into());
        match (self.0.get_mut(&element), rest) {
            (Some(node), Some(rest)) => {
                node.below.forget(rest);
                if !node.member && node.below.is_empty() {
                    self.0.remove(&element);
                }
            }
            (Some(_), None) => drop(self.0.remove(&element)),
            (None, _) => {}
        }
    }

    /// What is in one or the other.
    pub(super) fn union(&self, other: &FieldSet) -> FieldSet {
        let mut all = self.clone();
        for (element, node) in &other.0 {
            let mine = all.0.entry(element.clone()).or_default();
            mine.member |= node.member;
            mine.below = mine.below.union(&node.below);
        }
        all
    }

    fn combine(&self, other: &FieldSet, with: &dyn Fn(&Node, Option<&Node>) -> Node) -> FieldSet {
        let nodes = self.0.iter().filter_map(|(element, node)| {
            with(node, other.0.get(element)).some().map(|node| (element.clone(), node))
        });
        FieldSet(nodes.collect())
    }

    /// What is in both.
    pub(super) fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, &|mine, theirs| match theirs {
            Some(theirs) => {
                Node { member: mine.member && theirs.member, below: mine.below.intersection(&theirs.below) }
            }
            None => Node::default(),
        })
    }

    /// What is in this one only. Each field counts by itself: a parent takes no child with it.
    pub(super) fn difference(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, &|mine, theirs| match theirs {
            Some(theirs) => {
                Node { member: mine.member && !theirs.member, below: mine.below.difference(&theirs.below) }
            }
            None => mine.clone(),
        })
    }

    /// The same, with the fields of structures that lie on the way to its members.
    pub(super) fn with_parents(&self, schema: Option<Schema<'_>>) -> FieldSet {
        let nodes = self.0.iter().map(|(element, node)| {
            let (named, inner) = match element {
                Element::Field(name) => match schema.and_then(|s| s.field(name)) {
                    Some((_, inner)) => (true, Some(inner)),
                    None => (false, schema.and_then(|s| s.element().or_else(|| s.further()))),
                },
                _ => (false, schema.and_then(Schema::element)),
            };
            (element.clone(), Node { member: node.member || named, below: node.below.with_parents(inner) })
        });
        FieldSet(nodes.collect())
    }

    /// The paths in it: what is in a level first, then what is below.
    pub(super) fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.gather(&mut Vec::new(), &mut paths);
        paths
    }

    fn gather(&self, prefix: &mut Vec<Element>, paths: &mut Vec<Vec<Element>>) {
        for element in self.0.iter().filter(|(_, node)| node.member).map(|(element, _)| element) {
            let mut path = prefix.clone();
            path.push(element.clone());
            paths.push(path);
        }
        for (element, node) in &self.0 {
            prefix.push(element.clone());
            node.below.gather(prefix, paths);
            prefix.pop();
        }
    }
}
