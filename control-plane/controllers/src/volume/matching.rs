//! Which volume a claim gets (`pkg/volume/util.FindMatchingVolume`), and whether the two belong together.

use serde_json::Value;
use skep_api::kinds::volume::class_of;
use skep_api::quantity::Quantity;
use skep_api::selector::NodeTerm;
use skep_api::validation::resources::quantity;
use skep_api::{LabelSelector, Meta};
use std::collections::BTreeMap;

/// Labels of a node, as its terms are matched against.
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) labels: &'a BTreeMap<Box<str>, Box<str>>,
}

pub(super) fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn annotation<'a>(tree: &'a Value, key: &str) -> Option<&'a str> {
    tree.pointer("/metadata/annotations")?.get(key)?.as_str()
}

fn modes(tree: &Value) -> impl Iterator<Item = &str> {
    let list = tree.pointer("/spec/accessModes").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

pub(super) fn size(tree: &Value, pointer: &str) -> Quantity {
    quantity(tree.pointer(pointer)).unwrap_or(Quantity::ZERO)
}

fn volume_mode(tree: &Value) -> &str {
    match text(tree, "/spec/volumeMode") {
        "" => "Filesystem",
        mode => mode,
    }
}

/// Whether a volume names this claim as its own.
pub(super) fn names(volume: &Value, claim: &Value) -> bool {
    let part = |field: &str| text(volume, &format!("/spec/claimRef/{field}"));
    let own = |field: &str| text(claim, &format!("/metadata/{field}"));
    !part("name").is_empty()
        && part("name") == own("name")
        && part("namespace") == own("namespace")
        && (part("uid").is_empty() || part("uid") == own("uid"))
}

/// Why a volume that a claim names cannot be its own: reason of the event and message.
pub(super) fn mismatch(volume: &Value, claim: &Value) -> Option<String> {
    let asked = size(claim, "/spec/resources/requests/storage");
    if size(volume, "/spec/capacity/storage") < asked {
        return Some("requested PV is too small".into());
    }
    if class_of(volume) != class_of(claim) {
        return Some("storageClassName does not match".into());
    }
    if volume_mode(volume) != volume_mode(claim) {
        return Some("incompatible volumeMode".into());
    }
    if !modes(claim).all(|mode| modes(volume).any(|has| has == mode)) {
        return Some("incompatible accessMode".into());
    }
    None
}

/// Whether the volume can be reached from the node.
fn reaches(volume: &Value, place: &Place<'_>) -> bool {
    let terms = volume.pointer("/spec/nodeAffinity/required/nodeSelectorTerms").and_then(Value::as_array);
    terms.is_none_or(|terms| {
        terms.iter().any(|term| NodeTerm::from_structure(term).matches(place.name, place.labels))
    })
}

/// The volume for a claim: the one that names it, or else the smallest free one that has all it asks for. `place` is the node
/// of its first consumer, where that is known; `delayed` says that the claim waits for it.
pub(super) fn best<'v>(
    claim: &Value,
    volumes: &'v [Value],
    place: Option<&Place<'_>>,
    delayed: bool,
) -> Option<&'v Value> {
    let fits = |volume: &&Value| {
        text(volume, "/metadata/deletionTimestamp").is_empty()
            && size(volume, "/spec/capacity/storage") >= size(claim, "/spec/resources/requests/storage")
            && volume_mode(volume) == volume_mode(claim)
            && modes(claim).all(|mode| modes(volume).any(|has| has == mode))
            && place.is_none_or(|place| reaches(volume, place))
    };
    if let Some(own) = volumes.iter().filter(|volume| names(volume, claim)).find(fits) {
        return Some(own);
    }
    if delayed && place.is_none() {
        return None;
    }
    let selector = claim.pointer("/spec/selector").filter(|s| !s.is_null());
    let selector = selector.map(|selector| LabelSelector::from_structure(Some(selector)));
    let chosen = |volume: &&Value| match &selector {
        None => true,
        Some(None) => false,
        Some(Some(selector)) => {
            let meta: Meta = volume
                .get("metadata")
                .and_then(|metadata| serde_json::from_value(metadata.clone()).ok())
                .unwrap_or_default();
            selector.matches(&meta.labels)
        }
    };
    let free = |volume: &&Value| {
        volume.pointer("/spec/claimRef").is_none_or(Value::is_null)
            && text(volume, "/status/phase") == "Available"
            && class_of(volume) == class_of(claim)
            && text(volume, "/spec/volumeAttributesClassName")
                == text(claim, "/spec/volumeAttributesClassName")
    };
    volumes.iter().filter(free).filter(chosen).filter(fits).min_by_key(|volume| {
        (size(volume, "/spec/capacity/storage"), text(volume, "/metadata/name").to_owned())
    })
}
