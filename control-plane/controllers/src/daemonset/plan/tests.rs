use super::*;
use serde_json::{Value, json};

fn set(spec: &Value) -> DaemonSet {
    let mut value = json!({
        "metadata": {"name": "ds", "namespace": "d", "uid": "s", "generation": 3,
            "annotations": {"deprecated.daemonset.template.generation": "2"}},
        "spec": {"template": {"metadata": {"labels": {"app": "x"}}, "spec": {}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}},
    });
    for (field, with) in spec.as_object().unwrap() {
        value["spec"][field] = with.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn node(name: &str, labels: Value, taints: Value) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}))
        .unwrap()
}

fn nodes(many: usize) -> Vec<Node> {
    (0..many).map(|n| node(&format!("n{n}"), json!({}), Value::Null)).collect()
}

/// A pod on a node and what it is like: `r`eady, `f`ailed, `s`ucceeded, `t`erminating; `n` behind that is of the present
/// template; `u` is bound to no node yet.
fn pod(name: &str, node: &str, like: &str) -> Pod {
    let has = |c: char| like.contains(c);
    let phase = if has('f') {
        "Failed"
    } else if has('s') {
        "Succeeded"
    } else {
        "Running"
    };
    let hash = if has('n') { "new" } else { "old" };
    let mut value = json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"controller-revision-hash": hash},
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": if has('r') { "True" } else { "False" },
            "lastTransitionTime": "2026-01-01T00:59:50Z"}]},
    });
    if has('u') {
        value["spec"] = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}}});
    }
    if has('t') {
        value["metadata"]["deletionTimestamp"] = "2026-01-01T01:00:00Z".into();
    }
    serde_json::from_value(value).unwrap()
}

fn decide_with(set: &DaemonSet, nodes: &[Node], pods: &[Pod], wait: Option<Duration>) -> Plan {
    plan(&Input {
        set,
        nodes,
        pods,
        hash: "new",
        collisions: 0,
        now: "2026-01-01T01:00:00Z".parse().unwrap(),
        backoff: &|_| wait,
    })
}

fn decide(set: &DaemonSet, nodes: &[Node], pods: &[Pod]) -> Plan {
    decide_with(set, nodes, pods, None)
}

fn shown(plan: &Plan) -> String {
    let create = plan.create.iter().map(|n| format!("+{n}"));
    create.chain(plan.delete.iter().map(|n| format!("-{n}"))).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_node_gets_one() {
    let set = set(&json!({}));
    let all = nodes(3);
    assert_eq!(shown(&decide(&set, &all, &[])), "+n0 +n1 +n2");
    let one = [pod("a", "n1", "un")];
    assert_eq!(shown(&decide(&set, &all, &one)), "+n0 +n2");
    let twice = [pod("a", "n0", "rn"), pod("b", "n0", "rn"), pod("c", "n1", "n"), pod("d", "n2", "n")];
    assert_eq!(shown(&decide(&set, &all, &twice)), "-b");
    // A pod that is on its way out keeps its node until it is gone.
    let going = [pod("a", "n0", "rnt"), pod("c", "n1", "rn"), pod("d", "n2", "rn")];
    assert_eq!(shown(&decide(&set, &all, &going)), "");
    let lost = [pod("a", "n9", "un"), pod("b", "n8", "rn")];
    assert_eq!(shown(&decide(&set, &[], &lost)), "-a");
}

#[test]
fn nodes_are_chosen() {
    let chosen = set(&json!({"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}));
    let all = [node("n0", json!({"disk": "ssd"}), Value::Null), node("n1", json!({}), Value::Null)];
    assert_eq!(shown(&decide(&chosen, &all, &[])), "+n0");
    let moved = decide(&chosen, &all, &[pod("a", "n0", "rn"), pod("b", "n1", "rn")]);
    assert_eq!((shown(&moved).as_str(), moved.status.number_misscheduled), ("-b", 1));
    let plain = set(&json!({}));
    let tainted = |key: &str, effect: &str| [node("n0", json!({}), json!([{"key": key, "effect": effect}]))];
    for (key, effect, without, with) in [
        ("mine", "NoSchedule", "", ""),
        ("mine", "NoExecute", "", "-a"),
        ("mine", "PreferNoSchedule", "+n0", ""),
        ("node.kubernetes.io/unschedulable", "NoSchedule", "+n0", ""),
        ("node.kubernetes.io/not-ready", "NoExecute", "+n0", ""),
        ("node.kubernetes.io/network-unavailable", "NoSchedule", "", ""),
    ] {
        let all = tainted(key, effect);
        assert_eq!(shown(&decide(&plain, &all, &[])), without, "{key} {effect}");
        assert_eq!(shown(&decide(&plain, &all, &[pod("a", "n0", "rn")])), with, "{key} {effect}");
    }
    let host = set(&json!({"template": {"spec": {"hostNetwork": true}}}));
    let all = tainted("node.kubernetes.io/network-unavailable", "NoSchedule");
    assert_eq!(shown(&decide(&host, &all, &[])), "+n0");
    let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]});
    let affine = set(&json!({"template": {"spec": {"affinity": {"nodeAffinity":
        {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}}}));
    let all = [node("n0", json!({}), Value::Null), node("n1", json!({"zone": "a"}), Value::Null)];
    assert_eq!(shown(&decide(&affine, &all, &[])), "+n1");
}

#[test]
fn a_pod_is_meant_for_its_node() {
    let set = set(&json!({"template": {"metadata": {"labels": {"app": "x"}}, "spec": {
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 5}],
        "affinity": {"podAffinity": {}}}}}));
    let pod = set.pod("n1", "new");
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "x", "controller-revision-hash": "new", "pod-template-generation": "2"})
    );
    assert_eq!(pod["metadata"]["generateName"], "ds-");
    let tolerations = pod["spec"]["tolerations"].as_array().unwrap();
    assert_eq!(tolerations.len(), 6);
    assert!(tolerations.iter().all(|t| t.get("tolerationSeconds").is_none()));
    assert!(pod["spec"]["affinity"]["podAffinity"].is_object());
    let read: Pod = serde_json::from_value(pod).unwrap();
    assert_eq!(target(&read), Some("n1"));
}

#[test]
fn what_ended_is_made_anew() {
    let set = set(&json!({}));
    let all = nodes(2);
    let pods = [pod("a", "n0", "fn"), pod("b", "n1", "sn")];
    let plan = decide(&set, &all, &pods);
    assert_eq!((shown(&plan).as_str(), plan.failed.as_slice()), ("-a -b", &["n0".to_owned()][..]));
    assert_eq!(plan.events[0].2, "Found failed daemon pod d/a on node n0, will try to kill it");
    assert_eq!(plan.events[1].1, "SucceededDaemonPod");
    let wait = Duration::from_secs(4);
    let later = decide_with(&set, &all, &pods[..1], Some(wait));
    assert_eq!((shown(&later).as_str(), later.again), ("+n1", Some(wait)));
}

#[test]
fn an_update_leaves_enough_running() {
    let set = |most: Value| {
        set(&json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": most}}}))
    };
    let all = nodes(4);
    let pods = |like: [&str; 4]| -> Vec<Pod> {
        like.iter().enumerate().map(|(n, like)| pod(&format!("p{n}"), &format!("n{n}"), like)).collect()
    };
    for (most, like, todo) in [
        (json!(1), ["r", "r", "r", "r"], "-p0"),
        (json!("50%"), ["r", "r", "r", "r"], "-p0 -p1"),
        (json!(1), ["rn", "r", "r", "r"], "-p1"),
        (json!(1), ["n", "r", "r", "r"], ""),
        (json!(2), ["n", "r", "r", "r"], "-p1"),
        // Old pods that are not available are no loss.
        (json!(1), ["n", "", "r", "r"], "-p1"),
        (json!(1), ["rn", "rn", "rn", "rn"], ""),
    ] {
        assert_eq!(shown(&decide(&set(most), &all, &pods(like))), todo, "{like:?}");
    }
    let by_hand = super::tests::set(&json!({"updateStrategy": {"type": "OnDelete"}}));
    assert_eq!(shown(&decide(&by_hand, &all, &pods(["r", "r", "r", "r"]))), "");
}

#[test]
fn a_surge_puts_the_new_beside_the_old() {
    let set = set(&json!({"updateStrategy":
        {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}}));
    let all = nodes(2);
    let old = [pod("a", "n0", "r"), pod("b", "n1", "r")];
    assert_eq!(shown(&decide(&set, &all, &old)), "+n0");
    let both = |like: &str| [pod("a", "n0", "r"), pod("x", "n0", like), pod("b", "n1", "r")];
    assert_eq!(shown(&decide(&set, &all, &both("n"))), "", "waits for the new one");
    assert_eq!(shown(&decide(&set, &all, &both("rn"))), "-a");
    let broken = [pod("a", "n0", ""), pod("x", "n0", "n"), pod("b", "n1", "r")];
    assert_eq!(shown(&decide(&set, &all, &broken)), "-a");
    let useless = [pod("a", "n0", ""), pod("b", "n1", "r")];
    assert_eq!(shown(&decide(&set, &all, &useless)), "+n0 +n1");
}

#[test]
fn the_status_counts() {
    let set = set(&json!({"minReadySeconds": 30}));
    let pods = [pod("a", "n0", "rn"), pod("b", "n1", "")];
    let plan = decide(&set, &nodes(3), &pods);
    let status = &plan.status;
    assert_eq!((status.desired_number_scheduled, status.current_number_scheduled), (3, 2));
    assert_eq!((status.number_ready, status.number_available, status.number_unavailable), (1, 0, 3));
    assert_eq!((status.updated_number_scheduled, status.observed_generation), (1, 3));
    assert_eq!(plan.again, Some(Duration::from_secs(20)));
    let mut tree = json!({"conditions": [], "numberAvailable": 7});
    status.write(&mut tree);
    assert_eq!(tree["numberMisscheduled"], 0);
    assert!(tree.get("numberAvailable").is_none() && tree.get("conditions").is_some());
}

#[test]
fn old_revisions_go_unless_pods_have_them() {
    let all = [("r1", "h1"), ("r2", "h2"), ("r3", "h3"), ("r4", "h4")];
    let live = HashSet::from(["h1"]);
    assert_eq!(surplus(all.into_iter(), 2, &live), ["r2", "r3"]);
    assert_eq!(surplus(all.into_iter(), 9, &live), Vec::<String>::new());
}
