//! Which pods the node takes.

use crate::core::admit::{self, NodeView, Refusal, Rejection};
use crate::core::preempt;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

fn node() -> NodeView {
    NodeView::read(&json!({
        "metadata": {"name": "n", "labels": {"disk": "ssd", "kubernetes.io/os": "linux"}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "10Gi", "pods": "3",
            "example.com/gpu": "1", "hugepages-2Mi": "0"}},
    }))
}

fn pod(name: &str, spec: Value) -> Pod {
    let mut spec = spec;
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    serde_json::from_value(json!({"metadata": {"name": name, "uid": name, "namespace": "d"}, "spec": spec}))
        .unwrap()
}

fn asks(requests: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})
}

fn with_port(port: Value) -> Value {
    json!({"containers": [{"name": "c", "ports": [port]}]})
}

/// Reasons and messages of everything that stands against the pod.
fn against(p: &Pod, node: &NodeView, others: &[&Pod]) -> Vec<Rejection> {
    admit::refusals(p, node, others).iter().map(Rejection::from).collect()
}

fn reasons(p: &Pod, others: &[&Pod]) -> Vec<String> {
    against(p, &node(), others).into_iter().map(|r| r.reason).collect()
}

#[test]
fn a_node_takes_what_fits_and_says_what_does_not() {
    let big = pod("big", asks(json!({"cpu": "1500m", "memory": "512Mi"})));
    for (spec, want) in [
        (json!({}), vec![]),
        (asks(json!({"cpu": "500m", "memory": "512Mi"})), vec![]),
        (asks(json!({"cpu": "501m"})), vec!["OutOfcpu"]),
        (asks(json!({"memory": "513Mi", "cpu": "1"})), vec!["OutOfcpu", "OutOfmemory"]),
        (asks(json!({"ephemeral-storage": "11Gi"})), vec!["OutOfephemeral-storage"]),
        (asks(json!({"example.com/gpu": "1"})), vec![]),
        (asks(json!({"example.com/gpu": "2"})), vec!["OutOfexample.com/gpu"]),
        (asks(json!({"hugepages-2Mi": "2Mi"})), vec!["OutOfhugepages-2Mi"]),
        // What the node does not count is the business of whoever does.
        (asks(json!({"example.com/other": "9"})), vec![]),
        (json!({"nodeSelector": {"disk": "ssd"}}), vec![]),
        (json!({"nodeSelector": {"disk": "hdd"}}), vec!["NodeAffinity"]),
        (json!({"nodeName": "n"}), vec![]),
        (json!({"nodeName": "m"}), vec!["NodeName"]),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["ssd"]}]}]}}}}),
            vec!["NodeAffinity"],
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}}}),
            vec![],
        ),
    ] {
        assert_eq!(reasons(&pod("p", spec.clone()), &[&big]), want, "{spec}");
    }
    let p = pod("p", asks(json!({"cpu": "1"})));
    let said = &against(&p, &node(), &[&big])[0];
    assert_eq!(
        said.message,
        "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"
    );
    let lost = pod("p", json!({"nodeSelector": {"disk": "hdd"}}));
    let said = &against(&lost, &node(), &[])[0];
    assert_eq!(
        said.message,
        "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    );
    assert!(admit::only_affinity(&admit::refusals(&lost, &node(), &[])));
    assert!(!admit::only_affinity(&admit::refusals(&p, &node(), &[&big])) && !admit::only_affinity(&[]));
}

#[test]
fn pods_are_counted_and_what_they_still_have_counts() {
    let small = pod("s", json!({}));
    assert_eq!(reasons(&pod("p", json!({})), &[&small, &small]), Vec::<String>::new());
    assert_eq!(reasons(&pod("p", json!({})), &[&small, &small, &small]), ["OutOfpods"]);
    // One that is being made smaller has not given anything back yet.
    let mut shrinking = pod("s", asks(json!({"cpu": "100m"})));
    shrinking.status =
        serde_json::from_value(json!({"containerStatuses": [{"name": "c", "image": "i", "imageID": "",
        "ready": true, "restartCount": 0, "resources": {"requests": {"cpu": "1900m"}}}]}))
        .unwrap();
    assert_eq!(reasons(&pod("p", asks(json!({"cpu": "200m"}))), &[&shrinking]), ["OutOfcpu"]);
}

#[test]
fn host_ports_are_taken_once() {
    let has = pod("h", with_port(json!({"hostPort": 80, "containerPort": 1, "hostIP": "10.0.0.1"})));
    for (port, clash) in [
        (json!({"hostPort": 80, "containerPort": 2}), true),
        (json!({"hostPort": 80, "containerPort": 2, "hostIP": "0.0.0.0"}), true),
        (json!({"hostPort": 80, "containerPort": 2, "hostIP": "10.0.0.1", "protocol": "TCP"}), true),
        (json!({"hostPort": 80, "containerPort": 2, "hostIP": "10.0.0.2"}), false),
        (json!({"hostPort": 80, "containerPort": 2, "protocol": "UDP"}), false),
        (json!({"hostPort": 81, "containerPort": 1}), false),
        (json!({"containerPort": 80}), false),
    ] {
        let p = pod("p", with_port(port.clone()));
        assert_eq!(reasons(&p, &[&has]) == ["NodePorts"], clash, "{port}");
    }
    let sidecar = json!({"initContainers": [{"name": "s", "restartPolicy": "Always",
        "ports": [{"hostPort": 80, "containerPort": 1}]}]});
    assert_eq!(reasons(&pod("p", sidecar), &[&has]), ["NodePorts"]);
}

#[test]
fn only_taints_that_throw_pods_out_keep_them_away() {
    let mut n = node();
    let taint = |effect: &str| serde_json::from_value(json!({"key": "k", "effect": effect})).unwrap();
    let plain = pod("p", json!({}));
    n.taints = vec![taint("NoSchedule")];
    assert_eq!(against(&plain, &n, &[]), []);
    n.taints.push(taint("NoExecute"));
    let said = against(&plain, &n, &[]);
    assert_eq!(said[0].reason, "TaintToleration");
    assert!(said[0].message.ends_with("node(s) had taints that the pod didn't tolerate"));
    assert_eq!(against(&pod("p", json!({"tolerations": [{"operator": "Exists"}]})), &n, &[]), []);
    let mut from_file = plain;
    from_file.metadata.annotations = Some([("kubernetes.io/config.source".into(), "file".into())].into());
    assert_eq!(against(&from_file, &n, &[]), []);
}

#[test]
fn what_no_node_of_this_kind_takes() {
    let with = |name: &str, more: Value| {
        let mut spec = json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        admit::forbidden(&pod("p", spec), (6, 1)).map(|r| (r.reason, r.message))
    };
    let said = |why: &str| Some(("SysctlForbidden".to_owned(), format!("forbidden sysctl: {why}")));
    assert_eq!(with("kernel.shm_rmid_forced", json!({})), None);
    assert_eq!(with("net/ipv4/tcp_syncookies", json!({})), None);
    assert_eq!(with("kernel.msgmax", json!({})), said("\"kernel.msgmax\" not allowlisted"));
    let host = said("\"net.ipv4.tcp_syncookies\" not allowed with host net enabled");
    assert_eq!(with("net.ipv4.tcp_syncookies", json!({"hostNetwork": true})), host);
    let ipc = said("\"kernel.shm_rmid_forced\" not allowed with host ipc enabled");
    assert_eq!(with("kernel.shm_rmid_forced", json!({"hostIPC": true})), ipc);
    let old =
        pod("p", json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}}));
    assert!(admit::forbidden(&old, admit::kernel_version("4.14.0-x")).is_some());
    assert!(admit::forbidden(&old, admit::kernel_version("5.15.0-91-generic")).is_none());
    let windows = admit::forbidden(&pod("p", json!({"os": {"name": "windows"}})), (6, 1));
    assert_eq!(windows.unwrap().reason, "PodOSNotSupported");
    assert_eq!(admit::forbidden(&pod("p", json!({"os": {"name": "linux"}})), (6, 1)), None);
}

fn short(resource: &str, requested: i64, used: i64, capacity: i64) -> Refusal {
    Refusal::Short { resource: resource.into(), requested, used, capacity }
}

#[test]
fn critical_pods_take_the_place_of_the_fewest_and_least() {
    let critical = pod("critical", json!({"priority": 2_000_000_000}));
    let both = json!({"cpu": "400m", "memory": "10Mi"});
    let burst = pod("burst", asks(json!({"cpu": "300m"})));
    let small = pod("small", asks(json!({"cpu": "200m"})));
    let sure =
        pod("sure", json!({"containers": [{"name": "c", "resources": {"requests": both, "limits": both}}]}));
    let best = pod("best", json!({}));
    let all = [&burst, &small, &sure, &best];
    let go = |r: &[Refusal]| preempt::decide(&critical, r, &all);
    assert_eq!(go(&[]), Ok(vec![]));
    // 200m are missing: the small one is enough; 300m: the other; 500m: both, and the guaranteed one stays.
    assert_eq!(go(&[short("cpu", 500, 1700, 2000)]), Ok(vec![1]));
    assert_eq!(go(&[short("cpu", 600, 1700, 2000)]), Ok(vec![0]));
    assert_eq!(go(&[short("cpu", 800, 1700, 2000)]), Ok(vec![0, 1]));
    assert_eq!(
        go(&[short("cpu", 900, 1700, 2000)]),
        Ok(vec![1, 2]),
        "beside the one that cannot be spared the small one is enough"
    );
    // For a place alone the one without any claims goes.
    assert_eq!(go(&[short("pods", 1, 4, 4)]), Ok(vec![3]));
    let much = go(&[short("cpu", 2000, 1700, 2000)]).unwrap_err();
    assert_eq!(much.reason, "UnexpectedAdmissionError");
    assert!(
        much.message.ends_with("no set of running pods found to reclaim resources: [(res: cpu, q: 800), ]"),
        "{much:?}"
    );
    let unfit = admit::refusals(&pod("x", json!({"nodeName": "m"})), &node(), &[]);
    assert_eq!(go(&[short("cpu", 500, 1700, 2000), unfit[0].clone()]).unwrap_err().reason, "NodeName");
    // Others wait, and nobody goes for them.
    let plain = pod("plain", json!({"priority": 5}));
    let low = pod("low", json!({"priority": 1}));
    assert_eq!(preempt::decide(&plain, &[short("pods", 1, 4, 4)], &[&low]).unwrap_err().reason, "OutOfpods");
    let other = pod("other", json!({"priority": 2_000_001_000}));
    assert!(preempt::decide(&critical, &[short("pods", 1, 4, 4)], &[&other]).is_err());
    assert_eq!(preempt::decide(&other, &[short("pods", 1, 4, 4)], &[&critical]), Ok(vec![0]));
}
