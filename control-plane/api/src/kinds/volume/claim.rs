//! PersistentVolumeClaims.

use super::{CLASS_ANNOTATION, access_modes, class_names, class_of, modes_text, or_unset, phase};
use crate::field::FieldError;
use crate::kinds::columns::{age, name};
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::quantity::Quantity;
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column, wide};
use crate::validation::resources::quantity;
use crate::validation::{At, Errors, same, selector, text};
use serde_json::{Map, Value, json};

/// PersistentVolumeClaims.
#[derive(Debug, Default)]
pub struct PersistentVolumeClaim;

/// States of a growing claim.
const RESIZE: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];
const STORAGE: &str = "/resources/requests/storage";

/// What a claim, or the template of one in a pod, may say.
pub(in crate::kinds) fn check_spec(errors: &mut Errors, spec: &At<'_, '_>) {
    access_modes(errors, &spec.get("accessModes"), "at least 1 access mode is required");
    selector::validate(errors, &spec.get("selector"));
    let resources = spec.get("resources");
    // Upstream names the resource below `resources`.
    let place = resources.key("storage");
    let size = place.with_value(resources.get("requests").get("storage").value());
    match quantity(size.value()) {
        None if !size.present() => errors.required(&size, ""),
        Some(amount) if amount.sign() <= 0 => errors.invalid(&size, "must be greater than zero"),
        _ => {}
    }
    class_names(errors, spec);
    let (from, from_ref) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    for at in [&from, &from_ref] {
        if at.present() {
            data_source(errors, at);
        }
    }
    if from.present() && from_ref.present() {
        let abroad = !from_ref.get("namespace").is_empty();
        let fields = ["apiGroup", "kind", "name"];
        let equal = fields.iter().all(|field| same(from.get(field).value(), from_ref.get(field).value()));
        let why = match (abroad, equal) {
            (true, _) => "may not be specified when dataSourceRef.namespace is specified",
            (false, false) => "must match dataSourceRef",
            (false, true) => return,
        };
        // Upstream shows the path of the field as the value, and that has no fields.
        errors.push(FieldError::invalid(spec.path(), json!({}), why));
    }
}

fn data_source(errors: &mut Errors, at: &At<'_, '_>) {
    let (group, kind) = (at.get("apiGroup"), at.get("kind"));
    for part in [&at.get("name"), &kind] {
        if part.text().is_empty() {
            errors.required(part, "");
        }
    }
    if group.text().is_empty() && kind.text() != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(at.path(), kind.text().into(), why));
    }
    errors.optional_text(&group, |group| dns1123_subdomain(group, false));
    errors.optional_text(&at.get("namespace"), |name| dns1123_label(name, false));
}

/// A source that the older field never knew is dropped from it; then each field says what the other does.
fn data_sources(spec: &mut Map<String, Value>, kept: bool) {
    let given = |spec: &Map<String, Value>, field: &str| spec.get(field).filter(|v| v.is_object()).cloned();
    if let (false, Some(from), None) = (kept, given(spec, "dataSource"), given(spec, "dataSourceRef")) {
        let text = |field: &str| from.get(field).and_then(Value::as_str).unwrap_or_default();
        let known = [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
        if !known.contains(&(text("apiGroup"), text("kind"))) {
            spec.remove("dataSource");
        }
    }
    match (given(spec, "dataSource"), given(spec, "dataSourceRef")) {
        (Some(from), None) => {
            spec.insert("dataSourceRef".into(), from);
        }
        (None, Some(mut from))
            if from.get("namespace").is_none_or(|n| n.as_str().is_none_or(str::is_empty)) =>
        {
            if let Some(from) = from.as_object_mut() {
                from.remove("namespace");
            }
            spec.insert("dataSource".into(), from);
        }
        _ => {}
    }
}

fn sized(tree: &Value, pointer: &str) -> Quantity {
    quantity(tree.pointer(pointer)).unwrap_or(Quantity::ZERO)
}

fn put(tree: &mut Value, pointer: &str, value: Option<&Value>) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    let Some(map) = tree.pointer_mut(parent).and_then(Value::as_object_mut) else { return };
    match value {
        Some(value) => map.insert(key.to_owned(), value.clone()),
        None => map.remove(key),
    };
}

fn annotation(object: &Value) -> Option<&str> {
    object.pointer("/metadata/annotations")?.get(CLASS_ANNOTATION)?.as_str()
}

impl Strategy for PersistentVolumeClaim {
    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        object["status"] = json!({"phase": "Pending"});
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            data_sources(spec, false);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        crate::kinds::keep(new, old, &["status"]);
        let had = ["dataSource", "dataSourceRef"]
            .iter()
            .any(|field| old.pointer(&format!("/spec/{field}")).is_some_and(Value::is_object));
        if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
            data_sources(spec, had);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check_spec(&mut errors, &At::root(object).get("spec"));
        errors.done()
    }

    /// A claim stays as it is, to keep quotas and limits honest. What may change: its volume and class are named once, and when
    /// it is bound it may grow and take other attributes.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let spec = |tree: &Value| tree.get("spec").cloned().unwrap_or_default();
        let (mut is, mut was) = (spec(new), spec(old));
        let unset = |value: Option<&Value>| value.is_none_or(|v| v.is_null() || v.as_str() == Some(""));
        if unset(was.get("volumeName")) {
            put(&mut was, "/volumeName", is.get("volumeName"));
        }
        let (class, before) = (is.get("storageClassName").cloned(), was.get("storageClassName").cloned());
        let (marked, mark) = (annotation(old), annotation(new));
        let named = class.as_ref().and_then(Value::as_str);
        let first = before.as_ref().is_none_or(Value::is_null) && named.is_some();
        if first && marked.is_some() && named == marked && (mark.is_none() || mark == marked) {
            put(&mut is, "/storageClassName", before.as_ref());
        } else {
            if mark.unwrap_or_default() != marked.unwrap_or_default() {
                let path = crate::field::Path::new("metadata").child("annotations").child(CLASS_ANNOTATION);
                let value = mark.unwrap_or_default();
                errors.push(FieldError::invalid(path, value.into(), crate::validation::IMMUTABLE));
            }
            if first && marked.is_none_or(|marked| named == Some(marked)) {
                put(&mut is, "/storageClassName", before.as_ref());
            }
        }
        let (size, size_before) = (sized(&is, STORAGE), sized(&was, STORAGE));
        let bound = new.pointer("/status/phase").and_then(Value::as_str) == Some("Bound");
        if bound || size == size_before {
            put(&mut is, STORAGE, was.pointer(STORAGE));
        }
        if bound {
            put(&mut is, "/volumeAttributesClassName", was.get("volumeAttributesClassName"));
        }
        let (root, root_before) = (At::root(new), At::root(old));
        let (at, at_before) = (root.get("spec"), root_before.get("spec"));
        if !same(Some(&is), Some(&was)) {
            let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
            errors.forbidden(&at, why);
        }
        if size < size_before && size <= sized(new, "/status/capacity/storage") {
            let path = "spec.resources.requests.storage";
            errors.push(FieldError::forbidden(path, "field can not be less than status.capacity"));
        }
        if !same(at.get("volumeMode").value(), at_before.get("volumeMode").value()) {
            let mode = at.get("volumeMode").json();
            errors.push(FieldError::invalid("volumeMode", mode, crate::validation::IMMUTABLE));
        }
        let attributes = at.get("volumeAttributesClassName");
        if !unset(old.pointer("/status/currentVolumeAttributesClassName")) && attributes.text().is_empty() {
            let what = if attributes.present() { "empty string" } else { "nil" };
            let why = format!(
                "update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
            );
            errors.forbidden(&attributes, why);
        }
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(new);
        let status = root.get("status");
        for field in ["capacity", "allocatedResources"] {
            for (name, amount) in status.get(field).entries() {
                if field == "allocatedResources" {
                    resource_key(&mut errors, &status.get(field), name);
                }
                if quantity(amount.value()).is_some_and(|amount| amount.sign() < 0) {
                    errors.invalid(&amount, "must be a valid resource quantity");
                }
            }
        }
        let states = status.get("allocatedResourceStatuses");
        for (name, state) in states.entries() {
            resource_key(&mut errors, &states, name);
            if !RESIZE.contains(&state.text()) {
                errors.push(FieldError::not_supported(states.path(), name.into(), RESIZE));
            }
        }
        errors.done()
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Status", "string", "Whether it is bound."),
            column("Volume", "string", "The volume it is bound to."),
            column("Capacity", "string", "How much the volume holds."),
            column("Access Modes", "string", "How the volume may be used."),
            column("StorageClass", "string", "StorageClass of the pvc"),
            column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pvc"),
            age(),
            wide("VolumeMode", "string", "Whether it is a filesystem or a device."),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let volume = spec.get("volumeName").text();
        let (capacity, modes) = if volume.is_empty() {
            ("".into(), "".into())
        } else {
            (
                sized(object, "/status/capacity/storage").to_string().into(),
                modes_text(&status.get("accessModes")),
            )
        };
        vec![
            table::name(object),
            phase(object),
            volume.into(),
            capacity,
            modes,
            class_of(object).into(),
            or_unset(&spec.get("volumeAttributesClassName")),
            table::age(object, now),
            or_unset(&spec.get("volumeMode")),
        ]
    }
}

/// A resource that a claim may have: storage, or one of somebody's own.
fn resource_key(errors: &mut Errors, at: &At<'_, '_>, name: &str) {
    let wrong = text::qualified_name(name);
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if wrong.is_empty() && native && name != "storage" {
        errors.push(FieldError::not_supported(at.path(), name.into(), &["storage"]));
    }
    for message in wrong {
        errors.push(FieldError::invalid(at.path(), name.into(), message));
    }
}
