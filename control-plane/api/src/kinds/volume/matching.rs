//! Which volume a claim gets (`pkg/volume/util.FindMatchingVolume`), and whether the two belong together: what the binder and
//! the scheduler must agree on.

use super::class_of;
use crate::meta::Meta;
use crate::quantity::Quantity;
use crate::selector::{LabelSelector, NodeTerm};
use crate::validation::resources::quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// A node, as terms are matched against it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<Box<str>, Box<str>>,
}

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn modes(tree: &Value) -> impl Iterator<Item = &str> {
    let list = tree.pointer("/spec/accessModes").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

fn size(tree: &Value, pointer: &str) -> Quantity {
    quantity(tree.pointer(pointer)).unwrap_or(Quantity::ZERO)
}

fn volume_mode(tree: &Value) -> &str {
    match text(tree, "/spec/volumeMode") {
        "" => "Filesystem",
        mode => mode,
    }
}

/// Whether a volume names this claim as its own.
pub fn names(volume: &Value, claim: &Value) -> bool {
    let part = |field: &str| text(volume, &format!("/spec/claimRef/{field}"));
    let own = |field: &str| text(claim, &format!("/metadata/{field}"));
    !part("name").is_empty()
        && part("name") == own("name")
        && part("namespace") == own("namespace")
        && (part("uid").is_empty() || part("uid") == own("uid"))
}

/// Why a volume that a claim names cannot be its own.
pub fn mismatch(volume: &Value, claim: &Value) -> Option<String> {
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

/// The terms of nodes that reach a volume, of which one must match; none where every node does.
pub fn terms(volume: &Value) -> Option<Vec<NodeTerm>> {
    let terms = volume.pointer("/spec/nodeAffinity/required/nodeSelectorTerms").and_then(Value::as_array);
    terms.map(|terms| terms.iter().map(NodeTerm::from_structure).collect())
}

/// Whether a node is one of those.
pub fn reaches(terms: Option<&[NodeTerm]>, place: Place<'_>) -> bool {
    terms.is_none_or(|terms| terms.iter().any(|term| term.matches(place.name, place.labels)))
}

/// The volumes a claim could have, the best first: the one that names it, or else all that are free and have what it asks for,
/// by size.
pub fn candidates<'v>(claim: &Value, volumes: &'v [Value]) -> Vec<&'v Value> {
    let fits = |volume: &&Value| {
        text(volume, "/metadata/deletionTimestamp").is_empty()
            && size(volume, "/spec/capacity/storage") >= size(claim, "/spec/resources/requests/storage")
            && volume_mode(volume) == volume_mode(claim)
            && modes(claim).all(|mode| modes(volume).any(|has| has == mode))
    };
    if let Some(own) = volumes.iter().filter(|volume| names(volume, claim)).find(fits) {
        return vec![own];
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
    let mut all: Vec<&Value> = volumes.iter().filter(free).filter(chosen).filter(fits).collect();
    all.sort_by_key(|volume| {
        (size(volume, "/spec/capacity/storage"), text(volume, "/metadata/name").to_owned())
    });
    all
}

/// The volume for a claim: the best that the node of its first consumer reaches, where that is known. `delayed` says that the
/// claim waits for it, unless a volume names the claim.
pub fn best<'v>(
    claim: &Value,
    volumes: &'v [Value],
    place: Option<Place<'_>>,
    delayed: bool,
) -> Option<&'v Value> {
    let reached = |volume: &&Value| place.is_none_or(|place| reaches(terms(volume).as_deref(), place));
    let found = candidates(claim, volumes).into_iter().find(reached)?;
    (!delayed || place.is_some() || names(found, claim)).then_some(found)
}
