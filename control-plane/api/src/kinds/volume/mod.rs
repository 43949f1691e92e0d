//! PersistentVolumes and PersistentVolumeClaims.

mod claim;
pub mod matching;
mod persistent;
mod source;
#[cfg(test)]
mod tests;

pub use claim::PersistentVolumeClaim;
pub(super) use claim::check_spec as check_claim_spec;
pub use persistent::PersistentVolume;
pub(super) use source::details as source_details;

use crate::names::dns1123_subdomain;
use crate::validation::{At, Errors};
use serde_json::Value;
use std::collections::BTreeSet;

/// Named the class before there was a field for it.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Ways in which a volume may be used, and how tables write them.
const MODES: &[(&str, &str)] = &[
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOnce", "RWO"),
    ("ReadWriteOncePod", "RWOP"),
];
/// The order in which tables show them.
const SHOWN: &[&str] = &["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];

/// Whether a class is named, be it the empty one.
pub fn names_class(object: &Value) -> bool {
    let annotated =
        object.pointer("/metadata/annotations").is_some_and(|all| all.get(CLASS_ANNOTATION).is_some());
    annotated || object.pointer("/spec/storageClassName").is_some_and(|name| !name.is_null())
}

/// The storage class of a claim or a volume; empty for none.
pub fn class_of(object: &Value) -> &str {
    let annotations = object.pointer("/metadata/annotations");
    let annotation = annotations.and_then(|all| all.get(CLASS_ANNOTATION)).and_then(Value::as_str);
    let field = object.pointer("/spec/storageClassName").and_then(Value::as_str);
    annotation.or(field).unwrap_or_default()
}

fn access_modes(errors: &mut Errors, at: &At<'_, '_>, why: &str) {
    if at.is_empty() {
        errors.required(at, why);
    }
    let known: Vec<&str> = MODES.iter().map(|(mode, _)| *mode).collect();
    for mode in at.texts().filter(|mode| !known.contains(mode)) {
        errors.push(crate::FieldError::not_supported(at.path(), mode.into(), &known));
    }
    let all: BTreeSet<&str> = at.texts().filter(|mode| known.contains(mode)).collect();
    if all.contains("ReadWriteOncePod") && all.len() > 1 {
        errors.forbidden(at, "may not use ReadWriteOncePod with other access modes");
    }
}

fn class_names(errors: &mut Errors, spec: &At<'_, '_>) {
    errors.optional_text(&spec.get("storageClassName"), |name| dns1123_subdomain(name, false));
    errors.optional_text(&spec.get("volumeAttributesClassName"), |name| dns1123_subdomain(name, false));
    errors.optional_one_of(&spec.get("volumeMode"), &["Block", "Filesystem"]);
}

/// `RWO,ROX`.
fn modes_text(at: &At<'_, '_>) -> Value {
    let short = |mode: &&str| MODES.iter().find(|(long, _)| long == mode).map(|(_, short)| *short);
    let has = |mode: &&&str| at.texts().any(|text| text == **mode);
    SHOWN.iter().filter(has).filter_map(short).collect::<Vec<_>>().join(",").into()
}

/// A field's text, or that it is not set.
fn or_unset(at: &At<'_, '_>) -> Value {
    if at.present() { at.text().into() } else { "<unset>".into() }
}

/// The phase, or that the object is on its way out.
fn phase(object: &Value) -> Value {
    let root = At::root(object);
    let going = root.get("metadata").get("deletionTimestamp").present();
    if going { "Terminating".into() } else { root.get("status").get("phase").text().into() }
}
