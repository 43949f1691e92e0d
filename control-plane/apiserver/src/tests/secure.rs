//! The server with its real authorizer and admission: who may do what, and what is refused.

use super::Answer;
use crate::admission::BuiltIn;
use crate::authz::Rbac;
use crate::bootstrap;
use crate::cache::Caches;
use crate::hooks::{Authenticator, Shown, full};
use crate::request::UserInfo;
use crate::server::{ApiServer, Limits, Parts};
use crate::{Handlers, reviews};
use async_trait::async_trait;
use http::Request;
use http_body_util::BodyExt;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use skep_api::Status;
use skep_api::kinds::ResourceTable;
use skep_client::Client;
use skep_store::{Config, Store};
use std::sync::Arc;

/// Believes the header `as`: `NAME+GROUP+GROUP`.
struct Told;

#[async_trait]
impl Authenticator for Told {
    fn shown(&self, _: &[CertificateDer<'_>]) -> Shown {
        Shown::Nothing
    }

    async fn authenticate(&self, headers: &http::HeaderMap, _: &Shown) -> Result<UserInfo, Status> {
        let told = headers.get("as").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let mut parts = told.split('+');
        let name = parts.next().unwrap_or_default();
        Ok(UserInfo::new(name, &parts.collect::<Vec<_>>()))
    }
}

pub(crate) struct Secure {
    pub(crate) server: Arc<ApiServer>,
    _dir: tempfile::TempDir,
}

pub(crate) const ROOT: &str = "root+system:masters";
const NODE: &str = "system:node:n1+system:nodes";

pub(crate) async fn secure() -> Secure {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    let caches = Caches::start(store, ResourceTable::builtin()).await.unwrap();
    let rbac = Arc::new(Rbac::new(caches.clone()));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_der();
    let keys = Arc::new(crate::auth::jwt::Keys::from_pkcs8(&key).unwrap());
    let authn = Arc::new(crate::auth::Authn::new(keys.clone(), caches.clone(), rbac.clone()));
    let mut handlers = Handlers::default();
    let tokens = crate::auth::token::TokenRequests { keys, caches: caches.clone() };
    handlers.action("", "serviceaccounts", "token", Arc::new(tokens));
    let range = "10.96.0.0/16".parse().unwrap();
    handlers.companion("", "services", Arc::new(crate::alloc::Services::new(caches.clone(), range)));
    reviews::register(&mut handlers, &authn, &rbac);
    let server = ApiServer::new(Parts {
        caches: caches.clone(),
        authenticator: Arc::new(Told),
        authorizer: rbac.clone(),
        admission: Arc::new(BuiltIn::new(caches, rbac)),
        handlers,
        limits: Limits::default(),
    });
    let client: Arc<dyn Client> = server.local_client(UserInfo::new("root", &["system:masters"]));
    let config = bootstrap::Config {
        advertise: "127.0.0.1".parse().unwrap(),
        port: 6443,
        service_ip: "10.96.0.1".parse().unwrap(),
        service_ranges: vec!["10.96.0.0/16".into()],
        ca_pem: "pem".into(),
    };
    bootstrap::run(&client, &config).await.unwrap();
    let this = Secure { server, _dir: dir };
    this.make("/api/v1/namespaces", json!({"metadata": {"name": "d"}})).await;
    this.make("/api/v1/namespaces/d/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    this
}

impl Secure {
    pub(crate) async fn ask(&self, who: &str, method: &str, path: &str, body: &Value) -> Answer {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(path).header("as", who);
        let request = request.header("content-type", kind).body(full(body)).unwrap();
        let (parts, body) = self.server.clone().answer_to(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Creates an object as somebody who may.
    pub(crate) async fn make(&self, path: &str, body: Value) -> Value {
        let answer = self.ask(ROOT, "POST", path, &body).await;
        assert_eq!(answer.code, 201, "{path}: {}", answer.body);
        answer.body
    }

    /// Code and message of a write.
    pub(crate) async fn write(&self, who: &str, method: &str, path: &str, body: Value) -> (u16, String) {
        let answer = self.ask(who, method, path, &body).await;
        (answer.code, answer.body["message"].as_str().unwrap_or_default().to_owned())
    }
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/d";

fn role(name: &str, rules: Value) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]})
}

fn warnings(answer: &Answer) -> Vec<String> {
    answer.headers.get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn nobody_gives_rights_they_do_not_hold() {
    let world = secure().await;
    let (roles, bindings) = (format!("{RBAC}/roles"), format!("{RBAC}/rolebindings"));
    let all = json!(["create", "update", "patch", "get"]);
    let group = "rbac.authorization.k8s.io";
    let own = json!([
        {"apiGroups": [group], "resources": ["roles", "rolebindings"], "verbs": all},
        {"apiGroups": [group], "resources": ["clusterroles"], "resourceNames": ["view"], "verbs": ["bind"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    ]);
    world.make(&roles, role("mine", own)).await;
    world.make(&bindings, binding("mine", "Role", "mine", "jane")).await;

    let pods = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
    let more = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "delete"]}]);
    assert_eq!(world.write("jane", "POST", &roles, role("less", pods)).await.0, 201);
    let why = "user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently \
               held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"watch\" \"delete\"]}";
    let refused = |what: &str| (403, format!("{what} is forbidden: {why}"));
    assert_eq!(
        world.write("jane", "POST", &roles, role("more", more.clone())).await,
        refused("roles.rbac.authorization.k8s.io \"more\"")
    );
    assert_eq!(
        world.write("jane", "PATCH", &format!("{roles}/less"), json!({"rules": more})).await,
        refused("roles.rbac.authorization.k8s.io \"less\"")
    );
    // Whoever holds everything gives everything, and so does whoever may escalate.
    assert_eq!(world.write(ROOT, "POST", &roles, role("more", more.clone())).await.0, 201);
    assert_eq!(
        world.write("jane", "POST", &bindings, binding("more", "Role", "more", "joe")).await,
        refused("rolebindings.rbac.authorization.k8s.io \"more\"")
    );
    let escalate = json!([{"apiGroups": [group], "resources": ["roles"], "verbs": ["escalate"]}]);
    world.make(&roles, role("up", escalate)).await;
    world.make(&bindings, binding("up", "Role", "up", "jane")).await;
    assert_eq!(world.write("jane", "POST", &roles, role("more2", more)).await.0, 201);

    for (name, kind, role, code) in [
        ("a", "Role", "less", 201),
        ("b", "ClusterRole", "view", 201),
        ("c", "ClusterRole", "system:aggregate-to-edit", 403),
        ("d", "Role", "none", 404),
    ] {
        let got = world.write("jane", "POST", &bindings, binding(name, kind, role, "joe")).await;
        assert_eq!(got.0, code, "{kind} {role}: {}", got.1);
    }
    // A role that is put together from others takes everything.
    let clusterwide = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let make = json!([{"apiGroups": [group], "resources": ["clusterroles"], "verbs": ["create"]}]);
    world.make(clusterwide, role("maker", make)).await;
    let to = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    world.make(to, binding("maker", "ClusterRole", "maker", "jane")).await;
    let mut gathers = role("gathers", json!([]));
    gathers["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let got = world.write("jane", "POST", clusterwide, gathers).await;
    assert!(
        got.0 == 403 && got.1.ends_with("must have cluster-admin privileges to use the aggregationRule"),
        "{got:?}"
    );
}

#[tokio::test]
async fn pods_keep_to_the_policy_of_their_namespace() {
    let world = secure().await;
    let label = |mode: &str, level: &str| json!({"metadata": {"labels": {format!("pod-security.kubernetes.io/{mode}"): level}}});
    let pod = |name: &str, privileged: bool| {
        json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "c", "image": "i", "securityContext": {"privileged": privileged}}]}})
    };
    let pods = "/api/v1/namespaces/d/pods";
    world.make(pods, pod("old", true)).await;
    let namespace = "/api/v1/namespaces/d";
    let enforced = world.ask(ROOT, "PATCH", namespace, &label("enforce", "baseline")).await;
    assert_eq!(enforced.code, 200);
    assert_eq!(
        warnings(&enforced),
        [
            "299 - \"existing pods in namespace \\\"d\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"old: privileged\"",
        ]
    );
    assert_eq!(
        world.write(ROOT, "POST", pods, pod("a", true)).await,
        (
            403,
            "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"c\" must not set \
             securityContext.privileged=true)"
                .into()
        )
    );
    assert_eq!(world.write(ROOT, "POST", pods, pod("a", false)).await.0, 201);
    // A change of what no policy speaks of is let through.
    let annotated = json!({"metadata": {"annotations": {"a": "b"}}});
    assert_eq!(world.write(ROOT, "PATCH", &format!("{pods}/old"), annotated).await.0, 200);

    world.ask(ROOT, "PATCH", namespace, &label("warn", "restricted")).await;
    let warned = world.ask(ROOT, "POST", pods, &pod("b", false)).await;
    assert_eq!(warned.code, 201);
    assert!(
        warnings(&warned)[0].contains("would violate PodSecurity \\\"restricted:latest\\\": allowPrivilege")
    );
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("x", true)["spec"]});
    let set = json!({"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let made = world.ask(ROOT, "POST", "/apis/apps/v1/namespaces/d/deployments", &set).await;
    assert_eq!((made.code, warnings(&made).len()), (201, 1));

    let bad = world.write(ROOT, "PATCH", namespace, label("audit", "strict")).await;
    assert_eq!(bad.0, 422, "{bad:?}");
    assert!(bad.1.contains(
        "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"strict\": must be one of"
    ));
}

#[tokio::test]
async fn a_node_reads_what_its_pods_refer_to() {
    let world = secure().await;
    for node in ["n1", "n2"] {
        world.make("/api/v1/nodes", json!({"metadata": {"name": node}})).await;
    }
    for name in ["mine", "theirs", "nobodys"] {
        world.make("/api/v1/namespaces/d/secrets", json!({"metadata": {"name": name}})).await;
        world.make("/api/v1/namespaces/d/configmaps", json!({"metadata": {"name": name}})).await;
    }
    let mut uids = Vec::new();
    for (pod, node, secret) in [("p1", "n1", "mine"), ("p2", "n2", "theirs")] {
        let spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "i",
            "envFrom": [{"secretRef": {"name": secret}}, {"configMapRef": {"name": secret}}]}]});
        let made =
            world.make("/api/v1/namespaces/d/pods", json!({"metadata": {"name": pod}, "spec": spec})).await;
        uids.push(made["metadata"]["uid"].clone());
    }
    for (path, code) in [
        ("/api/v1/namespaces/d/secrets/mine", 200),
        ("/api/v1/namespaces/d/secrets/theirs", 403),
        ("/api/v1/namespaces/d/secrets/nobodys", 403),
        ("/api/v1/namespaces/d/secrets", 403),
        ("/api/v1/secrets", 403),
        ("/api/v1/namespaces/d/secrets?fieldSelector=metadata.name%3Dmine", 200),
        ("/api/v1/namespaces/d/configmaps/mine", 200),
        ("/api/v1/namespaces/d/configmaps/theirs", 403),
        ("/api/v1/namespaces/d/pods/p1", 200),
        ("/api/v1/namespaces/d/pods/p2", 403),
        ("/api/v1/pods", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", 200),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn2", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName!%3Dn1", 403),
        ("/api/v1/nodes/n1", 200),
        ("/api/v1/nodes/n2", 403),
        ("/api/v1/nodes", 200),
        ("/api/v1/services", 200),
        ("/apis/discovery.k8s.io/v1/endpointslices", 200),
        ("/api/v1/namespaces/d/serviceaccounts/default", 200),
        ("/api/v1/namespaces/kube-system/serviceaccounts/default", 403),
        ("/apis/apps/v1/deployments", 403),
    ] {
        let got = world.ask(NODE, "GET", path, &Value::Null).await;
        assert_eq!(got.code, code, "{path}: {}", got.body["message"]);
    }
    let token = "/api/v1/namespaces/d/serviceaccounts/default/token";
    let bound = |pod: &str, uid: &Value| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}}});
    let elsewhere = (
        403,
        "serviceaccounts \"default\" is forbidden: node requested token bound to a pod scheduled on a different node"
            .to_owned(),
    );
    assert_eq!(world.write(NODE, "POST", token, bound("p1", &uids[0])).await, (201, String::new()));
    assert_eq!(world.write(NODE, "POST", token, bound("p2", &uids[1])).await, elsewhere);
    assert_eq!(world.write(NODE, "POST", token, json!({"spec": {}})).await.0, 403);
    let mut audience = bound("p1", &uids[0]);
    audience["spec"]["audiences"] = json!(["vault"]);
    let refused = world.write(NODE, "POST", token, audience).await;
    assert!(refused.1.contains("audience \"vault\" not found in pod spec volume"), "{refused:?}");

    // What its pods no longer refer to it no longer reads.
    world.ask(ROOT, "DELETE", "/api/v1/namespaces/d/pods/p1?gracePeriodSeconds=0", &Value::Null).await;
    assert_eq!(world.ask(NODE, "GET", "/api/v1/namespaces/d/secrets/mine", &Value::Null).await.code, 403);
}

#[tokio::test]
async fn a_node_writes_what_is_its_own() {
    let world = secure().await;
    let node = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
    let labelled = |key: &str| json!({"metadata": {"labels": {key: "x"}}});
    assert_eq!(world.write(NODE, "POST", "/api/v1/nodes", node("n2", json!({}))).await.0, 403);
    let restricted = json!({"a.node-restriction.kubernetes.io/x": "y"});
    assert_eq!(
        world.write(NODE, "POST", "/api/v1/nodes", node("n1", restricted)).await,
        (
            403,
            "nodes \"n1\" is forbidden: node \"n1\" is not allowed to set the following labels: \
             a.node-restriction.kubernetes.io/x"
                .into()
        )
    );
    let plain = json!({"kubernetes.io/hostname": "n1", "example.com/x": "y"});
    assert_eq!(world.write(NODE, "POST", "/api/v1/nodes", node("n1", plain)).await.0, 201);
    world.make("/api/v1/nodes", node("n2", json!({}))).await;
    for (path, patch, code) in [
        ("/api/v1/nodes/n1", labelled("example.com/z"), 200),
        ("/api/v1/nodes/n1", labelled("topology.kubernetes.io/zone"), 200),
        ("/api/v1/nodes/n1", labelled("x.node.kubernetes.io/z"), 200),
        ("/api/v1/nodes/n1", labelled("kubernetes.io/other"), 403),
        ("/api/v1/nodes/n1", labelled("node-restriction.kubernetes.io/z"), 403),
        ("/api/v1/nodes/n1", json!({"spec": {"taints": []}}), 403),
        ("/api/v1/nodes/n2", labelled("example.com/z"), 403),
        ("/api/v1/nodes/n1/status", json!({"status": {"phase": "Running"}}), 200),
        ("/api/v1/nodes/n2/status", json!({"status": {"phase": "Running"}}), 403),
    ] {
        let got = world.write(NODE, "PATCH", path, patch.clone()).await;
        assert_eq!(got.0, code, "{path} {patch}: {}", got.1);
    }
    assert_eq!(world.ask(NODE, "DELETE", "/api/v1/nodes/n1", &Value::Null).await.code, 403);

    let leases = |namespace: &str| format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    for (namespace, name, code) in
        [("kube-node-lease", "n1", 201), ("kube-node-lease", "n2", 403), ("d", "n1", 403)]
    {
        let got = world.write(NODE, "POST", &leases(namespace), node(name, Value::Null)).await;
        assert_eq!(got.0, code, "{namespace}/{name}: {}", got.1);
    }
    let csi = "/apis/storage.k8s.io/v1/csinodes";
    for (name, code) in [("n1", 201), ("n2", 403)] {
        let mut body = node(name, Value::Null);
        body["spec"] = json!({"drivers": []});
        assert_eq!(world.write(NODE, "POST", csi, body).await.0, code, "{name}");
    }

    let uid = world.ask(NODE, "GET", "/api/v1/nodes/n1", &Value::Null).await.body["metadata"]["uid"].clone();
    let mirror = |name: &str, owner: Value, spec: Value| {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "c", "image": "i"}]);
        json!({"metadata": {"name": name, "annotations": {"kubernetes.io/config.mirror": "h"}, "ownerReferences": owner},
            "spec": spec})
    };
    let own = json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true}]);
    let mut blocking = own.clone();
    blocking[0]["blockOwnerDeletion"] = true.into();
    let mut wrong = own.clone();
    wrong[0]["uid"] = "other".into();
    let here = json!({"nodeName": "n1"});
    for (name, owner, spec, says) in [
        ("m1", own.clone(), here.clone(), ""),
        ("m2", json!([]), here.clone(), "with an owner reference set to itself"),
        ("m3", blocking, here.clone(), "must not set blockOwnerDeletion"),
        ("m4", wrong, here.clone(), "UID mismatch"),
        ("m5", own.clone(), json!({"nodeName": "n2"}), "spec.nodeName set to itself"),
        (
            "m6",
            own.clone(),
            json!({"nodeName": "n1", "imagePullSecrets": [{"name": "s"}]}),
            "can not create pods that reference secrets",
        ),
    ] {
        let got = world.write(NODE, "POST", "/api/v1/namespaces/d/pods", mirror(name, owner, spec)).await;
        assert_eq!((got.0 == 201, got.1.contains(says)), (says.is_empty(), true), "{name}: {got:?}");
    }
    let mut pod = mirror("p", json!([]), here);
    pod["metadata"]["annotations"] = Value::Null;
    let refused = world.write(NODE, "POST", "/api/v1/namespaces/d/pods", pod).await;
    assert!(refused.1.contains("can only create mirror pods"), "{refused:?}");
    for (name, on) in [("a", "n1"), ("b", "n2")] {
        let spec = json!({"nodeName": on, "containers": [{"name": "c", "image": "i"}]});
        world.make("/api/v1/namespaces/d/pods", json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    let evict =
        |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    for (method, path, body, code) in [
        ("PATCH", "a/status", json!({"status": {"message": "x"}}), 200),
        ("PATCH", "b/status", json!({"status": {"message": "x"}}), 403),
        ("PATCH", "a/status", labelled("x"), 403),
        ("PATCH", "a", labelled("x"), 403),
        ("POST", "b/eviction", evict("b"), 403),
        ("DELETE", "b", Value::Null, 403),
        ("DELETE", "a", Value::Null, 200),
    ] {
        let got = world.write(NODE, method, &format!("/api/v1/namespaces/d/pods/{path}"), body).await;
        assert_eq!(got.0, code, "{method} {path}: {}", got.1);
    }
}

#[tokio::test]
async fn owners_are_set_by_those_who_may() {
    let world = secure().await;
    let verbs = json!(["create", "update", "patch", "get"]);
    let own = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]);
    world.make(&format!("{RBAC}/roles"), role("r", own)).await;
    world.make(&format!("{RBAC}/rolebindings"), binding("r", "Role", "r", "jane")).await;
    let maps = "/api/v1/namespaces/d/configmaps";
    let owned = |name: &str, owner: Value| json!({"metadata": {"name": name, "ownerReferences": [owner]}});
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": "u"});
    let mut blocking = owner.clone();
    blocking["blockOwnerDeletion"] = true.into();
    let mut unknown = blocking.clone();
    unknown["kind"] = "Robot".into();
    assert_eq!(world.write("jane", "POST", maps, owned("a", owner.clone())).await.0, 201);
    assert_eq!(
        world.write("jane", "POST", maps, owned("b", blocking.clone())).await,
        (
            403,
            "configmaps \"b\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you \
             can't set finalizers on: , <nil>"
                .into()
        )
    );
    let got = world.write("jane", "POST", maps, owned("b", unknown)).await;
    assert!(
        got.0 == 403 && got.1.contains("no matches for kind \"Robot\" in version \"apps/v1\""),
        "{got:?}"
    );
    // A change of owners takes the right to delete.
    world.make(maps, json!({"metadata": {"name": "c"}})).await;
    let got = world.write("jane", "PATCH", &format!("{maps}/c"), owned("c", owner.clone())).await;
    assert!(
        got.0 == 403 && got.1.contains("cannot set an ownerRef on a resource you can't delete"),
        "{got:?}"
    );
    assert_eq!(world.write("jane", "PATCH", &format!("{maps}/a"), owned("a", owner)).await.0, 200);
    let more = json!([
        {"apiGroups": ["apps"], "resources": ["replicasets/finalizers"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["delete"]}]);
    world.make(&format!("{RBAC}/roles"), role("s", more)).await;
    world.make(&format!("{RBAC}/rolebindings"), binding("s", "Role", "s", "jane")).await;
    assert_eq!(world.write("jane", "POST", maps, owned("b", blocking.clone())).await.0, 201);
    assert_eq!(world.write("jane", "PATCH", &format!("{maps}/c"), owned("c", blocking)).await.0, 200);
}

/// A request for a client certificate, in base64 of PEM.
fn csr(common_name: &str, organization: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
    params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
}

#[tokio::test]
async fn certificates_are_approved_and_signed_by_those_who_may() {
    let world = secure().await;
    let all = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let rule = |verbs: Value, resources: Value, names: Value| json!({"apiGroups": ["certificates.k8s.io"], "resources": resources, "verbs": verbs, "resourceNames": names});
    let requests = "certificatesigningrequests";
    let ask = json!([rule(
        json!(["create", "get", "update"]),
        json!([requests, format!("{requests}/approval"), format!("{requests}/status")]),
        json!([])
    )]);
    let signer = |verb: &str, name: &str| json!([rule(json!([verb]), json!(["signers"]), json!([name]))]);
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let to = |name: &str, users: &[&str]| {
        let mut made = binding(name, "ClusterRole", name, "");
        made["subjects"] = users
            .iter()
            .map(|user| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}))
            .collect();
        made
    };
    for (name, rules, users) in [
        ("ask", ask, &["ann", "boss", "pen"][..]),
        ("approve", signer("approve", "example.com/*"), &["boss"][..]),
        ("sign", signer("sign", "example.com/s"), &["pen"][..]),
    ] {
        world.make(roles, role(name, rules)).await;
        world.make(bindings, to(name, users)).await;
    }
    let wish = |name: &str, signer: &str, request: String| {
        json!({"metadata": {"name": name}, "spec": {"request": request, "signerName": signer, "usages": ["client auth"],
            "username": "root", "groups": ["system:masters"]}})
    };
    let made = world.ask("ann", "POST", all, &wish("c", "example.com/s", csr("ann", "dev"))).await;
    assert_eq!(made.code, 201, "{}", made.body);
    assert_eq!(made.body["spec"]["username"], "ann");
    assert_eq!(made.body["spec"]["groups"], json!(["system:authenticated"]));
    let masters = wish("m", "kubernetes.io/kube-apiserver-client", csr("ann", "system:masters"));
    let refused = world.write("ann", "POST", all, masters).await;
    assert!(
        refused.0 == 403 && refused.1.ends_with("signer with system:masters group is not allowed"),
        "{refused:?}"
    );

    let (approval, status) = (format!("{all}/c/approval"), format!("{all}/c/status"));
    let mut approved = made.body.clone();
    approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "r"}]});
    assert_eq!(
        world.write("ann", "PUT", &approval, approved.clone()).await,
        (
            403,
            "certificatesigningrequests.certificates.k8s.io \"c\" is forbidden: user not permitted to approve requests with \
             signerName \"example.com/s\""
                .into()
        )
    );
    let done = world.ask("boss", "PUT", &approval, &approved).await;
    assert_eq!(done.code, 200, "{}", done.body);
    assert!(done.body["status"]["conditions"][0]["lastTransitionTime"].is_string());

    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let mut issued = done.body.clone();
    issued["status"]["certificate"] = {
        use base64::{Engine, engine::general_purpose::STANDARD};
        STANDARD.encode(pem).into()
    };
    let refused = world.write("boss", "PUT", &status, issued.clone()).await;
    assert!(refused.0 == 403 && refused.1.contains("user not permitted to sign requests"), "{refused:?}");
    // The main resource takes neither condition nor certificate.
    let unchanged = world.ask(ROOT, "PUT", &format!("{all}/c"), &issued).await;
    assert_eq!((unchanged.code, unchanged.body["status"].get("certificate")), (200, None));
    let signed = world.ask("pen", "PUT", &status, &issued).await;
    assert_eq!((signed.code, &signed.body["status"]["certificate"]), (200, &issued["status"]["certificate"]));

    // A node asks in its own name.
    for (name, of, code) in [("n1", "system:node:n1", 201), ("n2", "system:node:n2", 403)] {
        let wish = wish(name, "kubernetes.io/kube-apiserver-client-kubelet", csr(of, "system:nodes"));
        let got = world.write(NODE, "POST", all, wish).await;
        assert_eq!(got.0, code, "{name}: {}", got.1);
    }
}

#[tokio::test]
async fn a_bootstrap_token_is_kept_as_a_secret() {
    // What a token opens is seen through a review, which knows tokens as requests do.
    let world = secure().await;
    let data = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"});
    let secret = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token", "stringData": data});
    let review = |token: &str, audiences: Value| json!({"spec": {"token": token, "audiences": audiences}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let token = "abcdef.0123456789abcdef";
    let before = world.ask(ROOT, "POST", reviews, &review(token, json!([]))).await;
    assert_eq!(before.body["status"].get("authenticated"), None);
    world.make("/api/v1/namespaces/kube-system/secrets", secret).await;
    let known = world.ask(ROOT, "POST", reviews, &review(token, json!([]))).await;
    assert_eq!(known.body["status"]["user"]["username"], "system:bootstrap:abcdef");
    assert_eq!(known.body["status"]["authenticated"], true);
    let elsewhere = world.ask(ROOT, "POST", reviews, &review(token, json!(["vault"]))).await;
    assert_eq!(elsewhere.body["status"].get("authenticated"), None);
    assert_eq!(world.write(ROOT, "POST", reviews, json!({"spec": {}})).await.0, 400);
}
