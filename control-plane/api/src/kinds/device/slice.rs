//! ResourceSlices: what devices a driver has, on which nodes.

use super::{binding_conditions, driver_name, fits, label, pool_name, qualified_name, taint, unique};
use crate::field::FieldError;
use crate::kinds::columns::{age, name};
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::quantity::Quantity;
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, resources::quantity};
use serde_json::Value;

/// ResourceSlices.
#[derive(Debug, Default)]
pub struct ResourceSlice;

/// Most devices of a slice; and of one that uses taints, counters or lists of values.
const DEVICES_MAX: (usize, usize) = (128, 64);
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;
const CONSUMED_SETS_MAX: usize = 2;
const TAINTS_MAX: usize = 16;
/// Most attributes and capacities of a device together, and most values of attributes.
const ATTRIBUTES_MAX: usize = 32;
const VALUES_MAX: usize = 48;
const VALUE_MAX: usize = 64;
const OPTIONS_MAX: usize = 10;

/// Lists of an attribute's values.
const LISTS: &[&str] = &["bools", "ints", "strings", "versions"];

/// Whether an attribute of any device has a list of values.
fn has_lists(slice: &Value) -> bool {
    let root = At::root(slice);
    let spec = root.get("spec");
    let devices = spec.get("devices");
    devices.items().any(|device| {
        let mut attributes =
            device.get("attributes").value().and_then(Value::as_object).into_iter().flatten();
        attributes.any(|(_, attribute)| {
            LISTS.iter().any(|list| attribute.get(list).is_some_and(|values| !values.is_null()))
        })
    })
}

/// Lists of values (KEP-5491) are off: taken only where there were some before.
fn drop_lists(new: &mut Value, old: Option<&Value>) {
    if old.is_some_and(has_lists) {
        return;
    }
    let devices = new.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
    for device in devices.into_iter().flatten() {
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        for attribute in attributes.into_iter().flat_map(|all| all.values_mut()) {
            if let Some(attribute) = attribute.as_object_mut() {
                attribute.retain(|field, _| !LISTS.contains(&field.as_str()));
            }
        }
    }
}

impl Strategy for ResourceSlice {
    /// A taint says since when it is there.
    fn prepare_create(&self, object: &mut Value, context: &Context<'_>) {
        drop_lists(object, None);
        let devices = object.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
        for device in devices.into_iter().flatten() {
            let taints = device.get_mut("taints").and_then(Value::as_array_mut);
            for taint in taints.into_iter().flatten().filter_map(Value::as_object_mut) {
                taint.entry("timeAdded").or_insert_with(|| crate::kinds::rfc3339(context.now).into());
            }
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        drop_lists(new, Some(old));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        driver_name(&mut errors, &spec.get("driver"));
        let pool = spec.get("pool");
        pool_name(&mut errors, &pool.get("name"));
        let (count, generation) = (pool.get("resourceSliceCount"), pool.get("generation"));
        if count.int().unwrap_or(0) <= 0 {
            errors.invalid(&count, "must be greater than zero");
        }
        if generation.int().is_some_and(|n| n < 0) {
            errors.invalid(&generation, "must be greater than or equal to zero");
        }
        let each = "`nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection`";
        let set = places(&mut errors, &spec, &["allNodes", "perDeviceNodeSelection"]);
        exactly_one(&mut errors, &spec, &set, &format!("exactly one of {each} is required"));
        let nodes = spec.get("nodeSelector");
        let terms = nodes.get("nodeSelectorTerms");
        if terms.len() > 1 {
            errors.invalid(&terms, "must have exactly one node selector term");
        }
        let (devices, counters) = (spec.get("devices"), spec.get("sharedCounters"));
        if devices.present() && counters.present() {
            let why = "only one of `sharedCounters` or `devices` is allowed";
            errors.push(FieldError::invalid(spec.path(), "".into(), why));
        }
        let advanced = devices.items().any(|device| {
            let listed = |at: At<'_, '_>| LISTS.iter().any(|field| at.get(field).present());
            !device.get("taints").is_empty()
                || !device.get("consumesCounters").is_empty()
                || device.get("attributes").entries().any(|(_, attribute)| listed(attribute))
        });
        let max = if advanced { DEVICES_MAX.1 } else { DEVICES_MAX.0 };
        if fits(&mut errors, &devices, max) {
            let own_place = spec.get("perDeviceNodeSelection").is_true();
            devices.items().for_each(|device| check_device(&mut errors, &device, own_place));
            unique(&mut errors, &devices, |device| device.get("name").text().to_owned());
        }
        if fits(&mut errors, &counters, COUNTER_SETS_MAX) {
            for set in counters.items() {
                errors.required_text(&set.get("name"), |name| dns1123_label(name, false));
                check_counters(&mut errors, &set.get("counters"));
            }
            unique(&mut errors, &counters, |set| set.get("name").text().to_owned());
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        errors.immutable(&new.get("pool").get("name"), &old.get("pool").get("name"));
        for field in ["driver", "nodeName"] {
            errors.immutable(&new.get(field), &old.get(field));
        }
        errors.done()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Node", "string", "The node that has the devices."),
            column("Driver", "string", "Who provides the devices."),
            column("Pool", "string", "Which pool the devices belong to."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let spec = root.get("spec");
        vec![
            table::name(object),
            spec.get("nodeName").text().into(),
            spec.get("driver").text().into(),
            spec.get("pool").get("name").text().into(),
            table::age(object, now),
        ]
    }
}

/// Which of the fields that say where devices are is set.
fn places(errors: &mut Errors, at: &At<'_, '_>, flags: &[&'static str]) -> Vec<String> {
    let (node, nodes) = (at.get("nodeName"), at.get("nodeSelector"));
    let mut set = Vec::new();
    if node.present() {
        if node.text().is_empty() {
            errors.invalid(&node, "must be either unset or set to a non-empty string");
        } else {
            set.push("`nodeName`".to_owned());
            errors.text(&node, dns1123_subdomain(node.text(), false));
        }
    }
    if nodes.present() {
        set.push("`nodeSelector`".to_owned());
        crate::kinds::pod::node_selector(errors, &nodes);
    }
    for flag in flags {
        let given = at.get(flag);
        if given.is_true() {
            set.push(format!("`{flag}`"));
        } else if given.present() {
            errors.invalid(&given, "must be either unset or set to true");
        }
    }
    set
}

fn exactly_one(errors: &mut Errors, at: &At<'_, '_>, set: &[String], why: &str) {
    match set {
        [] => errors.required(at, why),
        [_] => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            let why = format!("{why}, but multiple fields are set");
            errors.push(FieldError::invalid(at.path(), shown.into(), why));
        }
    }
}

fn check_counters(errors: &mut Errors, at: &At<'_, '_>) {
    if at.is_empty() {
        return errors.required(at, "");
    }
    if fits(errors, at, COUNTERS_MAX) {
        for (name, counter) in at.entries() {
            for message in dns1123_label(name, false) {
                errors.push(FieldError::invalid(counter.path(), name.into(), message));
            }
        }
    }
}

fn check_device(errors: &mut Errors, device: &At<'_, '_>, own_place: bool) {
    label(errors, &device.get("name"));
    let (attributes, capacity) = (device.get("attributes"), device.get("capacity"));
    let mut too_many = |count: usize, max: usize, what: &str| {
        if count > max {
            let why = format!("the total number of {what} must not exceed {max}");
            errors.push(FieldError::invalid(device.path(), count.into(), why));
        }
    };
    too_many(attributes.len() + capacity.len(), ATTRIBUTES_MAX, "attributes and capacities");
    let values = |at: At<'_, '_>| {
        let listed: usize = LISTS.iter().map(|field| at.get(field).len()).sum();
        listed.max(1)
    };
    too_many(attributes.entries().map(|(_, at)| values(at)).sum(), VALUES_MAX, "attribute values");
    for (name, attribute) in attributes.entries() {
        qualified_name(errors, &attribute, name, false);
        check_attribute(errors, &attribute);
    }
    let shared = device.get("allowMultipleAllocations").is_true();
    for (name, amount) in capacity.entries() {
        qualified_name(errors, &amount, name, false);
        let policy = amount.get("requestPolicy");
        if policy.present() && !shared {
            errors.forbidden(&policy, "allowMultipleAllocations must be true");
        } else if policy.present() {
            check_policy(errors, &policy, quantity(amount.get("value").value()));
        }
    }
    let (taints, consumed) = (device.get("taints"), device.get("consumesCounters"));
    if fits(errors, &taints, TAINTS_MAX) {
        taints.items().for_each(|item| taint(errors, &item));
    }
    if fits(errors, &consumed, CONSUMED_SETS_MAX) {
        for set in consumed.items() {
            errors.required_text(&set.get("counterSet"), |name| dns1123_label(name, false));
            check_counters(errors, &set.get("counters"));
        }
        unique(errors, &consumed, |set| set.get("counterSet").text().to_owned());
    }
    if own_place {
        let set = places(errors, device, &["allNodes"]);
        let why = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to \
                   true in the ResourceSlice spec";
        exactly_one(errors, device, &set, why);
    } else if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| device.get(field).present()) {
        let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the \
                   ResourceSlice spec";
        errors.push(FieldError::invalid(device.path(), Value::Null, why));
    }
    binding_conditions(errors, device);
}

fn check_attribute(errors: &mut Errors, at: &At<'_, '_>) {
    let mut kinds = 0;
    for field in ["bool", "int", "string", "version"] {
        let value = at.get(field);
        if value.present() {
            kinds += 1;
            check_text(errors, &value, field == "version");
        }
    }
    for field in LISTS {
        let list = at.get(field);
        if list.present() {
            kinds += 1;
            if list.is_empty() {
                errors.invalid(&list, "must not be empty if specified");
            }
            list.items().for_each(|value| check_text(errors, &value, *field == "versions"));
        }
    }
    if kinds != 1 {
        let shown = if kinds == 0 { "".into() } else { at.json() };
        errors.push(FieldError::invalid(at.path(), shown, "exactly one value must be specified"));
    }
}

fn check_text(errors: &mut Errors, at: &At<'_, '_>, version: bool) {
    if version && !is_semver(at.text()) {
        errors.invalid(at, "must be a string compatible with semver.org spec 2.0.0");
    }
    if at.text().len() > VALUE_MAX {
        errors.push(FieldError::too_long(at.path(), VALUE_MAX));
    }
}

fn is_semver(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, early) = rest.split_once('-').map_or((rest, None), |(core, early)| (core, Some(early)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    core.split('.').count() == 3
        && core.split('.').all(number)
        && early.is_none_or(|e| e.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|b| b.split('.').all(word))
}

/// What a consumer may ask of a capacity that several share.
fn check_policy(errors: &mut Errors, policy: &At<'_, '_>, most: Option<Quantity>) {
    let (values, range, default) =
        (policy.get("validValues"), policy.get("validRange"), policy.get("default"));
    let Some(most) = most else { return };
    if !values.is_empty() && range.present() {
        let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
        return errors.forbidden(policy, why);
    }
    let (list, spoken) = (!values.is_empty(), if values.is_empty() { "validRange" } else { "validValues" });
    if !list && !range.present() {
        return;
    }
    let Some(usual) = quantity(default.value()) else {
        return errors.required(&default, format!("required when {spoken} is defined"));
    };
    if list { check_options(errors, &values, usual, most) } else { check_range(errors, &range, usual, most) }
}

fn check_options(errors: &mut Errors, values: &At<'_, '_>, usual: Quantity, most: Quantity) {
    let amounts: Vec<Quantity> = values.items().filter_map(|value| quantity(value.value())).collect();
    if !fits(errors, values, OPTIONS_MAX) {
        return;
    }
    for (i, value) in values.items().enumerate() {
        let Some(amount) = amounts.get(i) else { continue };
        if i > 0 && amounts.get(i - 1).is_some_and(|before| before > amount) {
            errors.invalid(&value, "values must be sorted in ascending order");
        }
        if *amount > most {
            errors.invalid(&value, format!("option is larger than capacity value: {most}"));
        }
    }
    unique(errors, values, |value| quantity(value.value()).map(|q| q.to_string()).unwrap_or_default());
    if !amounts.contains(&usual) {
        let why = "default value is not valid according to the requestPolicy";
        errors.push(FieldError::invalid(values.path(), usual.to_string().into(), why));
    }
}

fn check_range(errors: &mut Errors, range: &At<'_, '_>, usual: Quantity, most: Quantity) {
    let (min, max, step) = (range.get("min"), range.get("max"), range.get("step"));
    let Some(low) = quantity(min.value()) else {
        return errors.required(&min, "required when validRange is defined");
    };
    let high = quantity(max.value());
    let mut say = |at: &At<'_, '_>, value: Quantity, why: String| {
        errors.push(FieldError::invalid(at.path(), value.to_string().into(), why));
    };
    if low > most {
        say(&min, low, format!("min is larger than capacity value: {most}"));
    }
    if usual < low {
        say(&min, usual, format!("default is less than min: {low}"));
    }
    if let Some(high) = high {
        if low > high {
            say(&max, low, format!("min is larger than max: {high}"));
        }
        if high > most {
            say(&max, high, format!("max is larger than capacity value: {most}"));
        }
        if usual > high {
            say(&max, usual, format!("default is more than max: {high}"));
        }
    }
    let Some(size) = quantity(step.value()) else { return };
    let next = low.add(&size);
    if next > most {
        say(&step, size, format!("one step {next} is larger than capacity value: {most}"));
    }
    for value in [Some(usual), high].into_iter().flatten() {
        if size.value() <= 0 || (value.value() - low.value()) % size.value() != 0 {
            say(&step, value, format!("value is not a multiple of a given step ({size}) from ({low})"));
        }
    }
}
