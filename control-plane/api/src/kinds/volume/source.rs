//! Rules of the sources that volumes of pods and PersistentVolumes have in common.

use crate::field::FieldError;
use crate::validation::{At, Errors};

/// Numbers of disks and partitions: up to here.
const NUMBER_MAX: i64 = 255;
/// What names of iSCSI begin with.
const ISCSI: &[&str] = &["iqn", "eui", "naa"];
const REGISTRY: &str = "must be a host:port pair or multiple pairs separated by commas";
/// Most characters of a tenant, a UUID.
const TENANT_MAX: usize = 64;

/// What a source must say beyond the fields that it cannot do without.
pub(in crate::kinds) fn details(errors: &mut Errors, at: &At<'_, '_>, kind: &str) {
    match kind {
        "fc" => fibre_channel(errors, at),
        "quobyte" => quobyte(errors, at),
        "flocker" => flocker(errors, at),
        "iscsi" => iscsi(errors, at),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = at.get("partition");
            if partition.int().is_some_and(|number| !(0..=NUMBER_MAX).contains(&number)) {
                errors.invalid(&partition, "must be between 0 and 255, inclusive");
            }
        }
        "azureDisk" => {
            errors.optional_one_of(&at.get("cachingMode"), &["None", "ReadOnly", "ReadWrite"]);
            errors.optional_one_of(&at.get("kind"), &["Dedicated", "Managed", "Shared"]);
        }
        _ => {}
    }
}

fn fibre_channel(errors: &mut Errors, at: &At<'_, '_>) {
    let (targets, wide, lun) = (at.get("targetWWNs"), at.get("wwids"), at.get("lun"));
    match (targets.is_empty(), wide.is_empty()) {
        (true, true) => errors.required(&targets, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => {
            errors.invalid(&targets, "targetWWNs and wwids can not be specified simultaneously")
        }
        _ => {}
    }
    if targets.is_empty() {
        return;
    }
    if !lun.present() {
        errors.required(&lun, "lun is required if targetWWNs is specified");
    }
    errors.in_range(&lun, 0, NUMBER_MAX);
}

fn quobyte(errors: &mut Errors, at: &At<'_, '_>) {
    let (registry, tenant) = (at.get("registry"), at.get("tenant"));
    if registry.text().is_empty() {
        return errors.required(&registry, REGISTRY);
    }
    if tenant.text().len() > TENANT_MAX {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        return errors.required(&tenant, why);
    }
    let wrong = registry.text().split(',').filter(|pair| !is_host_and_port(pair));
    wrong.for_each(|_| errors.invalid(&registry, REGISTRY));
}

/// `host:port` or `[address]:port`, with parts that may be empty.
fn is_host_and_port(pair: &str) -> bool {
    let host = match pair.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").map(|(host, _)| host),
        None => pair.rsplit_once(':').map(|(host, _)| host).filter(|host| !host.contains(':')),
    };
    host.is_some_and(|host| !host.contains(['[', ']']))
}

fn flocker(errors: &mut Errors, at: &At<'_, '_>) {
    let (name, id) = (at.get("datasetName"), at.get("datasetUUID"));
    match (name.is_empty(), id.is_empty()) {
        (true, true) => errors.required(at, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(FieldError::invalid(at.path(), "resource".into(), why));
        }
        _ => {}
    }
    if name.text().contains('/') {
        errors.invalid(&name, "must not contain '/'");
    }
}

fn iscsi(errors: &mut Errors, at: &At<'_, '_>) {
    const FORM: &str = "must be valid format starting with iqn, eui, or naa";
    for field in ["iqn", "initiatorName"] {
        let name = at.get(field);
        if !name.text().is_empty() && !ISCSI.iter().any(|begin| name.text().starts_with(begin)) {
            // Upstream writes one field without its capital letter.
            let lower = at.get("initiatorname");
            let shown = if field == "iqn" { name } else { lower.with_value(name.value()) };
            errors.invalid(&shown, FORM);
        }
    }
    errors.in_range(&at.get("lun"), 0, NUMBER_MAX);
    let secret = at.get("secretRef");
    let asked = ["chapAuthDiscovery", "chapAuthSession"].iter().any(|field| at.get(field).is_true());
    if asked && !secret.present() {
        errors.required(&secret, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::shown;
    use serde_json::json;

    #[test]
    fn what_sources_must_say() {
        for (kind, source, wrong) in [
            ("fc", json!({"wwids": ["x"]}), ""),
            (
                "fc",
                json!({"targetWWNs": ["x"]}),
                "lun: Required value: lun is required if targetWWNs is specified",
            ),
            ("quobyte", json!({"registry": "a:1,[::1]:2"}), ""),
            (
                "quobyte",
                json!({"registry": "a:1,b"}),
                "registry: Invalid value: \"a:1,b\": must be a host:port pair",
            ),
            (
                "iscsi",
                json!({"iqn": "x"}),
                "iqn: Invalid value: \"x\": must be valid format starting with iqn",
            ),
            ("iscsi", json!({"iqn": "iqn.x", "chapAuthSession": true}), "secretRef: Required value"),
            (
                "flocker",
                json!({"datasetName": "a/b"}),
                "datasetName: Invalid value: \"a/b\": must not contain '/'",
            ),
        ] {
            let mut errors = Errors::new();
            details(&mut errors, &At::root(&source), kind);
            let text = shown(&errors.done());
            assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{wrong}: {text}");
        }
    }
}
