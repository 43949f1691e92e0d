//! What has become of a claim: devices that were chosen for it, who uses them, and what their drivers say.

use super::claim::Names;
use super::{
    LIST_MAX, binding_conditions, configuration, driver_name, fits, label, pool_name, raw, uid, unique,
};
use crate::field::FieldError;
use crate::validation::{At, Errors, conditions, same, text};
use serde_json::Value;
use std::collections::BTreeSet;

const USERS_MAX: usize = 256;
const CONDITIONS_MAX: usize = 8;
const DATA_MAX: usize = 10 << 10;
const INTERFACE_MAX: usize = 256;
const HARDWARE_MAX: usize = 128;
const ADDRESSES_MAX: usize = 16;

/// Driver, pool, device and share.
fn identity(at: &At<'_, '_>) -> String {
    let share = at.get("shareID");
    let slash = if share.present() { "/" } else { "" };
    let text = |field: &'static str| at.get(field).text();
    format!("{}/{}/{}{slash}{}", text("driver"), text("pool"), text("device"), share.text())
}

fn allocated(object: &Value) -> BTreeSet<String> {
    let root = At::root(object);
    let status = root.get("status");
    let allocation = status.get("allocation");
    let devices = allocation.get("devices");
    devices.get("results").items().map(|result| identity(&result)).collect()
}

/// What drivers said of devices goes when the devices are given back.
pub(super) fn drop_deallocated(new: &mut Value, old: &Value) {
    let (kept, before) = (allocated(new), allocated(old));
    let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) else { return };
    let Some(devices) = status.get_mut("devices").and_then(Value::as_array_mut) else { return };
    devices.retain(|device| {
        let id = identity(&At::root(device));
        kept.contains(&id) || !before.contains(&id)
    });
    if devices.is_empty() {
        status.remove("devices");
    }
}

pub(super) fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (root, old) = (At::root(new), At::root(old));
    let (status, before) = (root.get("status"), old.get("status"));
    let (users, allocation) = (status.get("reservedFor"), status.get("allocation"));
    if fits(&mut errors, &users, USERS_MAX) {
        for user in users.items() {
            for field in ["resource", "name", "uid"] {
                let part = user.get(field);
                if part.text().is_empty() {
                    errors.required(&part, "");
                }
            }
        }
        unique(&mut errors, &users, |user| user.get("uid").text().to_owned());
    }
    let chosen = allocated(new);
    let devices = status.get("devices");
    devices.items().for_each(|device| check_device(&mut errors, &device, &chosen));
    unique(&mut errors, &devices, identity);
    if !users.is_empty() && !allocation.present() {
        errors.forbidden(&users, "may not be specified when `allocated` is not set");
    } else if root.get("metadata").get("deletionTimestamp").present() {
        let earlier = before.get("reservedFor");
        let known = |user: &At<'_, '_>| earlier.items().any(|was| same(was.value(), user.value()));
        if !users.items().all(|user| known(&user)) {
            let why =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(&users, why);
        }
    }
    let was = before.get("allocation");
    if was.present() && allocation.present() {
        errors.immutable(&allocation, &was);
    } else if allocation.present() {
        let spec = root.get("spec");
        check_allocation(&mut errors, &allocation, &Names::of(&spec.get("devices")));
    }
    errors.done()
}

fn check_allocation(errors: &mut Errors, allocation: &At<'_, '_>, names: &Names<'_>) {
    let devices = allocation.get("devices");
    let (results, config) = (devices.get("results"), devices.get("config"));
    if fits(errors, &results, LIST_MAX) {
        for result in results.items() {
            names.refer(errors, &result.get("request"));
            driver_name(errors, &result.get("driver"));
            pool_name(errors, &result.get("pool"));
            label(errors, &result.get("device"));
            binding_conditions(errors, &result);
            let share = result.get("shareID");
            if share.present() {
                uid(errors, &share);
            }
        }
    }
    if fits(errors, &config, 2 * LIST_MAX) {
        for entry in config.items() {
            errors.one_of(&entry.get("source"), &["FromClaim", "FromClass"]);
            names.refer_all(errors, &entry.get("requests"));
            configuration(errors, &entry);
        }
    }
    let nodes = allocation.get("nodeSelector");
    if nodes.present() {
        crate::kinds::pod::node_selector(errors, &nodes);
    }
}

fn check_device(errors: &mut Errors, device: &At<'_, '_>, chosen: &BTreeSet<String>) {
    driver_name(errors, &device.get("driver"));
    pool_name(errors, &device.get("pool"));
    label(errors, &device.get("device"));
    let (share, told, data) = (device.get("shareID"), device.get("conditions"), device.get("data"));
    if share.present() {
        uid(errors, &share);
    }
    let id = identity(device);
    if !chosen.contains(&id) {
        let why = "must be an allocated device in the claim";
        errors.push(FieldError::invalid(device.path(), id.into(), why));
    }
    fits(errors, &told, CONDITIONS_MAX);
    conditions(errors, &told);
    if data.present() {
        raw(errors, &data, DATA_MAX);
    }
    let network = device.get("networkData");
    for (field, max) in [("interfaceName", INTERFACE_MAX), ("hardwareAddress", HARDWARE_MAX)] {
        let at = network.get(field);
        if at.text().len() > max {
            errors.push(FieldError::too_long(at.path(), max));
        }
    }
    let addresses = network.get("ips");
    if fits(errors, &addresses, ADDRESSES_MAX) {
        for address in addresses.items() {
            let (ip, bits) = address.text().split_once('/').unwrap_or((address.text(), ""));
            if !text::ip(ip).is_empty() || bits.parse::<u8>().is_err() {
                let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
                errors.invalid(&address, why);
            }
        }
        unique(errors, &addresses, |address| address.text().to_owned());
    }
}
