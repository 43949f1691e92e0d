//! Records who may do what on a running API server: makes a few objects there, asks it by SubjectAccessReviews, and writes
//! what it was, what it was told, the roles and bindings it has from its start, and what it answered.
//!
//! `cargo run -p skep-tests --bin record-authorization -- KUBECONFIG FILE`, with the kubeconfig of an administrator of a
//! server whose modes are Node and RBAC, and beside which runs one controller alone, that of aggregated ClusterRoles.

use anyhow::{Context, bail};
use serde_json::{Value, json};
use skep_client::net::{Config, HttpClient};
use std::fmt::Write as _;
use std::path::Path;

/// Who asks: user, and groups beside `system:authenticated`.
const IDENTITIES: &[(&str, &[&str])] = &[
    ("root", &["system:masters"]),
    ("boss", &[]),
    ("jane", &[]),
    ("ann", &["readers"]),
    ("eddie", &[]),
    ("ada", &[]),
    ("max", &[]),
    ("nobody", &[]),
    ("system:serviceaccount:team-a:bot", &["system:serviceaccounts", "system:serviceaccounts:team-a"]),
    ("system:kube-scheduler", &[]),
    ("system:kube-controller-manager", &[]),
    ("system:kube-proxy", &[]),
    ("system:serviceaccount:kube-system:deployment-controller", &["system:serviceaccounts"]),
    ("system:serviceaccount:kube-system:namespace-controller", &["system:serviceaccounts"]),
    ("system:serviceaccount:kube-system:generic-garbage-collector", &["system:serviceaccounts"]),
    ("system:serviceaccount:kube-system:node-controller", &["system:serviceaccounts"]),
    ("system:serviceaccount:kube-system:certificate-controller", &["system:serviceaccounts"]),
    ("system:bootstrap:abcdef", &["system:bootstrappers"]),
];

/// What they wish: verb, `group/resource[/subresource]` or a path, namespace, name, field selector.
const WISHES: &[&str] = &[
    "get core/pods team-a a",
    "list core/pods team-a",
    "list core/pods -",
    "create core/pods team-a",
    "delete core/pods team-b a",
    "get core/pods/log team-a a",
    "create core/pods/exec team-a a",
    "create core/pods/binding team-a a",
    "update core/pods/status team-a a",
    "create core/pods/eviction team-a a",
    "get core/secrets team-a s",
    "list core/secrets -",
    "watch core/configmaps team-a",
    "get core/configmaps team-a one",
    "create core/serviceaccounts/token team-a bot",
    "impersonate core/users - jane",
    "list core/namespaces -",
    "delete core/namespaces - team-a",
    "list core/nodes -",
    "update core/nodes/status - n1",
    "delete core/nodes - n1",
    "get core/services team-a s",
    "create core/events team-a",
    "get core/resourcequotas team-a q",
    "create apps/deployments team-a",
    "patch apps/deployments/scale team-a d",
    "create apps/replicasets team-a",
    "delete batch/jobs team-a j",
    "watch discovery.k8s.io/endpointslices -",
    "create rbac.authorization.k8s.io/rolebindings team-a",
    "escalate rbac.authorization.k8s.io/roles team-a r",
    "bind rbac.authorization.k8s.io/clusterroles - view",
    "create certificates.k8s.io/certificatesigningrequests -",
    "approve certificates.k8s.io/signers - kubernetes.io/kube-apiserver-client-kubelet",
    "get storage.k8s.io/csinodes - n1",
    "update coordination.k8s.io/leases kube-system kube-scheduler",
    "create authentication.k8s.io/tokenreviews -",
    "create authorization.k8s.io/selfsubjectaccessreviews -",
    "delete example.com/things team-a t",
    "get /version",
    "get /healthz",
    "get /livez/ping",
    "get /api",
    "get /apis/apps/v1",
    "get /openapi/v3",
    "get /metrics",
    "post /api",
];

/// What nodes wish beside.
const NODE_WISHES: &[&str] = &[
    "get core/pods team-a p1",
    "get core/pods team-a p2",
    "list core/pods - - spec.nodeName=n1",
    "list core/pods - - spec.nodeName=n2",
    "list core/pods - - spec.nodeName!=n1",
    "list core/pods team-a",
    "create core/pods team-a",
    "update core/pods team-a p1",
    "patch core/pods/status team-a p2",
    "delete core/pods/status team-a p1",
    "create core/pods/eviction team-a p1",
    "create core/pods/binding team-a p1",
    "get core/pods/log team-a p1",
    "get core/secrets team-a mine",
    "list core/secrets team-a mine",
    "get core/secrets team-a theirs",
    "get core/secrets team-a volume",
    "get core/secrets team-b mine",
    "update core/secrets team-a mine",
    "list core/secrets team-a",
    "get core/configmaps team-a mine",
    "watch core/configmaps team-a theirs",
    "get core/configmaps team-a nobodys",
    "get core/persistentvolumeclaims team-a claim",
    "get core/persistentvolumeclaims team-a other",
    "list core/persistentvolumeclaims team-a",
    "update core/persistentvolumeclaims/status team-a claim",
    "delete core/persistentvolumeclaims/status team-a claim",
    "get core/persistentvolumes - pv",
    "get core/persistentvolumes - none",
    "get core/serviceaccounts team-a bot",
    "get core/serviceaccounts team-a default",
    "create core/serviceaccounts/token team-a bot",
    "create core/serviceaccounts/token team-a default",
    "create core/serviceaccounts team-a",
    "get core/nodes - n1",
    "get core/nodes - n2",
    "update core/nodes - n2",
    "patch core/nodes/status - n1",
    "delete core/nodes - n1",
    "get core/services team-a s",
    "get core/endpoints team-a s",
    "get storage.k8s.io/volumeattachments - va1",
    "get storage.k8s.io/volumeattachments - va2",
    "list storage.k8s.io/volumeattachments -",
    "get storage.k8s.io/csinodes - n2",
    "create storage.k8s.io/csinodes -",
    "list storage.k8s.io/csinodes -",
    "get storage.k8s.io/csidrivers - d",
    "update coordination.k8s.io/leases kube-node-lease n1",
    "update coordination.k8s.io/leases kube-node-lease n2",
    "create coordination.k8s.io/leases kube-node-lease",
    "get coordination.k8s.io/leases team-a n1",
    "list coordination.k8s.io/leases kube-node-lease",
    "get resource.k8s.io/resourceslices - rs1",
    "get resource.k8s.io/resourceslices - rs2",
    "create resource.k8s.io/resourceslices -",
    "list resource.k8s.io/resourceslices - - spec.nodeName=n1",
    "list resource.k8s.io/resourceslices -",
    "get resource.k8s.io/resourceclaims team-a claim",
    "get node.k8s.io/runtimeclasses - r",
    "create certificates.k8s.io/certificatesigningrequests -",
    "create apps/deployments team-a",
    "get /version",
];

const NODES: &[(&str, &[&str])] =
    &[("system:node:n1", &["system:nodes"]), ("system:node:n1", &[]), ("mallory", &["system:nodes"])];

/// Nobody, who has no group but one.
const ANONYMOUS: (&str, &[&str]) = ("system:anonymous", &["system:unauthenticated"]);

fn objects() -> Vec<(&'static str, Value)> {
    let namespace = |name: &str| ("/api/v1/namespaces", json!({"metadata": {"name": name}}));
    let subject =
        |kind: &str, name: &str| json!({"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"});
    let binding = |name: &str, kind: &str, role: &str, subjects: Value| {
        json!({"metadata": {"name": name}, "subjects": subjects,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}})
    };
    let pod = |name: &str, node: &str, refs: &str, account: &str| {
        json!({"metadata": {"name": name}, "spec": {"nodeName": node, "serviceAccountName": account,
            "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i", "envFrom": [
                {"secretRef": {"name": refs}}, {"configMapRef": {"name": refs}}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": if node == "n1" { "claim" } else { "other" }}}]}})
    };
    let mut all = vec![namespace("team-a"), namespace("team-b")];
    for name in ["default", "bot"] {
        all.push(("/api/v1/namespaces/team-a/serviceaccounts", json!({"metadata": {"name": name}})));
    }
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a/roles";
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a/rolebindings";
    let cluster_bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let cluster_roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    all.push((
        roles,
        json!({"metadata": {"name": "pods"}, "rules": [
        {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["get"]},
        {"apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["*"]}]}),
    ));
    let bot = json!({"kind": "ServiceAccount", "name": "bot", "namespace": "team-a"});
    all.push((bindings, binding("pods", "Role", "pods", json!([subject("User", "jane"), bot]))));
    all.push((bindings, binding("read", "ClusterRole", "view", json!([subject("Group", "readers")]))));
    all.push((bindings, binding("edit", "ClusterRole", "edit", json!([subject("User", "eddie")]))));
    all.push((bindings, binding("admin", "ClusterRole", "admin", json!([subject("User", "ada")]))));
    all.push((bindings, binding("gone", "Role", "gone", json!([subject("User", "nobody")]))));
    all.push((
        cluster_bindings,
        binding("boss", "ClusterRole", "cluster-admin", json!([subject("User", "boss")])),
    ));
    all.push((
        cluster_roles,
        json!({"metadata": {"name": "max"}, "rules": [
        {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["get", "patch"]},
        {"nonResourceURLs": ["/metrics", "/livez/*"], "verbs": ["get"]}]}),
    ));
    all.push((cluster_bindings, binding("max", "ClusterRole", "max", json!([subject("User", "max")]))));
    for node in ["n1", "n2"] {
        all.push(("/api/v1/nodes", json!({"metadata": {"name": node}})));
    }
    let pods = "/api/v1/namespaces/team-a/pods";
    all.push((pods, pod("p1", "n1", "mine", "bot")));
    all.push((pods, pod("p2", "n2", "theirs", "default")));
    all.push(("/api/v1/persistentvolumes", json!({"metadata": {"name": "pv"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "claimRef": {"namespace": "team-a", "name": "claim"},
        "csi": {"driver": "d", "volumeHandle": "h", "nodeStageSecretRef": {"namespace": "team-a", "name": "volume"}}}})));
    for (name, node) in [("va1", "n1"), ("va2", "n2")] {
        all.push((
            "/apis/storage.k8s.io/v1/volumeattachments",
            json!({"metadata": {"name": name}, "spec": {
            "attacher": "d", "nodeName": node, "source": {"persistentVolumeName": "pv"}}}),
        ));
    }
    for (name, node) in [("rs1", "n1"), ("rs2", "n2")] {
        all.push(("/apis/resource.k8s.io/v1/resourceslices", json!({"metadata": {"name": name}, "spec": {
            "driver": "d.example.com", "nodeName": node, "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": []}})));
    }
    all
}

/// The roles and bindings the server has from its start, as far as they say who may do what.
async fn defaults(client: &HttpClient) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for resource in ["clusterroles", "clusterrolebindings", "roles", "rolebindings"] {
        let path = format!(
            "/apis/rbac.authorization.k8s.io/v1/{resource}?labelSelector=kubernetes.io%2Fbootstrapping%3Drbac-defaults"
        );
        let list = client.json(http::Method::GET, &path, "", None).await?;
        for item in list["items"].as_array().into_iter().flatten() {
            let mut kept = json!({"resource": resource, "metadata": {}});
            for key in ["name", "namespace", "labels"] {
                if let Some(value) = item["metadata"].get(key) {
                    kept["metadata"][key] = value.clone();
                }
            }
            for key in ["rules", "aggregationRule", "roleRef", "subjects"] {
                if let Some(value) = item.get(key) {
                    kept[key] = value.clone();
                }
            }
            all.push(kept);
        }
    }
    Ok(all)
}

/// The spec of a review about a wish.
fn spec(user: &str, groups: &[&str], wish: &str) -> anyhow::Result<Value> {
    let mut words = wish.split(' ');
    let (Some(verb), Some(what)) = (words.next(), words.next()) else { bail!("{wish}") };
    let mut spec = json!({"user": user, "groups": groups});
    if user != ANONYMOUS.0
        && let Some(groups) = spec["groups"].as_array_mut()
    {
        groups.push("system:authenticated".into());
    }
    if what.starts_with('/') {
        spec["nonResourceAttributes"] = json!({"verb": verb, "path": what});
        return Ok(spec);
    }
    let mut parts = what.split('/');
    let (Some(group), Some(resource)) = (parts.next(), parts.next()) else { bail!("{wish}") };
    let mut attributes = json!({"verb": verb, "resource": resource});
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() && value != "-" {
            attributes[key] = value.into();
        }
    };
    put("group", if group == "core" { "" } else { group });
    put("subresource", parts.next().unwrap_or_default());
    put("namespace", words.next().unwrap_or_default());
    put("name", words.next().unwrap_or_default());
    if let Some(selector) = words.next() {
        attributes["fieldSelector"] = json!({"rawSelector": selector});
    }
    spec["resourceAttributes"] = attributes;
    Ok(spec)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(kubeconfig), Some(file)) = (arguments.next(), arguments.next()) else {
        bail!("usage: record-authorization KUBECONFIG FILE");
    };
    let client = HttpClient::new(&Config::from_file(Path::new(&kubeconfig))?, "record-authorization")?;
    let version = client.json(http::Method::GET, "/version", "", None).await?;
    let json = "application/json";
    for (path, body) in objects() {
        match client.json(http::Method::POST, path, json, Some(&body)).await {
            Err(status) if !status.is_already_exists() => {
                return Err(status).with_context(|| format!("{path}: {body}"));
            }
            _ => {}
        }
    }
    // The server's own views follow the objects a little later.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let everybody = IDENTITIES.iter().flat_map(|who| WISHES.iter().map(move |wish| (who, wish)));
    let nodes = NODES.iter().flat_map(|who| NODE_WISHES.iter().map(move |wish| (who, wish)));
    let strangers = WISHES.iter().map(|wish| (&ANONYMOUS, wish));
    let mut out = format!("{{\"version\": {version},\n\"objects\": [\n");
    let made: Vec<String> =
        objects().iter().map(|(path, body)| json!({"path": path, "body": body}).to_string()).collect();
    writeln!(out, "{}\n],\n\"defaults\": [", made.join(",\n"))?;
    let default: Vec<String> = defaults(&client).await?.iter().map(Value::to_string).collect();
    writeln!(out, "{}\n],\n\"reviews\": [", default.join(",\n"))?;
    let mut reviews = Vec::new();
    for ((user, groups), wish) in everybody.chain(nodes).chain(strangers) {
        let request = spec(user, groups, wish)?;
        let body =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": request});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = client.json(http::Method::POST, path, json, Some(&body)).await?;
        reviews.push(json!({"request": request, "response": answer["status"]}).to_string());
    }
    writeln!(out, "{}\n]}}", reviews.join(",\n"))?;
    std::fs::write(&file, out)?;
    println!("{} answers of {} in {file}", reviews.len(), version["gitVersion"]);
    Ok(())
}
