use super::{namespace, node, priority, service_account, tolerations};
use crate::hooks::{Operation, WriteRequest};
use crate::request::UserInfo;
use serde_json::{Value, json};
use skep_api::kinds::ResourceTable;
use skep_api::{Object, Status};
use std::sync::Arc;

fn object(value: Value) -> Arc<Object> {
    Arc::new(Object::from_value(value, 1, &[]).unwrap())
}

/// Calls `check` with a write to `group/resource[/sub]` of object `name` in namespace `d`.
fn write<T>(
    user: &UserInfo,
    operation: Operation,
    what: &str,
    name: &str,
    check: impl FnOnce(&WriteRequest<'_>) -> T,
) -> T {
    let mut parts = what.split('/');
    let (group, plural, subresource) =
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap_or(""));
    let table = ResourceTable::builtin();
    let resource = table.get(group, "v1", plural).unwrap();
    let namespace = if resource.namespaced() { "d" } else { "" };
    check(&WriteRequest { user, resource, subresource, operation, namespace, name, dry_run: false })
}

fn root() -> UserInfo {
    UserInfo::new("root", &["system:masters"])
}

fn create<T>(what: &str, check: impl FnOnce(&WriteRequest<'_>) -> T) -> T {
    write(&root(), Operation::Create, what, "x", check)
}

#[test]
fn namespaces() {
    let active = object(json!({"metadata": {"name": "d"}, "status": {"phase": "Active"}}));
    let going = object(json!({"metadata": {"name": "d"}, "status": {"phase": "Terminating"}}));
    let deleted = object(json!({"metadata": {"name": "d", "deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    for (operation, found, want) in [
        (Operation::Create, Some(&active), Ok(())),
        (Operation::Create, None, Err((404, "namespaces \"d\" not found"))),
        (Operation::Update, None, Err((404, "namespaces \"d\" not found"))),
        (Operation::Update, Some(&going), Ok(())),
        (
            Operation::Create,
            Some(&going),
            Err((
                403,
                "pods \"x\" is forbidden: unable to create new content in namespace d because it is being terminated",
            )),
        ),
        (
            Operation::Create,
            Some(&deleted),
            Err((
                403,
                "pods \"x\" is forbidden: unable to create new content in namespace d because it is being terminated",
            )),
        ),
    ] {
        let got = write(&root(), operation, "/pods", "x", |r| {
            assert!(namespace::concerns(r));
            namespace::admit(r, found.map(|f| &**f))
        });
        let got = got.map_err(|s: Status| (s.code, s.message));
        let want = want.map_err(|(code, says): (u16, &str)| (code, says.to_owned()));
        assert_eq!(got, want, "{operation:?}");
    }
    assert!(!create("/nodes", namespace::concerns));
    assert!(!write(&root(), Operation::Delete, "/pods", "x", namespace::concerns));
    assert!(!create("authorization.k8s.io/localsubjectaccessreviews", namespace::concerns));
    for (name, operation, good) in [
        ("default", Operation::Delete, false),
        ("kube-system", Operation::Delete, false),
        ("kube-public", Operation::Delete, false),
        ("kube-node-lease", Operation::Delete, true),
        ("mine", Operation::Delete, true),
        ("default", Operation::Update, true),
    ] {
        assert_eq!(
            write(&root(), operation, "/namespaces", name, namespace::validate_delete).is_ok(),
            good,
            "{name}"
        );
    }
}

fn admitted(spec: Value, account: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "x"}, "spec": spec});
    let account = object(account);
    create("/pods", |r| service_account::admit(r, &mut pod, Some(&account), "0123456789abcdef")).unwrap();
    pod["spec"].take()
}

#[test]
fn a_pod_gets_account_and_token() {
    let spec = admitted(
        json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i", "volumeMounts": []}]}),
        json!({"metadata": {"name": "default"}}),
    );
    assert_eq!([&spec["serviceAccountName"], &spec["serviceAccount"]], ["default", "default"]);
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(
        volume.starts_with("kube-api-access-") && volume.len() == "kube-api-access-".len() + 5,
        "{volume}"
    );
    for list in ["containers", "initContainers"] {
        let mount = &spec[list][0]["volumeMounts"][0];
        assert_eq!(
            mount,
            &json!({"name": volume, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"})
        );
    }
    let sources = spec["volumes"][0]["projected"]["sources"].as_array().unwrap();
    assert_eq!(sources[0]["serviceAccountToken"], json!({"path": "token", "expirationSeconds": 3607}));
    assert_eq!(sources[1]["configMap"]["name"], "kube-root-ca.crt");
    assert_eq!(sources[2]["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"], "metadata.namespace");
}

#[test]
fn tokens_are_mounted_only_where_wanted() {
    let path = "/var/run/secrets/kubernetes.io/serviceaccount";
    let account = |automount: Value| {
        json!({"metadata": {"name": "default"}, "automountServiceAccountToken": automount,
        "imagePullSecrets": [{"name": "reg"}]})
    };
    for (pod, account_says, mounted) in [
        (Value::Null, Value::Null, true),
        (Value::Null, false.into(), false),
        (true.into(), false.into(), true),
        (false.into(), true.into(), false),
    ] {
        let spec = admitted(
            json!({"containers": [{"name": "a"}], "automountServiceAccountToken": pod}),
            account(account_says),
        );
        assert_eq!(spec.get("volumes").is_some(), mounted);
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "reg"}]));
    }
    let own = admitted(
        json!({"containers": [{"name": "a", "volumeMounts": [{"name": "v", "mountPath": path}]}],
        "imagePullSecrets": [{"name": "own"}]}),
        account(Value::Null),
    );
    assert_eq!(own.get("volumes"), None);
    assert_eq!(own["imagePullSecrets"], json!([{"name": "own"}]));
    let twice = admitted(
        json!({"containers": [{"name": "a"}], "volumes": [{"name": "kube-api-access-zzzzz"}]}),
        account(Value::Null),
    );
    assert_eq!(twice["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(twice["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-zzzzz");
}

#[test]
fn accounts_that_are_missing_and_mirror_pods() {
    let mut pod = json!({"spec": {"serviceAccountName": "gone", "containers": []}});
    let status = create("/pods", |r| service_account::admit(r, &mut pod, None, "")).unwrap_err();
    assert_eq!(
        status.message,
        "pods \"x\" is forbidden: error looking up service account d/gone: serviceaccount \"gone\" not found"
    );
    let mirror = |spec: Value| {
        let mut pod =
            json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "1"}}, "spec": spec});
        assert_eq!(service_account::wanted(&pod), None);
        create("/pods", |r| service_account::admit(r, &mut pod, None, ""))
    };
    assert!(mirror(json!({"containers": [{"name": "a"}]})).is_ok());
    assert!(mirror(json!({"serviceAccountName": "default"})).is_err());
    assert!(mirror(json!({"volumes": [{"name": "s", "secret": {}}]})).is_err());
    assert!(
        mirror(json!({"volumes": [{"name": "s", "projected": {"sources": [{"serviceAccountToken": {}}]}}]}))
            .is_err()
    );
}

#[test]
fn priorities() {
    let high = object(json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}));
    let usual = object(json!({"metadata": {"name": "usual"}, "value": 5, "globalDefault": true}));
    let other = object(json!({"metadata": {"name": "other"}, "value": 7, "globalDefault": true}));
    assert_eq!(
        &*priority::default_class(&[high.clone(), other, usual.clone()]).unwrap().meta().name,
        "usual"
    );
    let admit = |spec: Value, class: Option<&Object>| {
        let mut pod = json!({"spec": spec});
        create("/pods", |r| priority::admit(r, &mut pod, class)).map(|()| pod["spec"].take())
    };
    assert_eq!(
        admit(json!({}), None).unwrap(),
        json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"})
    );
    assert_eq!(
        admit(json!({"priorityClassName": "high"}), Some(&high)).unwrap(),
        json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"})
    );
    assert_eq!(
        admit(json!({}), Some(&usual)).unwrap(),
        json!({"priorityClassName": "usual", "priority": 5, "preemptionPolicy": "PreemptLowerPriority"})
    );
    assert!(admit(json!({"priorityClassName": "high", "priority": 1000}), Some(&high)).is_ok());
    for (spec, class, says) in [
        (json!({"priorityClassName": "none"}), None, "no PriorityClass with name none was found"),
        (json!({"priority": 3}), None, "the integer value of priority (3) must not be provided"),
        (
            json!({"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority"}),
            Some(&*high),
            "the string value of PreemptionPolicy",
        ),
    ] {
        let status = admit(spec, class).unwrap_err();
        assert!(status.code == 403 && status.message.contains(says), "{status}");
    }
}

#[test]
fn five_minutes_unless_told_otherwise() {
    let count = |given: Value| {
        let mut pod = json!({"spec": {"tolerations": given}});
        create("/pods", |r| tolerations::admit(r, &mut pod));
        pod["spec"]["tolerations"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|t| t["tolerationSeconds"] == 300)
            .count()
    };
    assert_eq!(count(Value::Null), 2);
    assert_eq!(
        count(json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}])),
        1
    );
    assert_eq!(
        count(json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"}])),
        2
    );
    assert_eq!(count(json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists"}])), 1);
    assert_eq!(count(json!([{"operator": "Exists"}])), 0);
    let mut pod = json!({"spec": {}});
    create("/pods/status", |r| tolerations::admit(r, &mut pod));
    assert_eq!(pod, json!({"spec": {}}));
}

#[test]
fn a_new_node_is_not_ready() {
    let mut fresh = json!({"metadata": {"name": "x"}});
    create("/nodes", |r| node::taint(r, &mut fresh));
    assert_eq!(
        fresh["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
    let again = fresh.clone();
    create("/nodes", |r| node::taint(r, &mut fresh));
    assert_eq!(fresh, again);
    let mut updated = json!({"spec": {}});
    write(&root(), Operation::Update, "/nodes", "x", |r| node::taint(r, &mut updated));
    assert_eq!(updated, json!({"spec": {}}));
}

#[test]
fn a_node_keeps_to_itself() {
    let user = UserInfo::new("system:node:n1", &["system:nodes"]);
    let pod_on =
        |name: &str| object(json!({"metadata": {"name": "x", "namespace": "d"}, "spec": {"nodeName": name}}));
    let (mine, theirs) = (pod_on("n1"), pod_on("n2"));
    let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "h"}}, "spec": {"nodeName": "n1"}});
    let plain = json!({"metadata": {}, "spec": {"nodeName": "n1"}});
    let nothing = json!({});
    for (operation, what, name, new, old, good) in [
        (Operation::Create, "/nodes", "n1", Some(&nothing), None, true),
        (Operation::Create, "/nodes", "n2", Some(&nothing), None, false),
        (Operation::Update, "/nodes/status", "n1", Some(&nothing), None, true),
        (Operation::Update, "/nodes/status", "n2", Some(&nothing), None, false),
        (Operation::Update, "/pods/status", "x", Some(&nothing), Some(&mine), true),
        (Operation::Update, "/pods/status", "x", Some(&nothing), Some(&theirs), false),
        (Operation::Delete, "/pods", "x", None, Some(&mine), true),
        (Operation::Delete, "/pods", "x", None, Some(&theirs), false),
        (Operation::Create, "/pods", "x", Some(&mirror), None, true),
        (Operation::Create, "/pods", "x", Some(&plain), None, false),
        (Operation::Create, "/events", "x", Some(&nothing), None, true),
        (Operation::Update, "coordination.k8s.io/leases", "n1", Some(&nothing), None, false),
    ] {
        let got = write(&user, operation, what, name, |r| node::restrict(r, new, old.map(|o| &**o)));
        assert_eq!(got.is_ok(), good, "{operation:?} {what} {name}");
        // Others are not bound by this.
        assert!(write(&root(), operation, what, name, |r| node::restrict(r, new, old.map(|o| &**o))).is_ok());
    }
}
