//! ResourceClaims and their templates.

use super::{
    LIST_MAX, configuration, expressions, fits, label, qualified_name, selectors, status, toleration, unique,
};
use crate::expressions::Expression;
use crate::field::FieldError;
use crate::kinds::columns::{age, name};
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, annotations, labels};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// ResourceClaims.
#[derive(Debug, Default)]
pub struct ResourceClaim;

/// ResourceClaimTemplates.
#[derive(Debug, Default)]
pub struct ResourceClaimTemplate;

/// Most alternatives of a request.
const ALTERNATIVES_MAX: usize = 8;

/// Names of requests, each with the names of its alternatives.
pub(super) struct Names<'v>(BTreeMap<&'v str, BTreeSet<&'v str>>);

impl<'v> Names<'v> {
    pub(super) fn of(devices: &At<'v, '_>) -> Self {
        let requests = devices.get("requests");
        let name = |at: At<'v, '_>| at.get("name").text();
        let entry = |request: At<'v, '_>| {
            (request.get("name").text(), request.get("firstAvailable").items().map(name).collect())
        };
        Names(requests.items().map(entry).collect())
    }

    /// A reference to a request, or to one of its alternatives.
    pub(super) fn refer(&self, errors: &mut Errors, at: &At<'_, '_>) {
        let known = match at.text().split('/').collect::<Vec<_>>()[..] {
            [request] => self.0.contains_key(request),
            [request, part] => self.0.get(request).is_some_and(|parts| parts.contains(part)),
            _ => false,
        };
        if at.text().split('/').count() <= 2 {
            at.text().split('/').for_each(|part| errors.text(at, dns1123_label(part, false)));
        }
        if !known {
            let why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
            errors.invalid(at, why);
        }
    }

    pub(super) fn refer_all(&self, errors: &mut Errors, list: &At<'_, '_>) {
        if fits(errors, list, LIST_MAX) {
            list.items().for_each(|item| self.refer(errors, &item));
            unique(errors, list, |item| item.text().to_owned());
        }
    }
}

/// How many devices: one, where nothing else is said.
fn default_request(request: &mut Value) {
    let Some(map) = request.as_object_mut() else { return };
    let text = |map: &serde_json::Map<String, Value>| {
        map.get("allocationMode").and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    if text(map).is_empty() {
        map.insert("allocationMode".into(), "ExactCount".into());
    }
    if text(map) == "ExactCount" && map.get("count").and_then(Value::as_i64).unwrap_or(0) == 0 {
        map.insert("count".into(), 1.into());
    }
}

fn default_spec(spec: Option<&mut Value>) {
    let requests = spec.and_then(|spec| spec.pointer_mut("/devices/requests")).and_then(Value::as_array_mut);
    for request in requests.into_iter().flatten() {
        if let Some(exactly) = request.get_mut("exactly").filter(|e| e.is_object()) {
            default_request(exactly);
        }
        let list = request.get_mut("firstAvailable").and_then(Value::as_array_mut);
        list.into_iter().flatten().for_each(default_request);
    }
}

fn check_spec(errors: &mut Errors, spec: &At<'_, '_>) {
    let devices = spec.get("devices");
    let names = Names::of(&devices);
    let (requests, constraints, config) =
        (devices.get("requests"), devices.get("constraints"), devices.get("config"));
    if fits(errors, &requests, LIST_MAX) {
        requests.items().for_each(|request| check_request(errors, &request));
        unique(errors, &requests, |request| request.get("name").text().to_owned());
    }
    if fits(errors, &constraints, LIST_MAX) {
        for constraint in constraints.items() {
            names.refer_all(errors, &constraint.get("requests"));
            let (same, distinct) = (constraint.get("matchAttribute"), constraint.get("distinctAttribute"));
            match [&same, &distinct].into_iter().find(|at| at.present()) {
                Some(at) => qualified_name(errors, at, at.text(), true),
                None => errors.required(
                    &constraint,
                    "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
                ),
            }
        }
    }
    if fits(errors, &config, LIST_MAX) {
        for entry in config.items() {
            names.refer_all(errors, &entry.get("requests"));
            configuration(errors, &entry);
        }
    }
}

fn check_request(errors: &mut Errors, request: &At<'_, '_>) {
    label(errors, &request.get("name"));
    let (exactly, alternatives) = (request.get("exactly"), request.get("firstAvailable"));
    match (exactly.present(), !alternatives.is_empty()) {
        (false, false) => {
            errors.required(request, "exactly one of `exactly` or `firstAvailable` is required");
        }
        (true, true) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(FieldError::invalid(request.path(), Value::Null, why));
        }
        (true, false) => check_devices(errors, &exactly),
        (false, true) => {
            if fits(errors, &alternatives, ALTERNATIVES_MAX) {
                for alternative in alternatives.items() {
                    label(errors, &alternative.get("name"));
                    check_devices(errors, &alternative);
                }
                unique(errors, &alternatives, |item| item.get("name").text().to_owned());
            }
        }
    }
}

/// The expressions of all requests.
fn expressions_of(spec: &At<'_, '_>) -> Vec<Expression> {
    let devices = spec.get("devices");
    let mut all = Vec::new();
    for request in devices.get("requests").items() {
        all.extend(expressions(&request.get("exactly").get("selectors")));
        for choice in request.get("firstAvailable").items() {
            all.extend(expressions(&choice.get("selectors")));
        }
    }
    all
}

fn check_devices(errors: &mut Errors, at: &At<'_, '_>) {
    errors.required_text(&at.get("deviceClassName"), |name| dns1123_subdomain(name, false));
    selectors(errors, &at.get("selectors"));
    let (mode, count) = (at.get("allocationMode"), at.get("count"));
    match mode.text() {
        "All" if count.int().unwrap_or(0) != 0 => {
            errors.invalid(&count, "must not be specified when allocationMode is 'All'");
        }
        "All" => {}
        "ExactCount" if count.int().unwrap_or(0) <= 0 => errors.invalid(&count, "must be greater than zero"),
        "ExactCount" => {}
        _ => errors.not_supported(&mode, &["All", "ExactCount"]),
    }
    at.get("tolerations").items().for_each(|item| toleration(errors, &item));
}

impl Strategy for ResourceClaim {
    fn default(&self, object: &mut Value) {
        default_spec(object.get_mut("spec"));
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        crate::kinds::keep(new, old, &["spec"]);
        status::drop_deallocated(new, old);
    }

    fn expressions(&self, new: &Value, _old: Option<&Value>) -> Vec<Expression> {
        expressions_of(&At::root(new).get("spec"))
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check_spec(&mut errors, &At::root(object).get("spec"));
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        errors.immutable(&At::root(new).get("spec"), &At::root(old).get("spec"));
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        status::validate(new, old)
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("State", "string", "Whether it is allocated and in use."), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (metadata, status) = (root.get("metadata"), root.get("status"));
        let deleted = metadata.get("deletionTimestamp").present();
        let mut states = Vec::new();
        if deleted {
            states.push("deleted");
        }
        if status.get("allocation").present() {
            states.push("allocated");
            if !status.get("reservedFor").is_empty() {
                states.push("reserved");
            }
        } else if !deleted {
            states.push("pending");
        }
        vec![table::name(object), states.join(",").into(), table::age(object, now)]
    }
}

impl Strategy for ResourceClaimTemplate {
    fn default(&self, object: &mut Value) {
        default_spec(object.pointer_mut("/spec/spec"));
    }

    fn prepare_create(&self, _object: &mut Value, _context: &Context<'_>) {}

    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    fn expressions(&self, new: &Value, _old: Option<&Value>) -> Vec<Expression> {
        expressions_of(&At::root(new).get("spec").get("spec"))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let metadata = spec.get("metadata");
        labels(&mut errors, &metadata.get("labels"));
        annotations(&mut errors, &metadata.get("annotations"));
        for (field, at) in metadata.entries() {
            if !matches!(field, "labels" | "annotations") && !at.is_empty() {
                errors.forbidden(&metadata.get(field), "cannot be set");
            }
        }
        check_spec(&mut errors, &spec.get("spec"));
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        errors.immutable(&At::root(new).get("spec"), &At::root(old).get("spec"));
        errors.done()
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), age()]
    }
}
