//! Trees as server-side apply sees them: what is one value, and what is made of parts with owners of their own.

use super::set::{Element, FieldSet};
use crate::schema::{ListType, Schema};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What differs between two trees.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
    /// Whether an item of a list has nothing that tells it from the others.
    pub(super) unkeyed: bool,
}

/// How the parts of a value are owned.
pub(super) enum Parts<'a> {
    /// It is one value.
    None,
    /// By field, or by key of a map.
    Fields,
    /// By item.
    Items(&'a ListType),
}

pub(super) type Kind<'a> = Option<Schema<'a>>;

pub(super) fn parts(kind: Kind<'_>) -> Parts<'_> {
    use crate::schema::Node;
    let Some(schema) = kind else { return Parts::None };
    match schema.node() {
        Node::Struct(_) if !schema.atomic() => Parts::Fields,
        Node::Deduced => Parts::Fields,
        Node::Map(_, false) => Parts::Fields,
        Node::List(_, ListType::Atomic) => Parts::None,
        Node::List(_, list) => Parts::Items(list),
        _ => Parts::None,
    }
}

pub(super) fn child<'a>(kind: Kind<'a>, name: &str) -> Kind<'a> {
    let schema = kind?;
    match schema.structure() {
        Some(_) => schema.field(name).map(|(_, inner)| inner).or_else(|| schema.further()),
        None => schema.element().or_else(|| schema.further()),
    }
}

pub(super) fn element(kind: Kind<'_>) -> Kind<'_> {
    kind.and_then(Schema::element)
}

/// What tells an item from the others; none where it has no key at all.
fn identity(list: &ListType, item: Kind<'_>, value: &Value) -> Option<Element> {
    match list {
        ListType::Atomic => None,
        ListType::Set => Some(Element::Value(value.to_string().into())),
        ListType::Map(keys) => {
            let mut found = Map::new();
            for key in keys.iter() {
                let given = value.get(key.as_ref()).filter(|v| !v.is_null()).cloned();
                let default = || {
                    let (field, _) = item?.field(key)?;
                    let text = field.default.as_deref().filter(|_| field.published)?;
                    serde_json::from_str(text).ok()
                };
                if let Some(value) = given.or_else(default) {
                    found.insert(key.to_string(), value);
                }
            }
            (!found.is_empty()).then(|| Element::Key(Value::Object(found).to_string().into()))
        }
    }
}

/// The items of a list by identity, and the order of the identities.
pub(super) struct Index<'v> {
    pub(super) order: Vec<Element>,
    items: BTreeMap<Element, Vec<&'v Value>>,
}

impl<'v> Index<'v> {
    /// None where the value is no list, or has items without identity.
    pub(super) fn of(list: &ListType, kind: Kind<'_>, value: Option<&'v Value>) -> Option<Self> {
        let mut index = Index { order: Vec::new(), items: BTreeMap::new() };
        let values = match value {
            None | Some(Value::Null) => return Some(index),
            Some(Value::Array(values)) => values,
            Some(_) => return None,
        };
        for value in values {
            let identity = identity(list, kind, value)?;
            let group = index.items.entry(identity.clone()).or_default();
            if group.is_empty() {
                index.order.push(identity);
            }
            group.push(value);
        }
        Some(index)
    }

    pub(super) fn group(&self, identity: &Element) -> &[&'v Value] {
        self.items.get(identity).map(Vec::as_slice).unwrap_or_default()
    }

    /// The item, where there is exactly one.
    fn single(&self, identity: &Element) -> Option<&'v Value> {
        match self.group(identity) {
            [one] => Some(one),
            _ => None,
        }
    }
}

fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

pub(super) fn is_map_or_none(value: Option<&Value>) -> bool {
    matches!(value, None | Some(Value::Null | Value::Object(_)))
}

/// Whether there is nothing in a map or list.
pub(super) fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

/// Compares two trees of a kind.
pub(super) fn compare(schema: Schema<'_>, left: &Value, right: &Value) -> Comparison {
    let mut found = Comparison::default();
    walk(Some(schema), Some(left), Some(right), &mut Vec::new(), &mut found);
    found
}

fn walk(
    kind: Kind<'_>,
    left: Option<&Value>,
    right: Option<&Value>,
    path: &mut Vec<Element>,
    found: &mut Comparison,
) {
    if left == right {
        return;
    }
    let whole = is_empty(left) && is_empty(right);
    match parts(kind) {
        Parts::Fields if !whole && is_map_or_none(left) && is_map_or_none(right) => {
            let (l, r) = (fields(left), fields(right));
            let more = r.into_iter().flatten().filter(|(key, _)| l.is_none_or(|l| !l.contains_key(*key)));
            for key in l.into_iter().flatten().chain(more).map(|(key, _)| key) {
                path.push(Element::Field(key.as_str().into()));
                let (was, is) = (l.and_then(|l| l.get(key)), r.and_then(|r| r.get(key)));
                // Within what is there.
                let always = always_there(kind, key);
                let (was, is) = (was.or(left.and(always)), is.or(right.and(always)));
                walk(child(kind, key), was, is, path, found);
                path.pop();
            }
        }
        Parts::Items(list) if !whole => {
            let item = element(kind);
            let (Some(l), Some(r)) = (Index::of(list, item, left), Index::of(list, item, right)) else {
                found.unkeyed = true;
                return leaf(left, right, path, found);
            };
            let more = r.order.iter().filter(|identity| !l.items.contains_key(identity));
            for identity in l.order.iter().chain(more) {
                let (was, is) = (l.group(identity), r.group(identity));
                path.push(identity.clone());
                if was.len() > 1 || is.len() > 1 {
                    if was != is {
                        leaf(was.first().copied(), is.first().copied(), path, found);
                    }
                } else {
                    walk(item, was.first().copied(), is.first().copied(), path, found);
                }
                path.pop();
            }
        }
        _ => return leaf(left, right, path, found),
    }
    if left.is_none() {
        found.added.insert(path);
    } else if right.is_none() {
        found.removed.insert(path);
    }
}

/// What Go sees where nothing is written: an empty structure for fields that are no pointers, null for what it always writes.
pub(super) fn always_there(kind: Kind<'_>, field: &str) -> Option<&'static Value> {
    static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
    let (field, inner) = kind?.field(field)?;
    if field.default.as_deref() == Some("null") {
        return Some(&Value::Null);
    }
    (field.zero.as_deref() == Some("{}") && inner.structure().is_some()).then_some(&*EMPTY)
}

fn leaf(left: Option<&Value>, right: Option<&Value>, path: &[Element], found: &mut Comparison) {
    match (left, right) {
        (None, _) => found.added.insert(path),
        (_, None) => found.removed.insert(path),
        _ => found.modified.insert(path),
    }
}

/// The fields that a tree names.
pub(super) fn field_set(schema: Schema<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    name_fields(Some(schema), value, &mut Vec::new(), &mut set);
    set
}

fn name_fields(kind: Kind<'_>, value: &Value, path: &mut Vec<Element>, set: &mut FieldSet) {
    match (parts(kind), value) {
        (Parts::None, _) => set.insert(path),
        (Parts::Fields, Value::Object(map)) => {
            for (key, value) in map {
                path.push(Element::Field(key.as_str().into()));
                name_fields(child(kind, key), value, path, set);
                let named = kind.is_some_and(|s| s.field(key).is_some());
                if !named || value.is_null() || value.as_object().is_some_and(Map::is_empty) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Parts::Items(list), Value::Array(items)) => {
            for value in items {
                let Some(identity) = identity(list, element(kind), value) else { continue };
                path.push(identity);
                name_fields(element(kind), value, path, set);
                set.insert(path);
                path.pop();
            }
        }
        // Where anything may stand, what has no fields is one value.
        (Parts::Fields, value) if !value.is_null() => set.insert(path),
        _ => {}
    }
}

/// What is wrong with the items of a tree's lists: a path and why.
pub(super) fn wrong_items(schema: Schema<'_>, value: &Value) -> Option<(Vec<Element>, String)> {
    let mut path = Vec::new();
    wrong_below(Some(schema), value, &mut path).map(|why| (path, why))
}

fn wrong_below(kind: Kind<'_>, value: &Value, path: &mut Vec<Element>) -> Option<String> {
    match (parts(kind), value) {
        (Parts::Fields, Value::Object(map)) => {
            for (key, value) in map {
                path.push(Element::Field(key.as_str().into()));
                let wrong = wrong_below(child(kind, key), value, path);
                if wrong.is_some() {
                    return wrong;
                }
                path.pop();
            }
        }
        (Parts::Items(list), Value::Array(items)) => {
            let mut seen = Vec::new();
            for (at, value) in items.iter().enumerate() {
                let Some(identity) = identity(list, element(kind), value) else {
                    return Some(format!(
                        "element {at}: associative list with keys has an element that omits all key fields"
                    ));
                };
                if seen.contains(&identity) {
                    return Some(format!("duplicate entries for key {identity}"));
                }
                seen.push(identity.clone());
                path.push(identity);
                let wrong = wrong_below(element(kind), value, path);
                if wrong.is_some() {
                    return wrong;
                }
                path.pop();
            }
        }
        _ => {}
    }
    None
}

/// Merges what is applied into what is there.
pub(super) fn merge(schema: Schema<'_>, live: &Value, applied: &Value) -> Value {
    merged(Some(schema), live, applied)
}

fn merged(kind: Kind<'_>, live: &Value, applied: &Value) -> Value {
    if is_empty(Some(live)) && is_empty(Some(applied)) {
        return applied.clone();
    }
    match parts(kind) {
        Parts::Fields if is_map_or_none(Some(live)) && is_map_or_none(Some(applied)) => {
            let mut map = live.as_object().cloned().unwrap_or_default();
            for (key, value) in fields(Some(applied)).into_iter().flatten() {
                let value = match map.get(key) {
                    Some(before) => merged(child(kind, key), before, value),
                    None => value.clone(),
                };
                map.insert(key.clone(), value);
            }
            Value::Object(map)
        }
        Parts::Items(list) => {
            let item = element(kind);
            match (Index::of(list, item, Some(live)), Index::of(list, item, Some(applied))) {
                (Some(live), Some(applied)) => Value::Array(merged_items(item, &live, &applied)),
                _ => applied.clone(),
            }
        }
        _ => applied.clone(),
    }
}

/// The items of both lists: those of the applied one in its order, the others where they stood among them.
fn merged_items(item: Kind<'_>, live: &Index<'_>, applied: &Index<'_>) -> Vec<Value> {
    let mut shared = applied.order.iter().filter(|i| live.items.contains_key(i));
    let mut next = shared.next();
    let (mut l, mut r) = (live.order.iter().peekable(), applied.order.iter().peekable());
    let mut out = Vec::with_capacity(live.order.len().max(applied.order.len()));
    let both = |identity: &Element| {
        let after = applied.group(identity).first().map_or(&Value::Null, |v| *v);
        match live.single(identity) {
            Some(before) => merged(item, before, after),
            None => after.clone(),
        }
    };
    loop {
        if let Some(left) = l.peek().copied() {
            let in_both = applied.items.contains_key(left);
            if in_both && r.peek().is_some_and(|right| *right == left) {
                out.push(both(left));
                l.next();
                r.next();
                next = shared.next();
                continue;
            }
            if in_both && r.peek().is_some() && next.is_some_and(|next| next != left) {
                // Its turn comes with the applied list.
                l.next();
                continue;
            }
            if !in_both {
                out.extend(live.group(left).iter().map(|v| (*v).clone()));
                l.next();
                continue;
            }
        }
        let Some(right) = r.next() else { return out };
        out.push(both(right));
        if next == Some(right) {
            next = shared.next();
        }
    }
}

/// The tree without the fields of a set. What becomes empty on the way is null.
pub(super) fn without(schema: Schema<'_>, value: &Value, set: &FieldSet) -> Value {
    removed(Some(schema), value, set)
}

fn removed(kind: Kind<'_>, value: &Value, set: &FieldSet) -> Value {
    match (parts(kind), value) {
        (Parts::Fields, Value::Object(map)) => {
            let mut kept = Map::new();
            for (key, value) in map {
                let place = Element::Field(key.as_str().into());
                if set.has(&place) {
                    continue;
                }
                let value = match set.below(&place) {
                    Some(below) => removed(child(kind, key), value, below),
                    None => value.clone(),
                };
                kept.insert(key.clone(), value);
            }
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        (Parts::Items(list), Value::Array(items)) => {
            let mut kept = Vec::new();
            for value in items {
                let place = identity(list, element(kind), value);
                if place.as_ref().is_some_and(|place| set.has(place)) {
                    continue;
                }
                kept.push(match place.and_then(|place| set.below(&place)) {
                    Some(below) => removed(element(kind), value, below),
                    None => value.clone(),
                });
            }
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        _ => value.clone(),
    }
}

/// Whether values have no parts.
fn scalar(schema: Schema<'_>) -> bool {
    schema.structure().is_none() && schema.element().is_none()
}

/// An object of a kind with nothing set: the structures that are always there.
pub(super) fn blank(schema: Schema<'_>) -> Value {
    let mut map = Map::new();
    for field in schema.structure().into_iter().flat_map(|t| t.fields.iter()) {
        let zero = field.zero.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let zero = match zero {
            Some(Value::Object(_)) if schema.of(field).structure().is_some() => blank(schema.of(field)),
            Some(zero) => zero,
            // Go writes it even where it is empty; but no structure, which is a pointer then, and lists where the facts say so.
            None if field.required && scalar(schema.of(field)) => Value::Null,
            None if field.default.as_deref() == Some("null") => Value::Null,
            None => continue,
        };
        map.insert(field.name.to_string(), zero);
    }
    Value::Object(map)
}
