//! Names, hashes, annotations and revisions of a Deployment's ReplicaSets.

use super::model::{
    Annotations, DESIRED, Deployment, HASH_LABEL, MAX, NOT_COPIED, REVISION, REVISION_HISTORY, ReplicaSet,
};
use crate::views::controller_reference;
use serde_json::{Value, json};

/// The alphabet of generated names: no vowels, no digits that look like letters.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// `RevisionHistory` keeps no more characters than this.
const HISTORY_MAX: usize = 2000;

/// A short hash of a template, different after each collision.
pub(crate) fn hash(template: &Value, collisions: i64) -> String {
    // FNV-1a over the canonical JSON: stable for ever, as the names of sets are.
    let mut hash: u32 = 0x811c_9dc5;
    for byte in template.to_string().bytes().chain(collisions.to_le_bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash.to_string().bytes().map(|b| SAFE[usize::from(b) % SAFE.len()] as char).collect()
}

/// `name-hash`, the name cut where the whole, with the suffix of its pods, would be longer than a name may be.
pub(super) fn set_name(deployment: &str, hash: &str) -> String {
    let room = 253 - 1 - hash.len() - 6;
    let mut end = deployment.len().min(room);
    while !deployment.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{hash}", &deployment[..end])
}

/// The annotations a set should have; `None` where it has them.
pub(super) fn annotations(
    deployment: &Deployment,
    present: Option<&Annotations>,
    revision: i64,
    exists: bool,
) -> Option<Annotations> {
    let mut out = present.cloned().unwrap_or_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            out.insert(key.clone(), value.clone());
        }
    }
    let old = out.get(REVISION).cloned();
    let old_number: i64 = old.as_deref().and_then(|r| r.parse().ok()).unwrap_or(0);
    if old_number < revision {
        out.insert(REVISION.into(), revision.to_string());
        if let Some(old) = old {
            remember(&mut out, &old);
        }
    }
    if !exists {
        let (surge, _) = deployment.fences();
        out.insert(DESIRED.into(), deployment.replicas().to_string());
        out.insert(MAX.into(), (deployment.replicas() + surge).to_string());
    }
    (present != Some(&out)).then_some(out)
}

/// Appends a revision to the history, dropping the oldest where it gets too long.
fn remember(annotations: &mut Annotations, revision: &str) {
    let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
    let mut all: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
    all.push(revision);
    while all.len() > 1 && all.iter().map(|r| r.len() + 1).sum::<usize>() > HISTORY_MAX {
        all.remove(0);
    }
    let joined = all.join(",");
    annotations.insert(REVISION_HISTORY.into(), joined);
}

/// The ReplicaSet for the Deployment's present template.
pub(super) fn new_set(deployment: &Deployment, revision: i64, replicas: i64, collisions: i64) -> Value {
    let spec = &deployment.spec;
    let hash = hash(&spec.template, collisions);
    let meta = &deployment.metadata.meta;
    let mut template = spec.template.clone();
    put_label(&mut template["metadata"], "labels", &hash);
    let mut selector = spec.selector.clone();
    put_label(&mut selector, "matchLabels", &hash);
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": set_name(&meta.name, &hash), "namespace": meta.namespace,
            "labels": template["metadata"]["labels"],
            "annotations": annotations(deployment, None, revision, false).unwrap_or_default(),
            "ownerReferences": [controller_reference("apps/v1", "Deployment", &meta.name, &meta.uid)],
        },
        "spec": {
            "replicas": replicas, "minReadySeconds": spec.min_ready_seconds,
            "selector": selector, "template": template,
        },
    })
}

fn put_label(holder: &mut Value, key: &str, hash: &str) {
    if holder.get(key).is_none_or(Value::is_null) {
        holder[key] = json!({});
    }
    holder[key][HASH_LABEL] = hash.into();
}

/// The highest revision among sets.
pub(super) fn max_revision<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    sets.into_iter().map(ReplicaSet::revision).max().unwrap_or(0)
}
