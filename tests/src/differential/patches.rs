//! Patches of objects that are there: strategic merge with its directives, JSON merge and JSON patch.

use super::edits::plausible;
use super::random::Random;
use super::{Case, Example, JSON_PATCH, MERGE, STRATEGIC, Step};
use serde_json::{Map, Value, json};
use skep_api::Schema;
use skep_api::schema::{Field, Node};

/// Patches of one object, each as if it were alone.
pub(super) fn cases(example: &Example, number: usize, random: &mut Random) -> Vec<Case> {
    let (object, path) = example.numbered(number);
    let count = match example.name.as_str() {
        "Pod/rich" | "Deployment/rich" => 10,
        "Service/rich" | "Thing/rich" | "ServiceAccount/rich" | "NetworkPolicy/rich" => 8,
        name if name.ends_with("least") => 1,
        _ => 3,
    };
    let query = "dryRun=All&fieldManager=patcher";
    let mut steps = Vec::new();
    for _ in 0..count {
        let strategic = match example.schema() {
            Some(schema) => merge(schema, &object, true, 0, random),
            None => json!({"spec": {"size": 4}}),
        };
        steps.push(Step::patch(&path, query, STRATEGIC, strategic));
        let plain = match example.schema() {
            Some(schema) => merge(schema, &object, false, 0, random),
            None => unknown(&object, random),
        };
        steps.push(Step::patch(&path, query, MERGE, plain));
        steps.push(Step::patch(&path, query, JSON_PATCH, operations(&object, random)));
    }
    let before = vec![Step::post(&example.collection(), "fieldManager=maker", object)];
    vec![Case { name: format!("{}: patches", example.name), before, steps }]
}

/// Another value of the schema, often a valid one.
pub(super) fn varied(schema: Schema<'_>, value: &Value, random: &mut Random) -> Value {
    match (schema.node(), value) {
        (Node::Int32 | Node::Int64 | Node::IntOrString, Value::Number(n)) => {
            json!(n.as_i64().unwrap_or(0) + 1)
        }
        (Node::Bool, Value::Bool(on)) => json!(!on),
        (Node::String, Value::String(text)) if random.percent(70) => json!(format!("{text}x")),
        (Node::Quantity, _) => json!("3"),
        (Node::Struct(_) | Node::List(..) | Node::Map(..), _) => value.clone(),
        _ => plausible(schema, 0),
    }
}

/// A patch that is laid over the object; with the directives of strategic merge or without.
pub(super) fn merge(
    schema: Schema<'_>,
    value: &Value,
    strategic: bool,
    depth: usize,
    random: &mut Random,
) -> Value {
    let Some(structure) = schema.structure() else { return map(schema, value, strategic, random) };
    let mut patch = Map::new();
    // What is there, and seldom something that is not; at the top not what names the object.
    let fields: Vec<&Field> = structure
        .fields
        .iter()
        .filter(|field| depth > 0 || !matches!(&*field.name, "apiVersion" | "kind" | "status"))
        .filter(|field| value.get(&*field.name).is_some() || random.percent(if depth == 0 { 0 } else { 4 }))
        .collect();
    let count = 1 + random.below(if depth == 0 { 1 } else { 2 });
    for field in random.sample(fields, count) {
        let below = schema.of(field);
        let name = field.name.to_string();
        let Some(old) = value.get(&name) else {
            patch.insert(name, plausible(below, 0));
            continue;
        };
        if random.percent(8) && depth > 0 {
            patch.insert(name, Value::Null);
            continue;
        }
        match (below.node(), old) {
            (Node::List(..), Value::Array(list)) if strategic && field.merge.merge => {
                lists(field, below, list, &mut patch, random);
            }
            (Node::List(..), Value::Array(list)) => {
                let mut list = list.clone();
                if let Some(element) = below.element() {
                    list.push(plausible(element, 0));
                }
                if !list.is_empty() {
                    list.rotate_left(1);
                }
                patch.insert(name, list.into());
            }
            (Node::Struct(_) | Node::Map(..), _) => {
                let mut inner = merge(below, old, strategic, depth + 1, random);
                if strategic && field.merge.retain_keys && random.percent(60) {
                    let keys: Vec<&String> = inner.as_object().into_iter().flat_map(Map::keys).collect();
                    let keys = json!(keys);
                    inner["$retainKeys"] = keys;
                }
                patch.insert(name, inner);
            }
            _ => drop(patch.insert(name, varied(below, old, random))),
        }
    }
    if strategic && depth > 0 && random.percent(5) {
        let directive = random.pick(&["replace", "delete", "merge", "bogus"]).copied().unwrap_or_default();
        patch.insert("$patch".into(), directive.into());
    }
    patch.into()
}

/// A patch of a map.
fn map(schema: Schema<'_>, value: &Value, strategic: bool, random: &mut Random) -> Value {
    let Some(element) = schema.element() else { return json!({"patched": {"deep": 1}}) };
    let mut patch = json!({"patched": plausible(element, 0)});
    let keys: Vec<&String> = value.as_object().into_iter().flat_map(Map::keys).collect();
    if let Some(&key) = random.pick(&keys) {
        let old = value.get(key).unwrap_or(&Value::Null);
        patch[key.as_str()] = if random.percent(50) { Value::Null } else { varied(element, old, random) };
    }
    if strategic && random.percent(10) {
        patch["$patch"] = "replace".into();
    }
    patch
}

/// A patch of a list that is merged.
fn lists(
    field: &Field,
    schema: Schema<'_>,
    list: &[Value],
    patch: &mut Map<String, Value>,
    random: &mut Random,
) {
    let (name, Some(element)) = (field.name.to_string(), schema.element()) else { return };
    let Some(key) = &field.merge.key else {
        // Of plain values.
        match (random.below(3), list.first()) {
            (0, Some(first)) => {
                patch.insert(format!("$deleteFromPrimitiveList/{name}"), json!([first, "absent"]));
            }
            (1, Some(first)) => {
                patch.insert(format!("$setElementOrder/{name}"), json!(["new", first]));
                patch.insert(name, json!(["new"]));
            }
            _ => drop(patch.insert(name, json!(["new", "other"]))),
        }
        return;
    };
    let key = &**key;
    let mut elements = Vec::new();
    let mut order = Vec::new();
    for old in list {
        let Some(id) = old.get(key) else { continue };
        match random.below(5) {
            0 => elements.push(json!({key: id, "$patch": "delete"})),
            1 | 2 => {
                let mut inner = merge(element, old, true, 1, random);
                inner[key] = id.clone();
                order.push(json!({key: id}));
                elements.push(inner);
            }
            _ => order.push(json!({key: id})),
        }
    }
    if random.percent(40) {
        let mut new = plausible(element, 0);
        if new.get(key).is_none_or(|id| list.iter().any(|old| old.get(key) == Some(id))) {
            new[key] = json!("new");
        }
        order.insert(0, json!({key: new[key]}));
        elements.push(new);
    }
    match random.below(12) {
        0 => elements.push(json!({"$patch": "replace"})),
        1 => elements.push(json!({"lacks": "the key"})),
        2 => elements.push(json!("text")),
        _ => {}
    }
    if random.percent(50) {
        order.reverse();
        patch.insert(format!("$setElementOrder/{name}"), order.into());
    }
    patch.insert(name, elements.into());
}

/// A merge patch where no schema is known.
pub(super) fn unknown(object: &Value, random: &mut Random) -> Value {
    let keys: Vec<(&String, &Value)> = object["spec"].as_object().into_iter().flatten().collect();
    let mut spec = json!({"added": "x"});
    for _ in 0..2 {
        if let Some((key, value)) = random.pick(&keys) {
            spec[key.as_str()] = match (value, random.below(4)) {
                (_, 0) => Value::Null,
                (Value::Object(_), 1) => json!({"a": null, "z": "9"}),
                (Value::Number(n), _) => json!(n.as_i64().unwrap_or(0) + 1),
                (Value::Array(list), _) => list.iter().rev().cloned().collect(),
                (Value::String(_), _) => json!("blue"),
                (value, _) => (*value).clone(),
            };
        }
    }
    json!({"spec": spec})
}

/// Every place of an object.
fn places(value: &Value, at: String, out: &mut Vec<String>) {
    let mut below = |key: String, value: &Value| {
        let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        out.push(place.clone());
        places(value, place, out);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| below(key.clone(), value)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| below(index.to_string(), value));
        }
        _ => {}
    }
}

/// Operations of a JSON patch, some of which cannot be carried out.
fn operations(object: &Value, random: &mut Random) -> Value {
    let mut all = Vec::new();
    places(object, String::new(), &mut all);
    all.retain(|at| {
        !["/apiVersion", "/kind", "/metadata"].contains(&at.as_str()) && !at.starts_with("/metadata/name")
    });
    let mut operations = Vec::new();
    for _ in 0..=random.below(3) {
        let at = random.pick(&all).cloned().unwrap_or_default();
        let other = random.pick(&all).cloned().unwrap_or_default();
        let value = object.pointer(&at).cloned().unwrap_or_default();
        let parent = at.rsplit_once('/').map(|(parent, _)| parent.to_owned()).unwrap_or_default();
        operations.push(match random.below(12) {
            0 => json!({"op": "test", "path": at, "value": value}),
            1 => json!({"op": "test", "path": at, "value": "something else"}),
            2 | 3 => json!({"op": "remove", "path": at}),
            4 => json!({"op": "remove", "path": format!("{at}/absent")}),
            5 => json!({"op": "replace", "path": format!("{parent}/absent"), "value": 1}),
            6 => json!({"op": "copy", "from": at, "path": other}),
            7 => json!({"op": "move", "from": at, "path": other}),
            8 if object.pointer(&parent).is_some_and(Value::is_array) => {
                json!({"op": "add", "path": format!("{parent}/-"), "value": value})
            }
            9 if object.pointer(&parent).is_some_and(Value::is_array) => {
                json!({"op": "add", "path": format!("{parent}/9"), "value": value})
            }
            10 => json!({"op": "bogus", "path": at}),
            _ => match value {
                Value::Number(n) => {
                    json!({"op": "replace", "path": at, "value": n.as_i64().unwrap_or(0) + 1})
                }
                Value::String(text) => json!({"op": "replace", "path": at, "value": format!("{text}x")}),
                value => json!({"op": "add", "path": at, "value": value}),
            },
        });
    }
    operations.into()
}
