use super::follow::Index;
use super::rbac::{Binding, Policy, Subject, Wish};
use super::{aggregate, defaults, forbidden, read};
use crate::request::{RequestInfo, UserInfo};
use serde_json::{Value, json};
use skep_api::Object;
use std::sync::Arc;

fn object(value: Value) -> Arc<Object> {
    Arc::new(Object::from_value(value, 1, &[]).unwrap())
}

/// The defaults, aggregated, and a few bindings of our own.
fn policy() -> Policy {
    let mut policy = Policy::default();
    let all = defaults::all().unwrap();
    let mut roles: Vec<Arc<Object>> = Vec::new();
    for default in &all {
        let kind = Policy::RESOURCES.iter().find(|r| r.1 == default.resource).unwrap().2;
        let object = object(default.object.clone());
        policy.put(kind, &object);
        if default.resource == "clusterroles" {
            roles.push(object);
        }
    }
    // view feeds edit, edit feeds admin: at most three rounds.
    for round in 0.. {
        let due = aggregate::due(&roles);
        if due.is_empty() {
            break;
        }
        assert!(round < 4, "aggregation does not settle");
        for (name, rules) in due {
            let at = roles.iter().position(|r| *r.meta().name == *name).unwrap();
            let mut tree = roles[at].value();
            tree["rules"] = rules.into();
            roles[at] = object(tree);
            policy.put(read::Kind::Role, &roles[at]);
        }
    }
    let own = json!([
        {"kind": "Role", "metadata": {"name": "pods", "namespace": "d"}, "rules": [
            {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a", "b"], "verbs": ["get", "update"]},
            {"apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["*"]}]},
        {"kind": "ClusterRole", "metadata": {"name": "stars"}, "rules": [
            {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["get"]},
            {"nonResourceURLs": ["/metrics", "/logs/*"], "verbs": ["get"]}]},
        {"kind": "ClusterRole", "metadata": {"name": "empty"}, "rules": null},
        {"kind": "RoleBinding", "metadata": {"name": "jane-pods", "namespace": "d"},
            "roleRef": {"kind": "Role", "name": "pods"},
            "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "bot"}]},
        {"kind": "RoleBinding", "metadata": {"name": "viewer", "namespace": "d"},
            "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "Group", "name": "readers"}]},
        {"kind": "RoleBinding", "metadata": {"name": "editor", "namespace": "d"},
            "roleRef": {"kind": "ClusterRole", "name": "edit"}, "subjects": [{"kind": "User", "name": "eddie"}]},
        {"kind": "RoleBinding", "metadata": {"name": "boss", "namespace": "d"},
            "roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [{"kind": "User", "name": "ada"}]},
        {"kind": "RoleBinding", "metadata": {"name": "dangling", "namespace": "d"},
            "roleRef": {"kind": "Role", "name": "gone"}, "subjects": [{"kind": "User", "name": "lost"}]},
        {"kind": "ClusterRoleBinding", "metadata": {"name": "stars"},
            "roleRef": {"kind": "ClusterRole", "name": "stars"},
            "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "ops"}, {"kind": "User", "name": "max"}]},
        {"kind": "ClusterRoleBinding", "metadata": {"name": "no-namespace"},
            "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "nowhere"}, {"kind": "Robot", "name": "r2"}]},
    ]);
    for value in own.as_array().unwrap() {
        let kind = if value["kind"].as_str().unwrap().ends_with("Binding") {
            read::Kind::Binding
        } else {
            read::Kind::Role
        };
        policy.put(kind, &object(value.clone()));
    }
    policy
}

/// user[+group..] | verb | group/resource[/sub] or path | namespace | name | yes or no
const ROWS: &str = "
root+system:masters      | delete | core/nodes            | -  | n1 | yes
root+system:masters      | get    | /anything             | -  | -  | yes
root+system:master       | delete | core/nodes            | -  | n1 | no
jane                     | get    | core/pods             | d  | a  | yes
jane                     | list   | core/pods             | d  | -  | yes
jane                     | watch  | core/pods             | d  | -  | no
jane                     | delete | core/pods             | d  | a  | no
jane                     | get    | core/pods             | e  | a  | no
jane                     | list   | core/pods             | -  | -  | no
jane                     | get    | core/pods/log         | d  | a  | yes
jane                     | get    | core/pods/status      | d  | a  | no
jane                     | create | core/pods/exec        | d  | a  | no
jane                     | get    | core/configmaps       | d  | a  | yes
jane                     | update | core/configmaps       | d  | b  | yes
jane                     | get    | core/configmaps       | d  | c  | no
jane                     | get    | core/configmaps       | d  | -  | no
jane                     | list   | core/configmaps       | d  | -  | no
jane                     | list   | core/configmaps       | d  | a  | no
jane                     | get    | apps/deployments/scale | d | w  | yes
jane                     | patch  | any.example/things/scale | d | w | yes
jane                     | get    | apps/deployments      | d  | w  | no
jane                     | get    | apps/deployments/status | d | w | no
jane                     | get    | apps/pods             | d  | a  | no
Jane                     | get    | core/pods             | d  | a  | no
system:serviceaccount:d:bot   | get | core/pods           | d  | a  | yes
system:serviceaccount:e:bot   | get | core/pods           | d  | a  | no
system:serviceaccount:d:bot   | get | apps/deployments    | d  | a  | no
system:serviceaccount:ops:bot | get | apps/deployments    | d  | a  | yes
system:serviceaccount:ops:bot | get | apps/deployments/status | e | a | yes
system:serviceaccount:ops:bot | get | apps/deployments    | -  | a  | yes
system:serviceaccount:ops:bot | list | apps/deployments   | -  | -  | no
system:serviceaccount:ops:bot | get | core/pods           | -  | a  | no
system:serviceaccount::nowhere | get | core/pods          | d  | a  | no
r2                       | get    | core/pods             | d  | a  | no
max                      | get    | /metrics              | -  | -  | yes
max                      | get    | /metrics/             | -  | -  | no
max                      | get    | /logs/                | -  | -  | yes
max                      | get    | /logs/a/b             | -  | -  | yes
max                      | get    | /logs                 | -  | -  | no
max                      | post   | /metrics              | -  | -  | no
ann+readers              | get    | core/pods             | d  | a  | yes
ann+readers              | list   | core/services         | d  | -  | yes
ann+readers              | watch  | apps/deployments      | d  | -  | yes
ann+readers              | get    | core/pods/log         | d  | a  | yes
ann+readers              | get    | core/secrets          | d  | a  | no
ann+readers              | list   | core/secrets          | d  | -  | no
ann+readers              | create | core/pods             | d  | -  | no
ann+readers              | create | core/pods/exec        | d  | a  | no
ann+readers              | get    | core/pods             | e  | a  | no
ann+readers              | list   | core/nodes            | -  | -  | no
ann+readers              | get    | rbac.authorization.k8s.io/roles | d | a | no
ann+readers              | get    | core/namespaces       | d  | d  | yes
ann+readers              | get    | discovery.k8s.io/endpointslices | d | a | yes
eddie                    | create | core/pods             | d  | -  | yes
eddie                    | get    | core/secrets          | d  | s  | yes
eddie                    | patch  | apps/deployments      | d  | w  | yes
eddie                    | update | apps/deployments/scale | d | w  | yes
eddie                    | create | core/pods/exec        | d  | a  | yes
eddie                    | create | core/pods/portforward | d  | a  | yes
eddie                    | create | core/pods/eviction    | d  | a  | yes
eddie                    | create | core/serviceaccounts/token | d | a | yes
eddie                    | impersonate | core/serviceaccounts | d | a | yes
eddie                    | create | core/endpoints        | d  | -  | no
eddie                    | create | core/pods/binding     | d  | a  | no
eddie                    | update | core/pods/status      | d  | a  | no
eddie                    | create | rbac.authorization.k8s.io/rolebindings | d | - | no
eddie                    | delete | core/namespaces       | d  | d  | no
eddie                    | create | core/resourcequotas   | d  | -  | no
ada                      | create | rbac.authorization.k8s.io/rolebindings | d | - | yes
ada                      | create | rbac.authorization.k8s.io/clusterrolebindings | - | - | no
ada                      | get    | core/secrets          | d  | s  | yes
ada                      | create | authorization.k8s.io/localsubjectaccessreviews | d | - | yes
ada                      | create | authorization.k8s.io/subjectaccessreviews | - | - | no
ada                      | escalate | rbac.authorization.k8s.io/roles | d | r | no
lost                     | get    | core/pods             | d  | a  | no
any+system:authenticated | get    | /api                  | -  | -  | yes
any+system:authenticated | get    | /apis/apps/v1         | -  | -  | yes
any+system:authenticated | get    | /openapi/v3           | -  | -  | yes
any+system:authenticated | get    | /version              | -  | -  | yes
any+system:authenticated | get    | /metrics              | -  | -  | no
any+system:authenticated | post   | /api                  | -  | -  | no
any+system:authenticated | create | authorization.k8s.io/selfsubjectaccessreviews | - | - | yes
any+system:authenticated | create | authorization.k8s.io/selfsubjectrulesreviews | - | - | yes
any+system:authenticated | create | authentication.k8s.io/selfsubjectreviews | - | - | yes
any+system:authenticated | create | authentication.k8s.io/tokenreviews | - | - | no
any+system:authenticated | list   | core/namespaces       | -  | -  | no
system:anonymous+system:unauthenticated | get | /healthz   | -  | -  | yes
system:anonymous+system:unauthenticated | get | /livez     | -  | -  | yes
system:anonymous+system:unauthenticated | get | /readyz    | -  | -  | yes
system:anonymous+system:unauthenticated | get | /version   | -  | -  | yes
system:anonymous+system:unauthenticated | get | /version/  | -  | -  | yes
system:anonymous+system:unauthenticated | get | /livez/etcd | - | -  | no
system:anonymous+system:unauthenticated | get | /api       | -  | -  | no
system:anonymous+system:unauthenticated | get | /          | -  | -  | no
system:anonymous+system:unauthenticated | list | core/pods | -  | -  | no
system:kube-scheduler    | create | core/pods/binding     | d  | a  | yes
system:kube-scheduler    | list   | core/nodes            | -  | -  | yes
system:kube-scheduler    | watch  | core/pods             | -  | -  | yes
system:kube-scheduler    | get    | core/secrets          | d  | a  | no
system:kube-scheduler    | delete | core/nodes            | -  | n  | no
system:kube-controller-manager | create | core/serviceaccounts/token | kube-system | x | yes
system:kube-controller-manager | list | core/secrets      | -  | -  | yes
system:kube-controller-manager | delete | core/nodes      | -  | n  | no
system:serviceaccount:kube-system:deployment-controller | create | apps/replicasets | d | - | yes
system:serviceaccount:kube-system:deployment-controller | delete | core/nodes | - | n | no
system:serviceaccount:kube-system:replicaset-controller | create | core/pods | d | - | yes
system:serviceaccount:kube-system:generic-garbage-collector | delete | any.example/things | d | t | yes
system:serviceaccount:kube-system:namespace-controller | deletecollection | any.example/things | d | - | yes
system:serviceaccount:kube-system:node-controller | update | core/nodes/status | - | n | yes
system:serviceaccount:kube-system:endpointslice-controller | create | discovery.k8s.io/endpointslices | d | - | yes
system:serviceaccount:default:deployment-controller | create | apps/replicasets | d | - | no
system:node:n1           | list   | core/pods             | -  | -  | no
mallory+system:nodes     | list   | core/pods             | -  | -  | no
";

#[test]
fn who_may_do_what() {
    let policy = policy();
    let mut count = 0;
    for row in ROWS.lines().filter(|l| !l.is_empty()) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let dash = |text: &'static str| if text == "-" { "" } else { text };
        let [who, verb, what, namespace, name, want] = cells[..] else { panic!("{row}") };
        let mut names = who.split('+');
        let user = UserInfo {
            name: names.next().unwrap().into(),
            groups: names.map(str::to_owned).collect(),
            ..UserInfo::default()
        };
        let wish = if what.starts_with('/') {
            Wish::Path { verb, path: what }
        } else {
            let mut parts = what.split('/');
            let group = parts.next().unwrap();
            Wish::Resource {
                verb,
                group: if group == "core" { "" } else { group },
                resource: parts.next().unwrap(),
                subresource: parts.next().unwrap_or(""),
                namespace: dash(namespace),
                name: dash(name),
                fields: "",
            }
        };
        assert_eq!(policy.decide(&user, &wish).is_ok(), want == "yes", "{row}");
        // What is listed as a user's rules decides the same.
        let namespace = if let Wish::Resource { namespace, .. } = wish { namespace } else { "" };
        let listed = policy.rules_for(&user, namespace).0.iter().any(|r| r.allows(&wish));
        assert_eq!(listed, want == "yes", "rules of: {row}");
        count += 1;
    }
    assert!(count >= 100, "{count} rows");
}

#[test]
fn a_dangling_binding_is_named() {
    let wish = Wish::Resource {
        verb: "get",
        group: "",
        resource: "pods",
        subresource: "",
        namespace: "d",
        name: "a",
        fields: "",
    };
    let denied = policy().decide(&UserInfo::new("lost", &[]), &wish).unwrap_err();
    assert_eq!(denied, "RBAC: role.rbac.authorization.k8s.io \"gone\" not found");
}

#[test]
fn bindings_come_and_go() {
    let mut policy = policy();
    let wish = Wish::Resource {
        verb: "get",
        group: "",
        resource: "nodes",
        subresource: "",
        namespace: "",
        name: "n",
        fields: "",
    };
    let user = UserInfo::new("zoe", &["ops"]);
    let mut binding = Binding {
        namespace: "".into(),
        name: "b".into(),
        cluster_role: true,
        role: "cluster-admin".into(),
        subjects: vec![Subject::Group("ops".into()), Subject::User("zoe".into())],
    };
    assert!(policy.decide(&user, &wish).is_err());
    policy.put_binding(binding.clone());
    assert_eq!(
        policy.decide(&user, &wish).unwrap(),
        "RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"cluster-admin\" to Group \"ops\""
    );
    binding.subjects = vec![Subject::Group("others".into())];
    policy.put_binding(binding);
    assert!(policy.decide(&user, &wish).is_err());
    assert!(policy.decide(&UserInfo::new("x", &["others"]), &wish).is_ok());
    policy.remove_role("", "cluster-admin");
    assert!(policy.decide(&UserInfo::new("x", &["others"]), &wish).is_err());
    policy.remove_binding("", "b");
    assert_eq!(policy.decide(&UserInfo::new("x", &["others"]), &wish).unwrap_err(), "");
}

#[test]
fn every_default_binding_names_a_default_role() {
    let all = defaults::all().unwrap();
    let named = |kind: &str, namespace: &Value, name: &Value| {
        all.iter().any(|d| {
            d.object["kind"] == kind
                && d.object["metadata"]["name"] == *name
                && (kind == "ClusterRole" || d.object["metadata"]["namespace"] == *namespace)
        })
    };
    let mut bindings = 0;
    for d in &all {
        if let Some(role) = d.object.get("roleRef") {
            bindings += 1;
            assert!(
                named(role["kind"].as_str().unwrap(), &d.object["metadata"]["namespace"], &role["name"]),
                "{:?}",
                d.object
            );
        }
    }
    assert!(bindings == 61 && all.len() == 141, "{bindings} bindings of {} objects", all.len());
}

#[test]
fn a_denial_reads_as_upstreams() {
    let user = UserInfo::new("x", &[]);
    for (method, path, want) in [
        (
            "GET",
            "/api/v1/namespaces/d/pods",
            "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"d\"",
        ),
        (
            "GET",
            "/api/v1/nodes/n",
            "nodes \"n\" is forbidden: User \"x\" cannot get resource \"nodes\" in API group \"\" at the cluster scope",
        ),
        (
            "PUT",
            "/apis/apps/v1/namespaces/d/deployments/w/scale",
            "deployments.apps \"w\" is forbidden: User \"x\" cannot update resource \"deployments/scale\" in API group \"apps\" in the namespace \"d\"",
        ),
        ("GET", "/metrics", "forbidden: User \"x\" cannot get path \"/metrics\""),
        ("GET", "/<b>", "forbidden: User \"x\" cannot get path \"/&lt;b&gt;\""),
    ] {
        let status = forbidden(&user, &RequestInfo::parse(method, path, ""), "");
        assert_eq!((status.code, status.message.as_str()), (403, want));
    }
}
