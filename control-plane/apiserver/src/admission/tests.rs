use super::{classes, limits, namespace, node, priority, runtime, service_account, tolerations};
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

fn range(limit: Value) -> Vec<Arc<Object>> {
    vec![object(json!({"metadata": {"name": "l", "namespace": "d"}, "spec": {"limits": [limit]}}))]
}

#[test]
fn containers_get_what_a_range_says() {
    let ranges = range(
        json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}),
    );
    let mut pod = json!({"metadata": {"name": "x"}, "spec": {
        "containers": [{"name": "a", "resources": {"limits": {"cpu": "2"}}}], "initContainers": [{"name": "i"}]}});
    assert!(create("/pods", limits::concerns) && !create("/services", limits::concerns));
    assert!(write(&root(), Operation::Update, "/pods/resize", "x", limits::concerns));
    assert!(!write(&root(), Operation::Update, "/pods", "x", limits::concerns));
    limits::fill(&mut pod, &ranges);
    assert_eq!(
        pod["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container a; memory limit for container a; \
         cpu request for init container i; cpu, memory limit for init container i"
    );
    let before = pod.clone();
    limits::fill(&mut pod, &ranges);
    assert_eq!(pod, before, "nothing is left to fill in");
}

#[test]
fn pods_stay_within_a_range() {
    let container = |requests: Value, limits: Value| {
        json!({"metadata": {"name": "x"}, "spec": {"containers": [
            {"name": "a", "resources": {"requests": requests, "limits": limits}}]}})
    };
    let of = |kind: &str, bound: &str, amount: &str| json!({"type": kind, bound: {"cpu": amount}});
    let cpu = |amount: &str| json!({"cpu": amount});
    let before = json!({"metadata": {"name": "x"}, "spec": {
        "containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}}],
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1"}}},
            {"name": "i", "resources": {"limits": {"cpu": "4"}}}]}});
    for (limit, pod, wrong) in [
        (of("Container", "max", "2"), container(json!({}), cpu("2")), ""),
        (
            of("Container", "max", "2"),
            container(json!({}), cpu("3")),
            "maximum cpu usage per Container is 2, but limit is 3",
        ),
        (
            of("Container", "max", "2"),
            container(cpu("1"), json!({})),
            "maximum cpu usage per Container is 2.  No limit is specified",
        ),
        (
            of("Container", "min", "500m"),
            container(cpu("100m"), json!({})),
            "minimum cpu usage per Container is 500m, but request is 100m",
        ),
        (
            of("Container", "min", "500m"),
            container(json!({}), json!({})),
            "minimum cpu usage per Container is 500m.  No request is specified",
        ),
        (
            of("Container", "maxLimitRequestRatio", "2"),
            container(cpu("1"), cpu("3")),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            json!({"type": "Container", "max": {"cpu": "2", "memory": "1Gi"}}),
            container(json!({}), json!({"cpu": "3", "memory": "2Gi"})),
            "[maximum cpu usage per Container is 2, but limit is 3, maximum memory usage per Container is 1Gi, but limit is 2Gi]",
        ),
        (of("Pod", "max", "5"), before.clone(), ""),
        (of("Pod", "max", "4"), before.clone(), "maximum cpu usage per Pod is 4, but limit is 5"),
        (of("PersistentVolumeClaim", "max", "1"), before, ""),
    ] {
        let got = create("/pods", |r| limits::check(r, &pod, &range(limit.clone())));
        let want = format!("pods \"x\" is forbidden: {wrong}");
        match got {
            Ok(()) => assert_eq!(wrong, "", "{limit}"),
            Err(status) => assert_eq!((status.code, status.message), (403, want), "{limit}"),
        }
    }
}

#[test]
fn pods_of_a_runtime_class() {
    let class = object(
        json!({"metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}}),
    );
    let pod = |more: Value| {
        let mut pod = json!({"metadata": {"name": "x"}, "spec": {"runtimeClassName": "vm"}});
        for (key, value) in more.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        pod
    };
    let admit = |pod: &mut Value, class: Option<&Object>| {
        create("/pods", |r| runtime::admit(r, pod, class)).map_err(|status| status.message)
    };
    let narrow = json!({"key": "vm", "operator": "Equal", "value": "1", "effect": "NoSchedule"});
    let mut good = pod(json!({"tolerations": [narrow], "nodeSelector": {"disk": "ssd"}}));
    assert_eq!(admit(&mut good, Some(&class)), Ok(()));
    assert_eq!(good["spec"]["overhead"], json!({"cpu": "250m"}));
    assert_eq!(good["spec"]["nodeSelector"], json!({"disk": "ssd", "vm": "yes"}));
    assert_eq!(good["spec"]["tolerations"], json!([{"key": "vm", "operator": "Exists"}]));
    assert!(create("/pods", |r| runtime::check(r, &good, Some(&class))).is_ok());

    let forbidden = |why: &str| Err(format!("pods \"x\" is forbidden: {why}"));
    let missing = admit(&mut pod(json!({})), None);
    assert_eq!(missing, forbidden("pod rejected: RuntimeClass \"vm\" not found"));
    let other = admit(&mut pod(json!({"overhead": {"cpu": "1"}})), Some(&class));
    assert_eq!(
        other,
        forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
    );
    let elsewhere = admit(&mut pod(json!({"nodeSelector": {"vm": "no"}})), Some(&class));
    let why = "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no";
    assert_eq!(elsewhere, forbidden(why));
    let alone = json!({"spec": {"overhead": {"cpu": "1"}}});
    let status = create("/pods", |r| runtime::check(r, &alone, None)).unwrap_err();
    assert!(status.message.ends_with("Pod Overhead set without corresponding RuntimeClass defined Overhead"));
}

#[test]
fn ingresses_get_the_newest_default_class() {
    let class = |name: &str, made: &str, default: &str| {
        object(json!({"metadata": {"name": name, "creationTimestamp": made,
            "annotations": {"ingressclass.kubernetes.io/is-default-class": default}}}))
    };
    let all = [
        class("old", "2026-01-01T00:00:00Z", "true"),
        class("b", "2026-02-01T00:00:00Z", "true"),
        class("a", "2026-02-01T00:00:00Z", "true"),
        class("other", "2026-03-01T00:00:00Z", "false"),
    ];
    let wanted = |ingress: &Value| create("networking.k8s.io/ingresses", |r| classes::wanted(r, ingress));
    let mut ingress = json!({"metadata": {"name": "x"}, "spec": {}});
    assert!(wanted(&ingress));
    classes::admit(&mut ingress, &all[3..]);
    assert!(wanted(&ingress), "no class is the default one");
    classes::admit(&mut ingress, &all);
    assert_eq!(ingress["spec"]["ingressClassName"], "a");
    assert!(!wanted(&ingress));
    let named = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": {}});
    assert!(!wanted(&named));
}

/// Ranges and classes are found where they are stored.
#[tokio::test]
async fn what_is_stored_is_applied() {
    use crate::cache::{Caches, store_key};
    use crate::hooks::Admission;
    use skep_store::{Config, Op, Store, Txn};

    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    let caches = Caches::start(store.clone(), ResourceTable::builtin()).await.unwrap();
    let put = |group: &'static str, plural: &'static str, namespace: &str, object: Value| Op::Put {
        key: store_key(&skep_api::GroupResource::new(group, plural), namespace, "a").into(),
        value: object.to_string().into(),
    };
    let range = |namespace: &str, most: &str| {
        put(
            "",
            "limitranges",
            namespace,
            json!({"metadata": {"name": "a", "namespace": namespace},
            "spec": {"limits": [{"type": "Container", "max": {"cpu": most}, "default": {"cpu": most}}]}}),
        )
    };
    let marked = json!({"ingressclass.kubernetes.io/is-default-class": "true"});
    let ops = vec![
        range("d", "2"),
        range("other", "1"),
        put("", "namespaces", "", json!({"metadata": {"name": "a"}})),
        put(
            "node.k8s.io",
            "runtimeclasses",
            "",
            json!({"metadata": {"name": "a"}, "overhead": {"podFixed": {"cpu": "1"}}}),
        ),
        put(
            "networking.k8s.io",
            "ingressclasses",
            "",
            json!({"metadata": {"name": "a", "annotations": marked}}),
        ),
    ];
    store.txn(Txn { compare: Vec::new(), ops }).await.unwrap();
    let namespace = Op::Put {
        key: store_key(&skep_api::GroupResource::new("", "namespaces"), "", "d").into(),
        value: json!({"metadata": {"name": "d"}}).to_string().into(),
    };
    let account = Op::Put {
        key: store_key(&skep_api::GroupResource::new("", "serviceaccounts"), "d", "default").into(),
        value: json!({"metadata": {"name": "default", "namespace": "d"}}).to_string().into(),
    };
    store.txn(Txn { compare: Vec::new(), ops: vec![namespace, account] }).await.unwrap();
    caches.fresh().await.unwrap();
    let admission = super::BuiltIn::new(caches.clone(), Arc::new(crate::authz::Rbac::new(caches)));
    let (user, table) = (root(), ResourceTable::builtin());
    let request = |resource| WriteRequest {
        user: &user,
        resource,
        subresource: "",
        operation: Operation::Create,
        namespace: "d",
        name: "x",
        dry_run: false,
    };

    let mut pod =
        json!({"metadata": {"name": "x"}, "spec": {"runtimeClassName": "a", "containers": [{"name": "c"}]}});
    let pods = request(table.get("", "v1", "pods").unwrap());
    admission.admit(&pods, &mut pod, None).await.unwrap();
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["cpu"], "2");
    assert_eq!(pod["spec"]["overhead"], json!({"cpu": "1"}));
    admission.validate(&pods, Some(&pod), None, &mut Vec::new()).await.unwrap();
    pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "3".into();
    let status = admission.validate(&pods, Some(&pod), None, &mut Vec::new()).await.unwrap_err();
    assert!(status.message.ends_with("maximum cpu usage per Container is 2, but limit is 3"), "{status}");

    let mut ingress = json!({"metadata": {"name": "x"}, "spec": {}});
    let ingresses = request(table.get("networking.k8s.io", "v1", "ingresses").unwrap());
    admission.admit(&ingresses, &mut ingress, None).await.unwrap();
    assert_eq!(ingress["spec"]["ingressClassName"], "a");
}
