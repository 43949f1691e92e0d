//! Rules of environment variables and of what they are read from.

use super::volume::Volumes;
use crate::field::FieldError;
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::validation::resources::quantity;
use crate::validation::{At, Errors, text};

/// Fields of a pod that a variable may be read from.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file may be read from.
pub(super) const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SIZES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

pub(super) fn variables(errors: &mut Errors, list: &At<'_, '_>, volumes: &Volumes<'_>) {
    for variable in list.items() {
        errors.required_text(&variable.get("name"), text::env_name);
        let from = variable.get("valueFrom");
        if from.present() {
            value_from(errors, &from, !variable.get("value").text().is_empty(), volumes);
        }
    }
}

fn value_from(errors: &mut Errors, from: &At<'_, '_>, has_value: bool, volumes: &Volumes<'_>) {
    let mut sources = 0;
    for source in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let at = from.get(source);
        if !at.present() {
            continue;
        }
        sources += 1;
        match source {
            "fieldRef" => field_ref(errors, &at, ENV_FIELDS),
            "resourceFieldRef" => resource_field_ref(errors, &at, false),
            "fileKeyRef" => file_key_ref(errors, &at, volumes),
            _ => {
                let (name, key) = (at.get("name"), at.get("key"));
                errors.text(&name, dns1123_subdomain(name.text(), false));
                errors.required_text(&key, text::config_key);
            }
        }
    }
    let why = match sources {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if has_value => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(from.path(), "".into(), why));
}

/// `fieldRef`: a field, or one label or annotation of the pod.
pub(super) fn field_ref(errors: &mut Errors, at: &At<'_, '_>, known: &[&str]) {
    let path = at.get("fieldPath");
    let version = at.get("apiVersion");
    if version.text().is_empty() {
        return errors.required(&version, "");
    }
    if path.text().is_empty() {
        return errors.required(&path, "");
    }
    match path.text().strip_suffix("']").and_then(|t| t.split_once("['")) {
        Some(("metadata.annotations", key)) => {
            for message in text::qualified_name(&key.to_lowercase()) {
                errors.push(FieldError::invalid(at.path(), key.to_lowercase().into(), message));
            }
        }
        Some(("metadata.labels", key)) => {
            for message in text::qualified_name(key) {
                errors.push(FieldError::invalid(at.path(), key.into(), message));
            }
        }
        Some((field, _)) => {
            errors.push(FieldError::invalid(
                path.path(),
                path.json(),
                format!("error converting fieldPath: field label does not support subscript: {field}"),
            ));
        }
        None if known.contains(&path.text()) => {}
        None if ENV_FIELDS.contains(&path.text()) || FILE_FIELDS.contains(&path.text()) => {
            errors.not_supported(&path, known);
        }
        None => errors.invalid(
            &path,
            format!("error converting fieldPath: field label not supported: {}", path.text()),
        ),
    }
}

/// `resourceFieldRef`: what a container may use of a resource.
pub(super) fn resource_field_ref(errors: &mut Errors, at: &At<'_, '_>, in_volume: bool) {
    let (container, resource, divisor) = (at.get("containerName"), at.get("resource"), at.get("divisor"));
    let name = resource.text();
    let huge = name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if in_volume && container.text().is_empty() {
        errors.required(&container, "");
    } else if name.is_empty() {
        errors.required(&resource, "");
    } else if !RESOURCE_FIELDS.contains(&name) && !huge {
        errors.not_supported(&resource, RESOURCE_FIELDS);
    }
    let Some(amount) = quantity(divisor.value()).filter(|q| !q.is_zero()) else { return };
    let (known, list, what) = match name.split_once('.').map_or("", |(_, resource)| resource) {
        "cpu" => (&["1m", "1"][..], "1m and 1", "cpu"),
        "memory" => (SIZES, "", "memory"),
        "ephemeral-storage" => (SIZES, "", "local ephemeral storage"),
        _ if huge => (SIZES, "", "hugepages"),
        _ => return,
    };
    if !known.contains(&amount.to_string().as_str()) {
        let list = if list.is_empty() { SIZES.join(", ") } else { list.to_owned() };
        let why = format!("only divisor's values {list} are supported with the {what} resource");
        errors.push(FieldError::invalid(divisor.path(), name.into(), why));
    }
}

fn file_key_ref(errors: &mut Errors, at: &At<'_, '_>, volumes: &Volumes<'_>) {
    errors.required_text(&at.get("key"), text::env_name);
    let volume = at.get("volumeName");
    errors.required_text(&volume, |name| dns1123_label(name, false));
    errors.required_text(&at.get("path"), text::no_backsteps);
    match volumes.source_kind(volume.text()) {
        None => errors.not_found(&volume),
        Some("emptyDir") => {}
        Some(_) => errors.invalid(&volume, "referenced volume must be of type emptyDir"),
    }
}

pub(super) fn sources(errors: &mut Errors, list: &At<'_, '_>) {
    for from in list.items() {
        errors.optional_text(&from.get("prefix"), text::env_name);
        let refs = [from.get("configMapRef"), from.get("secretRef")];
        for source in refs.iter().filter(|s| s.present()) {
            errors.required_text(&source.get("name"), |name| dns1123_subdomain(name, true));
        }
        let why = match refs.iter().filter(|s| s.present()).count() {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(list.path(), "".into(), why));
    }
}
