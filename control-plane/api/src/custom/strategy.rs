//! The kind of a custom resource: what its version says as the pure functions of a kind.

use super::correlate::Pair;
use super::definition::{PrinterColumn, Version};
use super::evaluate::Rules;
use super::jsonpath::JsonPath;
use super::structural::Structural;
use super::{validate_embedded, validate_lists, validate_value};
use crate::field::{FieldError, FieldErrorKind, Path};
use crate::resource::{Column, Context, GroupVersionKind, Strategy};
use crate::table;
use crate::validation::text::qualified_name;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The strategy of one version.
#[derive(Debug)]
pub struct CustomStrategy {
    gvk: GroupVersionKind,
    version: Version,
    schema: Option<Arc<Structural>>,
    rules: Option<Rules>,
    columns: Vec<(Column, JsonPath)>,
}

impl CustomStrategy {
    /// Puts a strategy together. `schema` is that of the version with pruned defaults, `rules` are its rules.
    pub(super) fn new(
        gvk: GroupVersionKind,
        version: &Version,
        schema: Option<Arc<Structural>>,
        rules: Option<Rules>,
    ) -> Self {
        let age = PrinterColumn {
            name: "Age".into(),
            kind: "date".into(),
            description: CREATED.into(),
            json_path: ".metadata.creationTimestamp".into(),
            ..PrinterColumn::default()
        };
        let given = if version.columns.is_empty() { std::slice::from_ref(&age) } else { &version.columns };
        // Upstream shows what stands before a path that is none.
        let columns =
            given.iter().map_while(|column| Some((shown(column), JsonPath::parse(&column.json_path)?)));
        CustomStrategy { gvk, version: version.clone(), schema, rules, columns: columns.collect() }
    }

    /// The version as the definition has it.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Errors of type, values and scale.
    fn values(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = self.identity(object);
        if !errors.is_empty() {
            return errors;
        }
        if let Some(schema) = &self.schema {
            errors.extend(validate_value(schema, object, None, old));
        }
        if let Some(scale) = &self.version.scale {
            errors
                .extend(scale.wrong_spec(object).into_iter().chain(scale.wrong_status(object)).map(invalid));
        }
        if let Some(schema) = &self.schema {
            errors.extend(validate_embedded(schema, object, false, &Path::default()));
        }
        errors
    }

    fn identity(&self, object: &Value) -> Vec<FieldError> {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        let expected = [("kind", self.gvk.kind.to_string()), ("apiVersion", self.gvk.api_version())];
        expected
            .into_iter()
            .filter(|(key, wanted)| text(key) != wanted)
            .map(|(key, wanted)| FieldError::invalid(key, text(key).into(), format!("must be {wanted}")))
            .collect()
    }

    fn evaluate(&self, errors: &mut Vec<FieldError>, object: &Value, old: Option<&Value>) {
        let (Some(schema), Some(rules)) = (&self.schema, &self.rules) else { return };
        if errors.iter().any(blocks) {
            errors.push(FieldError::invalid("<nil>", Value::Null, UNCHECKED));
        } else {
            errors.extend(rules.evaluate(schema, object, old).errors);
        }
    }

    /// What elements of lists repeat, unless they did before.
    fn lists(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let Some(schema) = &self.schema else { return Vec::new() };
        let found = validate_lists(schema, new, &Path::default());
        if found.is_empty() || validate_lists(schema, old, &Path::default()).is_empty() {
            found
        } else {
            Vec::new()
        }
    }
}

const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It \
    is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. \
    It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing \
    errors to complete validation";

/// Whether rules cannot be evaluated on an object with such an error.
fn blocks(error: &FieldError) -> bool {
    use FieldErrorKind as K;
    matches!(
        error.kind,
        K::NotSupported { .. } | K::Required | K::TooLong { .. } | K::TooMany { .. } | K::TypeInvalid(_)
    )
}

fn invalid((path, value, why): (String, Value, String)) -> FieldError {
    FieldError::invalid(path.as_str(), value, why)
}

fn shown(column: &PrinterColumn) -> Column {
    let description = match column.description.as_str() {
        "" => format!("Custom resource definition column (in JSONPath format): {}", column.json_path),
        text => text.to_owned(),
    };
    Column {
        name: column.name.clone().into(),
        kind: column.kind.clone().into(),
        format: column.format.clone().into(),
        description: description.into(),
        priority: column.priority,
    }
}

/// What is said of a finalizer whose name others might choose too.
fn odd_finalizer(name: &str) -> Vec<String> {
    const KNOWN: &[&str] = &["orphan", "foregroundDeletion", "kubernetes"];
    let mut said: Vec<String> =
        qualified_name(name).iter().map(|why| format!("metadata.finalizers: {name:?}: {why}")).collect();
    if !name.contains('/') && !KNOWN.contains(&name) {
        let path = if name.contains('.') { " including a path (/)" } else { "" };
        said.push(format!(
            "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name{path} to avoid accidental \
             conflicts with other finalizer writers"
        ));
    }
    said
}

/// A value as a cell of a column of that type.
fn cell(kind: &str, value: &Value, now: jiff::Timestamp) -> Value {
    match (kind, value) {
        ("string", Value::String(_)) => value.clone(),
        ("string", Value::Null) => "<no value>".into(),
        ("string", Value::Number(number)) => match number.as_i64() {
            Some(int) => int.to_string().into(),
            None => super::numbers::shown(number.as_f64().unwrap_or_default()).into(),
        },
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => {
            number.as_i64().or_else(|| number.as_f64().map(|f| f as i64)).into()
        }
        ("number", Value::Number(number)) => number.as_f64().into(),
        ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match text.as_str() {
            "" | "null" => "<unknown>".into(),
            text if text.parse::<jiff::Timestamp>().is_ok() => table::since(Some(text), now).into(),
            _ => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

impl Strategy for CustomStrategy {
    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        if self.version.status
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let (true, Some(map)) = (self.version.status, new.as_object_mut()) else { return };
        match old.get("status") {
            Some(status) => map.insert("status".into(), status.clone()),
            None => map.remove("status"),
        };
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        let status = new.get("status").cloned();
        *new = old.clone();
        if let Some(map) = new.as_object_mut() {
            match status {
                Some(status) => map.insert("status".into(), status),
                None => map.remove("status"),
            };
        }
    }

    fn prepare_subresource_update(&self, _subresource: &str, new: &mut Value, old: &Value) {
        self.prepare_update(new, old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = self.values(object, None);
        if let Some(schema) = &self.schema {
            errors.extend(validate_lists(schema, object, &Path::default()));
        }
        self.evaluate(&mut errors, object, None);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.values(new, Some(old));
        errors.extend(self.lists(new, old));
        self.evaluate(&mut errors, new, Some(old));
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.identity(new);
        if !errors.is_empty() {
            return errors;
        }
        let schema = self.schema.as_deref();
        if let (Some(schema), Some(status)) =
            (schema.and_then(|s| s.properties.get("status")), new.get("status"))
        {
            let before = Pair { schema, new: status, old: old.get("status").unwrap_or(&Value::Null) };
            errors.extend(validate_value(schema, status, Some(&Path::new("status")), Some(before.old)));
        }
        if let Some(scale) = &self.version.scale {
            errors.extend(scale.wrong_status(new).into_iter().map(invalid));
        }
        errors.extend(self.lists(new, old));
        self.evaluate(&mut errors, new, Some(old));
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate_update(new, old)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let finalizers = |object: &'_ Value| -> BTreeSet<String> {
            let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let before = old.map(finalizers).unwrap_or_default();
        finalizers(new).difference(&before).flat_map(|name| odd_finalizer(name)).collect()
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// Everything but metadata counts; a status that is a subresource stays as it is here.
    fn generation_changes(&self, new: &Value, old: &Value) -> bool {
        let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return new != old };
        let rest =
            |map: &serde_json::Map<String, Value>| map.len() - usize::from(map.contains_key("metadata"));
        rest(new) != rest(old)
            || new.iter().any(|(key, value)| key != "metadata" && old.get(key) != Some(value))
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        let name = table::column("Name", "string", "Name must be unique within a namespace.");
        std::iter::once(name).chain(self.columns.iter().map(|(column, _)| column.clone())).collect()
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let cells = self.columns.iter().map(|(column, path)| match path.find(object).first() {
            Some(value) => cell(&column.kind, value, now),
            None => Value::Null,
        });
        std::iter::once(table::name(object)).chain(cells).collect()
    }
}
