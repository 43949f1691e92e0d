//! The objects that a pod, or a volume, names: what a node may read because of them.

use serde_json::Value;

/// Where the sources of a pod's volumes name a Secret, in the pod's own namespace.
const VOLUME_SECRETS: [&str; 10] = [
    "/azureFile/secretName",
    "/cephfs/secretRef/name",
    "/cinder/secretRef/name",
    "/flexVolume/secretRef/name",
    "/rbd/secretRef/name",
    "/secret/secretName",
    "/scaleIO/secretRef/name",
    "/iscsi/secretRef/name",
    "/storageos/secretRef/name",
    "/csi/nodePublishSecretRef/name",
];

/// Where a persistent volume names a Secret that nodes read, and whether the namespace of its claim stands in for one that
/// is not named.
const PERSISTENT_SECRETS: [(&str, bool); 10] = [
    ("/spec/cephfs/secretRef", true),
    ("/spec/cinder/secretRef", false),
    ("/spec/flexVolume/secretRef", true),
    ("/spec/rbd/secretRef", true),
    ("/spec/scaleIO/secretRef", true),
    ("/spec/iscsi/secretRef", true),
    ("/spec/storageos/secretRef", false),
    ("/spec/csi/nodePublishSecretRef", false),
    ("/spec/csi/nodeStageSecretRef", false),
    ("/spec/csi/nodeExpandSecretRef", false),
];

/// The annotation of a pod that mirrors one which its node runs from a file.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

fn text<'a>(tree: &'a Value, pointer: &str) -> Option<&'a str> {
    tree.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn list<'a>(tree: &'a Value, pointer: &str) -> &'a [Value] {
    tree.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let all = ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"];
    all.into_iter().flat_map(|at| list(pod, at))
}

/// What the environments of a pod's containers name, as whole sources and as single keys.
fn environment<'a>(pod: &'a Value, whole: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    containers(pod).flat_map(move |container| {
        let sources = list(container, "/envFrom").iter().filter_map(move |from| text(from, whole));
        sources.chain(list(container, "/env").iter().filter_map(move |var| text(var, key)))
    })
}

fn projected<'a>(pod: &'a Value, at: &'a str) -> impl Iterator<Item = &'a str> {
    let sources = list(pod, "/spec/volumes").iter().flat_map(|volume| list(volume, "/projected/sources"));
    sources.filter_map(move |source| text(source, at))
}

/// Whether a pod mirrors one that its node runs from a file.
pub fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations").and_then(|all| all.get(MIRROR)).is_some()
}

/// The Secrets a pod names; some perhaps twice.
pub fn secrets(pod: &Value) -> impl Iterator<Item = &str> {
    let pulls = list(pod, "/spec/imagePullSecrets").iter().filter_map(|secret| text(secret, "/name"));
    let volumes = list(pod, "/spec/volumes");
    let volumes = volumes.iter().flat_map(|volume| VOLUME_SECRETS.iter().filter_map(|at| text(volume, at)));
    pulls
        .chain(environment(pod, "/secretRef/name", "/valueFrom/secretKeyRef/name"))
        .chain(volumes)
        .chain(projected(pod, "/secret/name"))
}

/// The ConfigMaps a pod names; some perhaps twice.
pub fn config_maps(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = list(pod, "/spec/volumes").iter().filter_map(|volume| text(volume, "/configMap/name"));
    environment(pod, "/configMapRef/name", "/valueFrom/configMapKeyRef/name")
        .chain(volumes)
        .chain(projected(pod, "/configMap/name"))
}

/// The PersistentVolumeClaims a pod names, or that are made for it.
pub fn claims(pod: &Value) -> impl Iterator<Item = String> {
    let name = text(pod, "/metadata/name").unwrap_or_default();
    list(pod, "/spec/volumes").iter().filter_map(move |volume| {
        let named = text(volume, "/persistentVolumeClaim/claimName").map(str::to_owned);
        let made = volume.get("ephemeral").filter(|e| !e.is_null()).and_then(|_| text(volume, "/name"));
        named.or_else(|| made.map(|volume| format!("{name}-{volume}")))
    })
}

/// The ResourceClaims a pod names, or that were made for it.
pub fn resource_claims(pod: &Value) -> impl Iterator<Item = &str> {
    let statuses = list(pod, "/status/resourceClaimStatuses");
    let named = list(pod, "/spec/resourceClaims").iter().filter_map(move |claim| {
        let entry = text(claim, "/name");
        let made = || statuses.iter().find(|status| text(status, "/name") == entry);
        text(claim, "/resourceClaimName").or_else(|| text(made()?, "/resourceClaimName"))
    });
    named.chain(text(pod, "/status/extendedResourceClaimStatus/resourceClaimName"))
}

/// The Secrets a persistent volume names for nodes, each with its namespace.
pub fn volume_secrets(volume: &Value) -> Vec<(&str, &str)> {
    let claimed = text(volume, "/spec/claimRef/namespace").unwrap_or_default();
    let azure = text(volume, "/spec/azureFile/secretName")
        .map(|name| (text(volume, "/spec/azureFile/secretNamespace").unwrap_or(claimed), name));
    let others = PERSISTENT_SECRETS.iter().filter_map(|(at, stands_in)| {
        let secret = volume.pointer(at)?;
        let fallback = if *stands_in { claimed } else { "" };
        Some((text(secret, "/namespace").unwrap_or(fallback), text(secret, "/name")?))
    });
    azure.into_iter().chain(others).collect()
}

/// Volume sources that need no other object of the API.
const FREE_VOLUMES: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// Volume sources that need one, and how a refusal names it.
const BOUND_VOLUMES: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];

/// The same for the sources of projected volumes.
const BOUND_PROJECTIONS: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

/// What kind of object of the API a pod needs, as a refusal names it; none where it needs none. What a volume is of cannot
/// be told: an error, for people.
pub fn needs(pod: &Value) -> Result<Option<&'static str>, String> {
    if text(pod, "/spec/serviceAccountName").is_some() {
        return Ok(Some("serviceaccounts"));
    }
    if secrets(pod).next().is_some() {
        return Ok(Some("secrets"));
    }
    if config_maps(pod).next().is_some() {
        return Ok(Some("configmaps"));
    }
    if !list(pod, "/spec/resourceClaims").is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in list(pod, "/spec/volumes") {
        let has = |tree: &Value, kind: &str| tree.get(kind).is_some_and(|source| !source.is_null());
        if FREE_VOLUMES.iter().any(|kind| has(volume, kind)) {
            continue;
        }
        if let Some((_, needed)) = BOUND_VOLUMES.iter().find(|(kind, _)| has(volume, kind)) {
            return Ok(Some(needed));
        }
        let name = text(volume, "/name").unwrap_or_default();
        if !has(volume, "projected") {
            return Err(format!("unknown volume type for volume  {name:?}"));
        }
        for source in list(volume, "/projected/sources") {
            if let Some((_, needed)) = BOUND_PROJECTIONS.iter().find(|(kind, _)| has(source, kind)) {
                return Ok(Some(needed));
            }
            if !has(source, "downwardAPI") {
                return Err(format!("unknown source for projected volume {name:?}"));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_names_objects_in_many_places() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "from"}}, {"configMapRef": {"name": "cfrom"}}]}],
            "containers": [{"env": [
                {"valueFrom": {"secretKeyRef": {"name": "key"}}}, {"valueFrom": {"configMapKeyRef": {"name": "ckey"}}}]}],
            "ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "late"}}]}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "vol"}}, {"name": "b", "configMap": {"name": "cvol"}},
                {"name": "c", "projected": {"sources": [{"secret": {"name": "pro"}}, {"configMap": {"name": "cpro"}}]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}}, {"name": "e", "ephemeral": {}},
                {"name": "f", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "csi"}}}],
            "resourceClaims": [{"name": "r", "resourceClaimName": "own"}, {"name": "t", "resourceClaimTemplateName": "x"}]},
            "status": {"resourceClaimStatuses": [{"name": "t", "resourceClaimName": "made"}]}});
        assert_eq!(secrets(&pod).collect::<Vec<_>>(), ["pull", "from", "key", "late", "vol", "csi", "pro"]);
        assert_eq!(config_maps(&pod).collect::<Vec<_>>(), ["cfrom", "ckey", "cvol", "cpro"]);
        assert_eq!(claims(&pod).collect::<Vec<_>>(), ["claim", "p-e"]);
        assert_eq!(resource_claims(&pod).collect::<Vec<_>>(), ["own", "made"]);
    }

    #[test]
    fn a_volume_names_secrets_for_nodes() {
        let volume = |source: Value| {
            let mut tree = json!({"spec": {"claimRef": {"namespace": "c", "name": "x"}}});
            tree["spec"].as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
            tree
        };
        let shown = |tree: &Value| {
            volume_secrets(tree).iter().map(|(a, b)| format!("{a}/{b}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&volume(json!({"azureFile": {"secretName": "s"}}))), "c/s");
        assert_eq!(shown(&volume(json!({"azureFile": {"secretName": "s", "secretNamespace": "n"}}))), "n/s");
        assert_eq!(shown(&volume(json!({"rbd": {"secretRef": {"name": "s"}}}))), "c/s");
        let csi = json!({"csi": {"controllerPublishSecretRef": {"namespace": "n", "name": "no"},
            "nodeStageSecretRef": {"namespace": "n", "name": "yes"}}});
        assert_eq!(shown(&volume(csi)), "n/yes");
    }

    #[test]
    fn what_a_mirror_pod_must_not_need() {
        let pod = |spec: Value| json!({"spec": spec});
        let volume = |volume: Value| pod(json!({"volumes": [volume]}));
        for (pod, needed) in [
            (pod(json!({})), Ok(None)),
            (pod(json!({"serviceAccountName": "a"})), Ok(Some("serviceaccounts"))),
            (volume(json!({"name": "v", "hostPath": {}})), Ok(None)),
            (volume(json!({"name": "v", "csi": {"driver": "d"}})), Ok(Some("csidrivers (via CSI volumes)"))),
            (volume(json!({"name": "v", "projected": {"sources": [{"downwardAPI": {}}]}})), Ok(None)),
            (
                volume(json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}})),
                Ok(Some("serviceaccounts (via projected volumes)")),
            ),
            (volume(json!({"name": "v"})), Err("unknown volume type for volume  \"v\"".to_owned())),
        ] {
            assert_eq!(needs(&pod), needed, "{pod}");
        }
    }
}
