//! One thing changed: fields taken away, of a wrong type, out of range, unknown, or set where they do not belong.

use super::random::Random;
use super::{Case, Example, JSON_PATCH, Step};
use serde_json::{Value, json};
use skep_api::Schema;
use skep_api::schema::Node;

/// A change of one place of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Edit {
    /// Puts a value at a JSON pointer.
    Set(String, Value),
    /// Takes away what is there.
    Remove(String),
}

impl Edit {
    pub(super) fn at(&self) -> &str {
        match self {
            Edit::Set(at, _) | Edit::Remove(at) => at,
        }
    }

    /// For people.
    fn words(&self) -> String {
        match self {
            Edit::Set(at, value) => {
                let text = value.to_string();
                let short: String = text.chars().take(60).collect();
                format!("{at} = {short}{}", if short == text { "" } else { "…" })
            }
            Edit::Remove(at) => format!("{at} removed"),
        }
    }

    /// Carries it out on an object that has the place, or at least what the place is in.
    pub(super) fn apply(&self, object: &mut Value) {
        let Some((parent, key)) = self.at().rsplit_once('/') else { return };
        let key = key.replace("~1", "/").replace("~0", "~");
        match (object.pointer_mut(parent), self) {
            (Some(Value::Object(map)), Edit::Set(_, value)) => drop(map.insert(key, value.clone())),
            (Some(Value::Object(map)), Edit::Remove(_)) => drop(map.remove(&key)),
            (Some(Value::Array(list)), edit) => {
                let Ok(index) = key.parse::<usize>() else { return };
                match edit {
                    Edit::Set(_, value) if index < list.len() => list[index] = value.clone(),
                    Edit::Remove(_) if index < list.len() => drop(list.remove(index)),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The same as an operation of a JSON patch on that object.
    pub(super) fn operation(&self, object: &Value) -> Value {
        match self {
            Edit::Set(at, value) => {
                let op = if object.pointer(at).is_some() { "replace" } else { "add" };
                json!({"op": op, "path": at, "value": value})
            }
            Edit::Remove(at) => json!({"op": "remove", "path": at}),
        }
    }
}

/// How many wrong creations there are of an example.
fn count(example: &Example) -> usize {
    match (&*example.gvk.kind, example.name.as_str()) {
        (_, "Pod/rich") => 90,
        (_, "Pod/volumes" | "Deployment/rich" | "Thing/rich") => 40,
        ("Pod", _) => 14,
        ("Service" | "Job" | "CustomResourceDefinition", _) => 24,
        (_, name) if name.ends_with("/least") => 8,
        _ => 15,
    }
}

/// Creations with one thing wrong.
pub(super) fn creations(example: &Example, random: &mut Random) -> Vec<Case> {
    let chosen = chosen(example, count(example), random);
    let cases = chosen.into_iter().map(|edit| {
        let mut object = example.object.clone();
        edit.apply(&mut object);
        let validation = match random.below(10) {
            0..3 => "&fieldValidation=Strict",
            3 => "&fieldValidation=Ignore",
            _ => "",
        };
        let query = format!("dryRun=All&fieldManager=maker{validation}");
        Case {
            name: format!("{}: {}", example.name, edit.words()),
            before: Vec::new(),
            steps: vec![Step::post(&example.collection(), &query, object)],
        }
    });
    cases.collect()
}

/// Changes of one thing in an object that is there.
pub(super) fn changes(example: &Example, number: usize, random: &mut Random) -> Vec<Case> {
    let (object, path) = example.numbered(number);
    let chosen = chosen(example, count(example) / 2, random);
    let steps = chosen.into_iter().map(|edit| {
        let patch = json!([edit.operation(&object)]);
        Step::patch(&path, "dryRun=All&fieldManager=changer", JSON_PATCH, patch)
    });
    let steps = steps.collect();
    let before = vec![Step::post(&example.collection(), "fieldManager=maker", object)];
    vec![Case { name: format!("{}: one thing changed", example.name), before, steps }]
}

fn chosen(example: &Example, count: usize, random: &mut Random) -> Vec<Edit> {
    let mut all = Vec::new();
    match example.schema() {
        Some(schema) => structured(schema, &example.object, String::new(), &mut all),
        None => unstructured(&example.object["spec"], "/spec".into(), &mut all),
    }
    let rare = |edit: &Edit| {
        let rare =
            ["/metadata", "/status", "/spec/template/", "/spec/jobTemplate/spec/template/", "/template/"];
        rare.iter().any(|prefix| edit.at().starts_with(prefix))
    };
    let (rare, usual): (Vec<_>, Vec<_>) = all.into_iter().partition(rare);
    let mut chosen = random.sample(usual, count - count / 6);
    chosen.extend(random.sample(rare, count / 6));
    chosen
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// What can be wrong with a value of that schema.
fn structured(schema: Schema<'_>, value: &Value, at: String, out: &mut Vec<Edit>) {
    let mut set = |value: Value| out.push(Edit::Set(at.clone(), value));
    match schema.node() {
        Node::String => {
            let long = if at.ends_with("name") { 64 } else { 254 };
            [json!(""), json!("Not_Valid!"), json!("a".repeat(long)), json!("Other"), json!(7)]
                .into_iter()
                .for_each(&mut set);
        }
        Node::Bytes => [json!("no base64"), json!("")].into_iter().for_each(&mut set),
        Node::Int32 | Node::Int64 | Node::Number => {
            [json!(-1), json!(0), json!(70_000), json!(3_000_000_000_u64), json!("5"), json!(1.5)]
                .into_iter()
                .for_each(&mut set);
        }
        Node::Bool => {
            [json!("true"), json!(!value.as_bool().unwrap_or_default())].into_iter().for_each(&mut set)
        }
        Node::Time | Node::MicroTime => {
            [json!("yesterday"), json!("2024-01-02T03:04:05.678Z"), json!(5)].into_iter().for_each(&mut set);
        }
        Node::Quantity => {
            [json!("-1"), json!("0"), json!("1.5x"), json!(5), json!("1.0000001"), json!(true)]
                .into_iter()
                .for_each(&mut set);
        }
        Node::IntOrString => {
            [json!(-1), json!("150%"), json!("abc_"), json!(70_000), json!("5"), json!(true)]
                .into_iter()
                .for_each(&mut set);
        }
        Node::List(..) => {
            [json!([]), json!({})].into_iter().for_each(&mut set);
            if let (Some(element), Value::Array(list)) = (schema.element(), value) {
                if let Some(first) = list.first() {
                    let mut twice = list.clone();
                    twice.push(first.clone());
                    set(Value::Array(twice));
                }
                for (index, value) in list.iter().enumerate() {
                    structured(element, value, format!("{at}/{index}"), out);
                }
            }
        }
        Node::Map(..) => {
            set(json!([]));
            if let (Some(element), Value::Object(map)) = (schema.element(), value) {
                let wrong = plausible(element, 0);
                out.push(Edit::Set(format!("{at}/Bad Key!!"), wrong.clone()));
                out.push(Edit::Set(format!("{at}/{}", "k".repeat(64)), wrong));
                for (key, value) in map {
                    structured(element, value, format!("{at}/{}", escape(key)), out);
                }
            }
        }
        Node::Struct(_) => {
            let Some(structure) = schema.structure() else { return };
            if !at.is_empty() {
                [json!("text"), json!({})].into_iter().for_each(&mut set);
            }
            out.push(Edit::Set(format!("{at}/bogusField"), json!(1)));
            for field in structure.fields.iter() {
                let (below, place) = (schema.of(field), format!("{at}/{}", escape(&field.name)));
                match value.get(&*field.name) {
                    Some(_) if place == "/kind" || place == "/apiVersion" => {}
                    Some(value) => {
                        out.push(Edit::Remove(place.clone()));
                        out.push(Edit::Set(place.clone(), Value::Null));
                        structured(below, value, place, out);
                    }
                    None => out.push(Edit::Set(place, plausible(below, 0))),
                }
            }
        }
        Node::Any | Node::Deduced | Node::Free => [json!("text"), json!({})].into_iter().for_each(&mut set),
    }
}

/// The same where nothing is known of the schema.
fn unstructured(value: &Value, at: String, out: &mut Vec<Edit>) {
    for other in [
        json!(null),
        json!(0),
        json!(99),
        json!(1.5),
        json!(""),
        json!("Zz"),
        json!([]),
        json!({}),
        json!(true),
    ] {
        out.push(Edit::Set(at.clone(), other));
    }
    out.push(Edit::Remove(at.clone()));
    match value {
        Value::Object(map) => {
            out.push(Edit::Set(format!("{at}/bogusField"), json!("x")));
            for key in ["when", "either", "size", "limits"] {
                if at == "/spec" && !map.contains_key(key) {
                    unstructured(&json!({"a": "x", "b": "y"}), format!("{at}/{key}"), out);
                }
            }
            for (key, value) in map {
                unstructured(value, format!("{at}/{}", escape(key)), out);
            }
        }
        Value::Array(list) => {
            let mut twice = list.clone();
            twice.extend(list.iter().cloned());
            out.push(Edit::Set(at.clone(), twice.into()));
            for (index, value) in list.iter().enumerate() {
                unstructured(value, format!("{at}/{index}"), out);
            }
        }
        _ => {}
    }
}

/// Some value of a schema, with what is required in it.
pub(super) fn plausible(schema: Schema<'_>, depth: usize) -> Value {
    match schema.node() {
        Node::String => json!("x"),
        Node::Bytes => json!("AAEC"),
        Node::Int32 | Node::Int64 | Node::Number | Node::IntOrString => json!(1),
        Node::Bool => json!(true),
        Node::Time => json!("2024-01-02T03:04:05Z"),
        Node::MicroTime => json!("2024-01-02T03:04:05.000006Z"),
        Node::Quantity => json!("1"),
        Node::List(..) if depth < 4 => {
            schema.element().map_or(json!([]), |e| json!([plausible(e, depth + 1)]))
        }
        Node::List(..) => json!([]),
        Node::Map(..) => schema.element().map_or(json!({}), |e| json!({"k": plausible(e, depth + 1)})),
        Node::Struct(_) => {
            let mut object = json!({});
            let fields = schema.structure().map(|structure| structure.fields.iter()).into_iter().flatten();
            for field in fields.filter(|field| field.required && depth < 4) {
                object[&*field.name] = plausible(schema.of(field), depth + 1);
            }
            object
        }
        Node::Any | Node::Deduced | Node::Free => json!({}),
    }
}
