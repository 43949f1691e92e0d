//! Checking a tree against its schema, and bringing it to the form that is stored.

use super::message::{go_name, prefix, short_name};
use super::scalar;
use super::set::{Field, Node, Schema};
use crate::field::FieldError;
use crate::resource::{GroupVersion, GroupVersionKind};
use crate::status::Status;
use serde_json::{Map, Value, json};

/// What to do with unknown and duplicate fields (the `fieldValidation` parameter).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them.
    Ignore,
    /// Drop them and warn; what servers do unless told.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl FieldValidation {
    /// Reads the parameter's value; empty is the default, `None` for what is none of the three.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "Ignore" => Some(Self::Ignore),
            "" | "Warn" => Some(Self::Warn),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// Warnings of a tree that may be used.
pub type Checked = Vec<String>;

/// Checks `value`, the body of a request, and brings it to the form that is stored: fields the schema does
/// not know are dropped, `null` and what Go leaves out when empty are taken out, quantities and instants are
/// made canonical. `apiVersion` and `kind` are filled in where they are absent.
///
/// `duplicates` are those that [`decode`](super::decode()) found. Errors are 400 in upstream's words.
pub fn check(
    schema: Schema<'_>,
    gvk: &GroupVersionKind,
    value: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Checked, Status> {
    let given = identify(gvk, value)?;
    let refuse = |why: String| {
        let version = &given.version;
        Status::bad_request(format!(
            "{} in version \"{version}\" cannot be handled as a {}: {why}",
            given.kind, gvk.kind
        ))
    };
    let given_up = gives_ownership_up(value);
    let unknown = inspect(schema, value).map_err(&refuse)?;
    give_ownership_up(value, given_up);
    let custom = schema.set().guide().is_some();
    warnings(custom, duplicates, &unknown, validation).map_err(refuse)
}

/// Whether `managedFields` are an empty list, which unlike other empty lists is not the same as none: it asks for all
/// ownership to be forgotten.
fn gives_ownership_up(value: &Value) -> bool {
    value.pointer("/metadata/managedFields").and_then(Value::as_array).is_some_and(Vec::is_empty)
}

fn give_ownership_up(value: &mut Value, given_up: bool) {
    if given_up && let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.insert("managedFields".into(), json!([]));
    }
}

/// The same for the result of a patch: errors are 422 about the field `patch`.
pub fn check_patched(
    schema: Schema<'_>,
    gvk: &GroupVersionKind,
    value: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Checked, Status> {
    identify(gvk, value)?;
    let shown = value.to_string();
    let refuse = |why: String| {
        let nothing = GroupVersionKind::new("", "", "");
        Status::invalid(&nothing, "", &[FieldError::invalid("patch", shown.as_str().into(), why)])
    };
    let given_up = gives_ownership_up(value);
    let unknown = inspect(schema, value).map_err(&refuse)?;
    give_ownership_up(value, given_up);
    // A patch is read before what it makes is.
    warnings(true, duplicates, &unknown, validation).map_err(refuse)
}

/// Checks and cleans a tree of any type of the schema set. Returns the paths of unknown fields, which have
/// been dropped; the error is what is wrong with the first value of a wrong type.
pub fn inspect(schema: Schema<'_>, value: &mut Value) -> Result<Vec<String>, String> {
    let mut unknown = Vec::new();
    if value.is_null() {
        *value = json!({});
    }
    if let Some(guide) = schema.set().guide() {
        return guide.clean(value);
    }
    walk(schema, value, &mut unknown).map_err(Mismatch::message)?;
    Ok(unknown)
}

/// Kinds of Go find both while they read, and those of definitions what is unknown when all is read: then duplicates come
/// `first`. Which of the others come first in a body is not known any more: unknown fields then.
fn warnings(
    first: bool,
    duplicates: &[String],
    unknown: &[String],
    validation: FieldValidation,
) -> Result<Checked, String> {
    let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
    let duplicates = duplicates.iter().cloned();
    let all: Vec<String> =
        if first { duplicates.chain(unknown).collect() } else { unknown.chain(duplicates).collect() };
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(all),
        FieldValidation::Strict if all.is_empty() => Ok(all),
        FieldValidation::Strict => Err(format!("strict decoding error: {}", all.join(", "))),
    }
}

/// Fills in `apiVersion` and `kind`, or refuses those of something else. Returns what the body says it is.
fn identify(gvk: &GroupVersionKind, value: &mut Value) -> Result<GroupVersionKind, Status> {
    let unrecognized = |why: &str| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why}",
            gvk.kind
        ))
    };
    let Value::Object(map) = value else {
        return Err(unrecognized(
            "couldn't get version/kind; json parse error: the body is not a JSON object",
        ));
    };
    let mut text = |key: &str, fill: &dyn Fn() -> String| match map.get(key) {
        None | Some(Value::Null) => {
            map.insert(key.to_owned(), fill().into());
            Ok(None)
        }
        Some(Value::String(text)) if text.is_empty() => {
            map.insert(key.to_owned(), fill().into());
            Ok(None)
        }
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(unrecognized(&format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go struct field .{key} of type string",
            scalar::json_name(other)
        ))),
    };
    let api_version = text("apiVersion", &|| gvk.api_version())?;
    let kind = text("kind", &|| gvk.kind.to_string())?;
    // Options travel under the version of whatever they are the options of.
    let options = gvk.kind.ends_with("Options");
    let expected = gvk.group_version();
    let given = api_version.as_deref().map_or_else(|| expected.clone(), GroupVersion::parse);
    let kind = kind.unwrap_or_else(|| gvk.kind.to_string());
    if given != expected && !options {
        return Err(Status::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({expected})"
        )));
    }
    if kind != gvk.kind {
        return Err(Status::bad_request(format!(
            "{kind} in version \"{}\" cannot be handled as a {}: it is of another kind",
            given.version, gvk.kind
        )));
    }
    Ok(GroupVersionKind { group: given.group, version: given.version, kind: kind.into() })
}

/// A value of a wrong type, and the way to it.
struct Mismatch {
    /// What is wrong; for values of a wrong JSON type, what Go would call what was found and what is wanted.
    what: Wrong,
    /// Fields from the outermost to the innermost, without indices.
    fields: Vec<String>,
    /// The innermost structure.
    within: Option<String>,
    /// How many lists and maps lie between the innermost field and the value.
    elements: usize,
}

enum Wrong {
    Type { found: String, wanted: String },
    Text(String),
}

impl Mismatch {
    fn of_element(mut self) -> Self {
        self.elements += usize::from(self.within.is_none());
        self
    }

    /// Says Go's own name of the wanted type, if the innermost field has such a type.
    fn name_type(&mut self, field: &Field) {
        let Some(mut name) = field.go.as_deref() else { return };
        for _ in 0..self.elements {
            let rest = name.strip_prefix("[]");
            let rest = rest.or_else(|| name.strip_prefix("map[").and_then(|n| Some(n.split_once(']')?.1)));
            let Some(rest) = rest else { return };
            name = rest;
        }
        if let Wrong::Type { wanted, .. } = &mut self.what {
            name.clone_into(wanted);
        }
    }

    fn message(self) -> String {
        match self.what {
            Wrong::Text(why) => why,
            Wrong::Type { found, wanted } => match self.within {
                Some(within) => format!(
                    "json: cannot unmarshal {found} into Go struct field {within}.{} of type {wanted}",
                    self.fields.join(".")
                ),
                None => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
            },
        }
    }
}

fn mismatch(value: &Value, wanted: String) -> Mismatch {
    let found = scalar::json_name(value);
    Mismatch { what: Wrong::Type { found, wanted }, fields: Vec::new(), within: None, elements: 0 }
}

/// Checks and cleans `value`, which is not null.
fn walk(schema: Schema<'_>, value: &mut Value, unknown: &mut Vec<String>) -> Result<(), Mismatch> {
    match schema.node() {
        Node::Any | Node::Deduced | Node::Free => Ok(()),
        Node::Struct(_) => match value {
            Value::Object(map) => structure(schema, map, unknown),
            other => Err(mismatch(other, go_type(schema))),
        },
        Node::List(..) => {
            let Value::Array(list) = value else { return Err(mismatch(value, go_type(schema))) };
            let Some(element) = schema.element() else { return Ok(()) };
            for (at, value) in list.iter_mut().enumerate() {
                if value.is_null() {
                    *value = zero(element);
                }
                let known = unknown.len();
                walk(element, value, unknown).map_err(Mismatch::of_element)?;
                prefix(unknown, known, || format!("[{at}]"));
            }
            Ok(())
        }
        Node::Map(..) => {
            let Value::Object(map) = value else { return Err(mismatch(value, go_type(schema))) };
            let Some(element) = schema.element() else { return Ok(()) };
            for (key, value) in map.iter_mut() {
                if value.is_null() {
                    *value = zero(element);
                }
                let known = unknown.len();
                walk(element, value, unknown).map_err(Mismatch::of_element)?;
                prefix(unknown, known, || key.clone());
            }
            Ok(())
        }
        node => scalar::check(node, value).map_err(|why| Mismatch {
            what: match why {
                scalar::Wrong::Type(wanted) => {
                    Wrong::Type { found: scalar::json_name(value), wanted: wanted.to_owned() }
                }
                scalar::Wrong::Text(why) => Wrong::Text(why),
            },
            fields: Vec::new(),
            within: None,
            elements: 0,
        }),
    }
}

fn structure(
    schema: Schema<'_>,
    map: &mut Map<String, Value>,
    unknown: &mut Vec<String>,
) -> Result<(), Mismatch> {
    let mut failed = None;
    map.retain(|name, value| {
        if failed.is_some() {
            return true;
        }
        let Some((field, inner)) = schema.field(name) else {
            unknown.push(name.clone());
            return false;
        };
        if value.is_null() {
            return false;
        }
        let known = unknown.len();
        if let Err(mut mismatch) = walk(inner, value, unknown) {
            mismatch.fields.insert(0, name.clone());
            if let Some(embedded) = &field.inline {
                mismatch.fields.insert(0, embedded.to_string());
            }
            if mismatch.within.is_none() {
                mismatch.within = schema.structure().map(|t| short_name(&t.name).to_owned());
                mismatch.name_type(field);
            }
            failed = Some(mismatch);
            return true;
        }
        prefix(unknown, known, || name.clone());
        !left_out(field, inner, value)
    });
    failed.map_or(Ok(()), Err)
}

/// Whether Go leaves the value out when it writes the structure (`omitempty`).
fn left_out(field: &Field, schema: Schema<'_>, value: &Value) -> bool {
    if field.required || field.default.as_deref() == Some("null") {
        return false;
    }
    match (schema.node(), value) {
        (Node::List(..), Value::Array(list)) => list.is_empty(),
        (Node::Map(..), Value::Object(map)) => map.is_empty(),
        _ => field.value && scalar::is_zero(value),
    }
}

/// What Go makes of `null` as an element of a list or map.
fn zero(schema: Schema<'_>) -> Value {
    match schema.node() {
        Node::Any | Node::Deduced | Node::Free => Value::Null,
        Node::Struct(_) | Node::Map(..) => json!({}),
        Node::List(..) => json!([]),
        Node::Int32 | Node::Int64 | Node::Number | Node::IntOrString => 0.into(),
        Node::Bool => false.into(),
        Node::Quantity => "0".into(),
        Node::Time | Node::MicroTime => "0001-01-01T00:00:00Z".into(),
        Node::String | Node::Bytes => "".into(),
    }
}

/// What Go would call the type.
fn go_type(schema: Schema<'_>) -> String {
    match schema.node() {
        Node::Struct(_) => schema.structure().map(|t| go_name(&t.name).to_owned()).unwrap_or_default(),
        Node::List(..) => format!("[]{}", schema.element().map(go_type).unwrap_or_default()),
        Node::Map(..) => format!("map[string]{}", schema.element().map(go_type).unwrap_or_default()),
        Node::Quantity => "resource.Quantity".into(),
        node => scalar::go_type(node).to_owned(),
    }
}
