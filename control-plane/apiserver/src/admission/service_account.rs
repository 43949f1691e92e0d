//! ServiceAccount: every pod runs as an account of its namespace and, unless told not to, finds its token at a known path.

use super::{forbidden, is, list, list_mut, text};
use crate::hooks::{Operation, WriteRequest};
use serde_json::{Value, json};
use skep_api::{Object, Status};

/// The account of a pod that names none.
pub(super) const DEFAULT: &str = "default";
/// Where containers find token, CA and namespace.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Volumes that begin so are taken for one made here.
const VOLUME: &str = "kube-api-access-";
/// Marks a pod that mirrors one that the node runs from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Seconds a projected token is asked for.
const TOKEN_SECONDS: i64 = 3607;

pub(super) fn concerns(request: &WriteRequest<'_>) -> bool {
    request.operation == Operation::Create && is(request, "", "pods")
}

/// The account a pod wants; none for a mirror pod.
pub(super) fn wanted(pod: &Value) -> Option<String> {
    if mirrors(pod) {
        return None;
    }
    let name = text(pod, "/spec/serviceAccountName");
    Some(if name.is_empty() { DEFAULT } else { name }.to_owned())
}

fn mirrors(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations").and_then(|a| a.get(MIRROR)).is_some()
}

/// Fills in a pod for its account. `random` makes the name of the volume, should one be needed.
pub(super) fn admit(
    request: &WriteRequest<'_>,
    pod: &mut Value,
    account: Option<&Object>,
    random: &str,
) -> Result<(), Status> {
    if mirrors(pod) {
        return admit_mirror(request, pod);
    }
    let name = wanted(pod).unwrap_or_default();
    let Some(account) = account else {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount {name:?} not found",
            request.namespace
        );
        return Err(forbidden(request, why));
    };
    let account = account.value();
    let Some(spec) = pod.get_mut("spec").filter(|s| s.is_object()) else { return Ok(()) };
    spec["serviceAccountName"] = name.as_str().into();
    // The old name of the same field, which is kept equal to it.
    spec["serviceAccount"] = name.into();
    let flag = |tree: &Value| tree.get("automountServiceAccountToken").and_then(Value::as_bool);
    if flag(spec).or_else(|| flag(&account)).unwrap_or(true) {
        mount(spec, random);
    }
    let secrets = list(&account, "/imagePullSecrets");
    if list(spec, "/imagePullSecrets").is_empty() && !secrets.is_empty() {
        spec["imagePullSecrets"] = secrets.iter().map(|s| json!({"name": text(s, "/name")})).collect();
    }
    Ok(())
}

fn admit_mirror(request: &WriteRequest<'_>, pod: &Value) -> Result<(), Status> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err(forbidden(request, "a mirror pod may not reference service accounts"));
    }
    for volume in list(pod, "/spec/volumes") {
        if volume.get("secret").is_some() {
            return Err(forbidden(request, "a mirror pod may not reference secrets"));
        }
        if list(volume, "/projected/sources").iter().any(|s| s.get("serviceAccountToken").is_some()) {
            return Err(forbidden(
                request,
                "a mirror pod may not use ServiceAccountToken volume projections",
            ));
        }
    }
    Ok(())
}

fn mount(spec: &mut Value, random: &str) {
    let existing = list(spec, "/volumes")
        .iter()
        .map(|v| text(v, "/name"))
        .find(|n| n.starts_with(VOLUME))
        .map(str::to_owned);
    let volume = existing.clone().unwrap_or_else(|| format!("{VOLUME}{}", suffix(random)));
    let mut needed = false;
    for key in ["initContainers", "containers"] {
        for container in spec.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            if list(container, "/volumeMounts").iter().any(|m| text(m, "/mountPath") == MOUNT_PATH) {
                continue;
            }
            if let Some(mounts) = list_mut(container, "volumeMounts") {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
                needed = true;
            }
        }
    }
    if needed
        && existing.is_none()
        && let Some(volumes) = list_mut(spec, "volumes")
    {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

/// Five characters of upstream's alphabet for generated names, drawn from random hexadecimal text.
fn suffix(random: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let digits: Vec<usize> = random.chars().filter_map(|c| c.to_digit(16)).map(|d| d as usize).collect();
    digits
        .chunks(2)
        .take(5)
        .map(|pair| ALPHABET[pair.iter().fold(0, |n, d| n * 16 + d) % ALPHABET.len()] as char)
        .collect()
}
