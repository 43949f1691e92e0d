//! Several managers who apply parts of one object in turn, with and without force, beside others who update it.

use super::edits::plausible;
use super::random::Random;
use super::{APPLY, Case, Example, MERGE, STRATEGIC, Step, patches};
use serde_json::{Map, Value, json};
use skep_api::Schema;
use skep_api::schema::{ListType, Node};

/// How many sequences there are of an example.
pub(super) fn rounds(example: &Example) -> usize {
    match (&*example.gvk.kind, example.name.as_str()) {
        // One that is made here would apply to others.
        ("PriorityClass" | "CustomResourceDefinition" | "APIService" | "ServiceCIDR" | "IPAddress", _) => 0,
        (_, "Deployment/rich" | "Service/rich" | "Thing/rich" | "ConfigMap/rich") => 6,
        (
            _,
            "Pod/rich" | "NetworkPolicy/rich" | "Ingress/rich" | "ServiceAccount/rich" | "StatefulSet/rich",
        ) => 2,
        ("Pod", _) => 0,
        (_, name) if name.ends_with("least") => 0,
        _ => 1,
    }
}

/// A sequence.
pub(super) fn case(example: &Example, number: usize, round: usize, random: &mut Random) -> Case {
    let (object, path) = example.numbered(number);
    let (mut before, mut steps) = (Vec::new(), Vec::new());
    let apply = |manager: &str, force: bool, path: &str, body: Value| {
        let force = if force { "&force=true" } else { "" };
        Step::patch(path, &format!("fieldManager={manager}{force}"), APPLY, body)
    };
    match random.below(3) {
        0 => before.push(Step::post(&example.collection(), "fieldManager=maker", object.clone())),
        _ => steps.push(apply("one", false, &path, object.clone())),
    }
    for turn in 0..4 {
        let manager = random.pick(&["one", "two", "three"]).copied().unwrap_or_default();
        steps.push(match random.below(10) {
            0..6 => {
                let vary = if random.percent(60) { 25 } else { 0 };
                let body = part(example, &object, vary, random);
                apply(manager, random.percent(35), &path, body)
            }
            6 | 7 => {
                let (media, body) = match example.schema() {
                    Some(schema) if random.percent(50) => {
                        (STRATEGIC, patches::merge(schema, &object, true, 0, random))
                    }
                    Some(schema) => (MERGE, patches::merge(schema, &object, false, 0, random)),
                    None => (MERGE, patches::unknown(&object, random)),
                };
                Step::patch(&path, "fieldManager=updater", media, body)
            }
            8 if example.has_status() => {
                let mut body = named(&object);
                body["status"] = match example.schema().and_then(|schema| schema.field("status")) {
                    Some((_, status)) => plausible(status, 0),
                    None => json!({"phase": manager, "conditions": [{"type": manager, "status": "True"}]}),
                };
                apply(manager, false, &format!("{path}/status"), body)
            }
            _ => {
                let mut body = named(&object);
                body["metadata"]["labels"] = json!({"turn": format!("t{turn}"), manager: "x"});
                apply(manager, random.percent(30), &path, body)
            }
        });
    }
    Case { name: format!("{}: applied, round {round}", example.name), before, steps }
}

/// What every configuration says.
fn named(object: &Value) -> Value {
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": {"name": object["metadata"]["name"]}})
}

/// A part of an object, as somebody would apply who cares for that part; so many of a hundred values are others.
fn part(example: &Example, object: &Value, vary: usize, random: &mut Random) -> Value {
    let mut body = match example.schema() {
        Some(schema) => taken(schema, object, vary, random),
        None => {
            let spec = object["spec"].as_object().into_iter().flatten();
            let spec: Map<String, Value> = spec
                .filter(|_| random.percent(55))
                .map(|(key, value)| match value {
                    Value::Number(n) if vary > 0 => (key.clone(), json!(n.as_i64().unwrap_or(0) + 1)),
                    Value::Array(list) if vary > 0 => (key.clone(), list.iter().skip(1).cloned().collect()),
                    _ => (key.clone(), value.clone()),
                })
                .collect();
            json!({"spec": spec})
        }
    };
    let named = named(object);
    for key in ["apiVersion", "kind"] {
        body[key] = named[key].clone();
    }
    body["metadata"]["name"] = named["metadata"]["name"].clone();
    body
}

fn taken(schema: Schema<'_>, value: &Value, vary: usize, random: &mut Random) -> Value {
    match (schema.node(), value) {
        (Node::Struct(_), Value::Object(map)) => {
            let mut kept = Map::new();
            for (name, value) in map {
                let Some((field, below)) = schema.field(name) else { continue };
                if field.required || random.percent(65) {
                    kept.insert(name.clone(), taken(below, value, vary, random));
                }
            }
            kept.into()
        }
        (Node::Map(..), Value::Object(map)) => {
            let Some(element) = schema.element() else { return value.clone() };
            let kept = map.iter().filter(|_| random.percent(65));
            let kept: Vec<_> = kept.map(|(key, value)| (key.clone(), value)).collect();
            kept.into_iter().map(|(key, value)| (key, taken(element, value, vary, random))).collect()
        }
        (Node::List(_, ListType::Map(keys)), Value::Array(list)) => {
            let Some(element) = schema.element() else { return value.clone() };
            let mut kept = Vec::new();
            for value in list {
                if !random.percent(70) {
                    continue;
                }
                let mut item = taken(element, value, vary, random);
                for key in keys.iter() {
                    if let Some(id) = value.get(&**key) {
                        item[&**key] = id.clone();
                    }
                }
                kept.push(item);
            }
            kept.into()
        }
        (Node::List(_, ListType::Set), Value::Array(list)) => {
            list.iter().filter(|_| random.percent(70)).cloned().collect()
        }
        (Node::List(..), _) => value.clone(),
        _ if random.percent(vary) => patches::varied(schema, value, random),
        _ => value.clone(),
    }
}
