use super::*;

fn pod(name: &str, extra: Value) -> Pod {
    let mut value = json!({
        "metadata": {"name": name, "uid": name, "labels": {"app": "web"}, "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs", "controller": true}]},
        "spec": {"nodeName": "n1"}, "status": {"phase": "Running"},
    });
    merge(&mut value, extra);
    serde_json::from_value(value).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(a), Value::Object(b)) => {
            b.into_iter().for_each(|(k, v)| merge(a.entry(k).or_insert(Value::Null), v))
        }
        (a, b) => *a = b,
    }
}

fn ready(at: &str) -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}]}})
}

fn decide(replicas: i64, pods: &[Pod], min_ready_seconds: u64) -> Plan {
    let spec = Spec {
        replicas: Some(replicas),
        min_ready_seconds,
        selector: Value::Null,
        template: json!({"metadata": {"labels": {"app": "web"}}}),
    };
    let selector = LabelSelector::parse("app=web").unwrap();
    plan(&Input {
        uid: "rs",
        deleting: false,
        generation: 3,
        spec: &spec,
        selector: &selector,
        pods,
        now: "2026-01-01T01:00:00Z".parse().unwrap(),
    })
}

#[test]
fn missing_pods_are_created_and_finished_ones_replaced() {
    let pods = [
        pod("a", json!({})),
        pod("b", json!({"status": {"phase": "Failed"}})),
        pod("c", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}})),
    ];
    let plan = decide(3, &pods, 0);
    assert_eq!(plan.create, 2);
    assert_eq!(plan.counts["replicas"], 1);
    assert_eq!(plan.counts["terminatingReplicas"], 1);
    assert_eq!(decide(10_000, &pods, 0).create, 500);
}

#[test]
fn the_least_useful_pods_go_first() {
    let rows = [
        ("old", ready("2026-01-01T00:00:00Z")),
        ("cheap", {
            let mut v = ready("2026-01-01T00:00:00Z");
            merge(&mut v, json!({"metadata": {"annotations": {DELETION_COST: "-5"}}}));
            v
        }),
        ("young", ready("2026-01-01T00:50:00Z")),
        ("unready", json!({})),
        ("pending", json!({"status": {"phase": "Pending"}})),
        ("unassigned", json!({"spec": {"nodeName": ""}, "status": {"phase": "Pending"}})),
        ("alone", {
            let mut v = ready("2026-01-01T00:50:00Z");
            merge(&mut v, json!({"spec": {"nodeName": "n2"}}));
            v
        }),
    ];
    let pods: Vec<Pod> = rows.into_iter().map(|(name, extra)| pod(name, extra)).collect();
    let plan = decide(0, &pods, 0);
    assert_eq!(plan.delete, ["unassigned", "pending", "unready", "cheap", "young", "old", "alone"]);
    assert_eq!(decide(5, &pods, 0).delete, ["unassigned", "pending"]);
}

#[test]
fn orphans_are_adopted_strangers_left_and_misfits_released() {
    let pods = [
        pod("orphan", json!({"metadata": {"ownerReferences": []}})),
        pod(
            "stranger",
            json!({"metadata": {"ownerReferences": [{"kind": "Job", "name": "j", "uid": "j", "controller": true}]}}),
        ),
        pod("misfit", json!({"metadata": {"labels": {"app": "other"}}})),
    ];
    let plan = decide(2, &pods, 0);
    assert_eq!(
        (plan.adopt.as_slice(), plan.release.as_slice()),
        (&["orphan".to_owned()][..], &["misfit".to_owned()][..])
    );
    assert_eq!(plan.create, 1);
}

#[test]
fn availability_comes_later_than_readiness() {
    let pods = [pod("a", ready("2026-01-01T00:59:55Z")), pod("b", ready("2026-01-01T00:00:00Z"))];
    let plan = decide(2, &pods, 20);
    assert_eq!(plan.counts["readyReplicas"], 2);
    assert_eq!(plan.counts["availableReplicas"], 1);
    assert_eq!(plan.again, Some(Duration::from_secs(15)));
}

#[test]
fn a_pod_is_made_from_the_template() {
    let template =
        json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": {"containers": []}});
    let pod = pod_from(&template, "web-1", json!({"uid": "u"}));
    assert_eq!(pod["metadata"]["generateName"], "web-1-");
    assert_eq!(pod["metadata"]["labels"]["a"], "b");
    assert_eq!(pod["metadata"]["annotations"]["c"], "d");
    assert_eq!(pod["spec"], json!({"containers": []}));
}
