//! Classes of storage, the drivers that provide it, and what they say of nodes and volumes.

use super::columns::{age, name};
use crate::field::FieldError;
use crate::names::dns1123_subdomain;
use crate::quantity::Quantity;
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column};
use crate::validation::resources::quantity;
use crate::validation::{At, Errors, same, selector, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Mark the class that claims get which name none; the second is the older one.
pub const DEFAULT_STORAGE_CLASS: &[&str] =
    &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// Most parameters of a class, and most bytes of them together.
const PARAMETERS_MAX: (usize, usize) = (512, 256 << 10);
/// Most bytes of what a driver says of an attached volume, of an error, of its name, and of its name for a node.
const METADATA_MAX: usize = 256 << 10;
const ERROR_MAX: usize = 1024;
const DRIVER_NAME_MAX: usize = 63;
const NODE_ID_MAX: usize = 256;

/// StorageClasses.
#[derive(Debug, Default)]
pub struct StorageClass;

fn provisioner(errors: &mut Errors, at: &At<'_, '_>) {
    errors.required_text(at, |name| text::qualified_name(&name.to_lowercase()));
}

fn parameters(errors: &mut Errors, at: &At<'_, '_>) {
    if at.len() > PARAMETERS_MAX.0 {
        return errors.push(FieldError::too_long(at.path(), PARAMETERS_MAX.0));
    }
    let mut size = 0;
    for (key, value) in at.entries() {
        if key.is_empty() {
            errors.push(FieldError::invalid(at.path(), "".into(), "field can not be empty."));
        }
        size += key.len() + value.text().len();
    }
    if size > PARAMETERS_MAX.1 {
        errors.push(FieldError::too_long(at.path(), PARAMETERS_MAX.1));
    }
}

fn driver_name(errors: &mut Errors, at: &At<'_, '_>) {
    if at.text().len() > DRIVER_NAME_MAX {
        errors.push(FieldError::too_long(at.path(), DRIVER_NAME_MAX));
    }
    errors.required_text(at, |name| dns1123_subdomain(&name.to_lowercase(), false));
}

fn immutable_fields(new: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (new, old) = (At::root(new), At::root(old));
    for field in fields {
        errors.immutable(&new.get(field), &old.get(field));
    }
    errors.done()
}

impl Strategy for StorageClass {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        provisioner(&mut errors, &root.get("provisioner"));
        parameters(&mut errors, &root.get("parameters"));
        errors.optional_one_of(&root.get("reclaimPolicy"), &["Delete", "Retain"]);
        errors.one_of(&root.get("volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"]);
        let topologies = root.get("allowedTopologies");
        // A term without expressions counts as one that stands twice, as upstream compares them.
        let mut terms: Vec<BTreeMap<&str, BTreeSet<&str>>> = vec![BTreeMap::new(); topologies.len().min(1)];
        for term in topologies.items() {
            let expressions = term.get("matchLabelExpressions");
            let found = topology(&mut errors, &expressions);
            if terms.contains(&found) {
                errors.push(FieldError::duplicate(expressions.path(), "".into()));
            }
            terms.push(found);
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        immutable_fields(new, old, &["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"])
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Provisioner", "string", "Who makes the volumes."),
            column("ReclaimPolicy", "string", "What becomes of a volume that is released."),
            column("VolumeBindingMode", "string", "When a volume is made and bound."),
            column("AllowVolumeExpansion", "string", "Whether volumes may grow."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let or = |field: &'static str, other: &'static str| match root.get(field).text() {
            "" => Value::from(other),
            text => text.into(),
        };
        vec![
            super::columns::name_of_class(object, DEFAULT_STORAGE_CLASS),
            root.get("provisioner").text().into(),
            or("reclaimPolicy", "Delete"),
            or("volumeBindingMode", "Immediate"),
            root.get("allowVolumeExpansion").is_true().into(),
            table::age(object, now),
        ]
    }
}

/// The labels a node must have, by key.
fn topology<'v>(errors: &mut Errors, expressions: &At<'v, '_>) -> BTreeMap<&'v str, BTreeSet<&'v str>> {
    let mut found = BTreeMap::new();
    for expression in expressions.items() {
        let (key, values) = (expression.get("key"), expression.get("values"));
        if values.is_empty() {
            errors.required(&values, "");
        }
        let mut set = BTreeSet::new();
        for value in values.items() {
            if !set.insert(value.text()) {
                errors.duplicate(&value);
            }
        }
        errors.text(&key, text::qualified_name(key.text()));
        if found.insert(key.text(), set).is_some() {
            errors.duplicate(&key);
        }
    }
    found
}

/// VolumeAttributesClasses.
#[derive(Debug, Default)]
pub struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        provisioner(&mut errors, &root.get("driverName"));
        let given = root.get("parameters");
        parameters(&mut errors, &given);
        if given.is_empty() {
            errors.required(&given, "must contain at least one key/value pair");
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for field in ["driverName", "parameters"] {
            if !same(new.get(field), old.get(field)) {
                errors.forbidden(&At::root(new).get(field), format!("updates to {field} are forbidden."));
            }
        }
        errors.done()
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("DriverName", "string", "Which driver the class is for."), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let driver = At::root(object).get("driverName").text().into();
        vec![table::name(object), driver, table::age(object, now)]
    }
}

/// CSIDrivers.
#[derive(Debug, Default)]
pub struct CsiDriver;

/// Takes away the field of a feature (`VolumeLimitScaling`) that is not on.
fn without_alpha(driver: &mut Value) {
    if let Some(spec) = driver.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("preventPodSchedulingIfMissing");
    }
}

impl Strategy for CsiDriver {
    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        without_alpha(object);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        without_alpha(new);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        errors.optional_one_of(&spec.get("fsGroupPolicy"), &policies);
        let requests = spec.get("tokenRequests");
        let mut audiences = BTreeSet::new();
        for request in requests.items() {
            let (audience, seconds) = (request.get("audience"), request.get("expirationSeconds"));
            if !audiences.insert(audience.text()) {
                errors.push(FieldError::duplicate(audience.path(), audience.text().into()));
                continue;
            }
            if seconds.int().is_some_and(|s| s < 600) {
                errors.invalid(&seconds, "may not specify a duration less than 10 minutes");
            }
            if seconds.int().is_some_and(|s| s > 1 << 32) {
                errors.invalid(&seconds, "may not specify a duration larger than 2^32 seconds");
            }
        }
        let modes = spec.get("volumeLifecycleModes");
        for mode in modes.texts().filter(|mode| !matches!(*mode, "Persistent" | "Ephemeral")) {
            errors.push(FieldError::not_supported(modes.path(), mode.into(), &["Persistent", "Ephemeral"]));
        }
        let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
        if period.int().is_some_and(|seconds| seconds < 10) {
            errors.invalid(&period, "must be greater than or equal to 10 seconds");
        }
        let secrets = spec.get("serviceAccountTokenInSecrets");
        if secrets.present() && requests.is_empty() {
            let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            errors.invalid(&secrets, why);
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        // Upstream gives one field another name here.
        for (field, shown) in
            [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            let (is, was) = (new.get(field), old.get(field));
            errors.immutable(&new.get(shown).with_value(is.value()), &was);
        }
        errors.done()
    }

    /// Only changes are counted.
    fn begins_with_generation(&self) -> bool {
        false
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let (tokens, secrets) = ("/spec/tokenRequests", "/spec/serviceAccountTokenInSecrets");
        let asked = new.pointer(tokens).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        let before = old.and_then(|old| old.pointer(tokens));
        let changed = old.is_none() || !crate::validation::same(new.pointer(tokens), before);
        if !asked || !changed || new.pointer(secrets).is_some_and(|value| !value.is_null()) {
            return Vec::new();
        }
        let why = "is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume \
                   attributes";
        vec![format!("spec.serviceAccountTokenInSecrets {why}")]
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("AttachRequired", "boolean", "Whether volumes are attached before they are mounted."),
            column("PodInfoOnMount", "boolean", "Whether the driver wants to know of the pod."),
            column("StorageCapacity", "boolean", "Whether the driver says how much there is."),
            column("TokenRequests", "string", "Audiences of the tokens that the driver wants."),
            column("RequiresRepublish", "boolean", "Whether the driver wants to be asked again and again."),
            column("Modes", "string", "What kinds of volumes the driver has."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let spec = root.get("spec");
        let requests = spec.get("tokenRequests");
        let audiences: Vec<&str> = requests.items().map(|request| request.get("audience").text()).collect();
        let tokens = if requests.present() { audiences.join(",") } else { "<unset>".into() };
        let modes = spec.get("volumeLifecycleModes").texts().collect::<Vec<_>>().join(",");
        let is = |field: &'static str| Value::from(spec.get(field).is_true());
        let attach = spec.get("attachRequired");
        vec![
            table::name(object),
            (!attach.present() || attach.is_true()).into(),
            is("podInfoOnMount"),
            is("storageCapacity"),
            tokens.into(),
            is("requiresRepublish"),
            if modes.is_empty() { "<none>".into() } else { modes.into() },
            table::age(object, now),
        ]
    }
}

/// CSINodes.
#[derive(Debug, Default)]
pub struct CsiNode;

impl Strategy for CsiNode {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let mut names = BTreeSet::new();
        for driver in spec.get("drivers").items() {
            let (name, id) = (driver.get("name"), driver.get("nodeID"));
            driver_name(&mut errors, &name);
            if id.text().is_empty() {
                errors.required(&id, "");
            } else if id.text().len() > NODE_ID_MAX {
                errors.invalid(&id, format!("must be {NODE_ID_MAX} characters or less"));
            }
            errors.not_negative(&driver.get("allocatable").get("count"));
            if !names.insert(name.text()) {
                errors.duplicate(&name);
            }
            let mut keys = BTreeSet::new();
            for key in driver.get("topologyKeys").texts() {
                if key.is_empty() {
                    errors.required(&driver, "");
                }
                if !keys.insert(key) {
                    errors.push(FieldError::duplicate(driver.path(), key.into()));
                }
                for message in text::qualified_name(key) {
                    errors.push(FieldError::invalid(driver.path(), key.into(), message));
                }
            }
        }
        errors.done()
    }

    /// A driver may only change how many volumes it can have on the node.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        let (new, old) = (new.get("drivers"), old.get("drivers"));
        for was in old.items() {
            for is in new.items().filter(|is| is.get("name").text() == was.get("name").text()) {
                let fields = ["nodeID", "topologyKeys"];
                if !fields.iter().all(|field| same(is.get(field).value(), was.get(field).value())) {
                    let why = crate::validation::IMMUTABLE;
                    errors.push(FieldError::invalid(new.path(), is.json(), why));
                }
            }
        }
        errors.done()
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("Drivers", "integer", "How many drivers the node has."), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let drivers = root.get("spec").get("drivers").len();
        vec![table::name(object), drivers.into(), table::age(object, now)]
    }
}

/// CSIStorageCapacities.
#[derive(Debug, Default)]
pub struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let (class, capacity) = (root.get("storageClassName"), root.get("capacity"));
        selector::validate(&mut errors, &root.get("nodeTopology"));
        errors.text(&class, dns1123_subdomain(class.text(), false));
        if quantity(capacity.value()).is_some_and(|amount| amount < Quantity::ZERO) {
            errors.invalid(&capacity, "must be greater than or equal to 0");
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        immutable_fields(new, old, &["nodeTopology", "storageClassName"])
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("StorageClassName", "string", "Which class it is about."),
            column("Capacity", "string", "How much there is."),
        ]
    }

    fn cells(&self, object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let capacity = match quantity(root.get("capacity").value()) {
            Some(amount) => amount.to_string(),
            None => "<unset>".into(),
        };
        vec![table::name(object), root.get("storageClassName").text().into(), capacity.into()]
    }
}

/// VolumeAttachments.
#[derive(Debug, Default)]
pub struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        driver_name(&mut errors, &spec.get("attacher"));
        let source = spec.get("source");
        let (volume, inline) = (source.get("persistentVolumeName"), source.get("inlineVolumeSpec"));
        let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        match (volume.present(), inline.present()) {
            (false, false) => errors.required(&source, one),
            (true, true) => errors.forbidden(&source, one),
            (true, false) if volume.text().is_empty() => {
                errors.required(&volume, "must specify non empty persistentVolumeName");
            }
            _ => {}
        }
        if volume.present() {
            errors.text(&volume, dns1123_subdomain(volume.text(), false));
        }
        let node = spec.get("nodeName");
        errors.text(&node, dns1123_subdomain(node.text(), false));
        attachment(&mut errors, &root);
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        immutable_fields(new, old, &["spec"])
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        attachment(&mut errors, &At::root(new));
        errors.done()
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Attacher", "string", "Which driver attaches the volume."),
            column("PV", "string", "Which volume."),
            column("Node", "string", "To which node."),
            column("Attached", "boolean", "Whether it is attached."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        vec![
            table::name(object),
            spec.get("attacher").text().into(),
            spec.get("source").get("persistentVolumeName").text().into(),
            spec.get("nodeName").text().into(),
            status.get("attached").is_true().into(),
            table::age(object, now),
        ]
    }
}

/// What the driver says of a volume that it has attached or could not.
fn attachment(errors: &mut Errors, root: &At<'_, '_>) {
    let status = root.get("status");
    let metadata = status.get("attachmentMetadata");
    let size: usize = metadata.entries().map(|(key, value)| key.len() + value.text().len()).sum();
    if size > METADATA_MAX {
        errors.push(FieldError::too_long(metadata.path(), METADATA_MAX));
    }
    for field in ["attachError", "detachError"] {
        let error = status.get(field);
        let message = error.get("message");
        if message.text().len() > ERROR_MAX {
            errors.push(FieldError::too_long(message.path(), ERROR_MAX));
        }
        errors.in_range(&error.get("errorCode"), 0, i64::from(i32::MAX));
    }
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
