use super::model::{Labels, Pod};
use super::*;
use serde_json::{Value, json};
use skep_api::{LabelSelector, Meta, Object};
use std::sync::Arc;

fn node(name: &str, labels: &[(&str, &str)], extra: Value) -> Node {
    let mut all: Labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    all.insert("kubernetes.io/hostname".into(), name.into());
    let mut tree = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": all}, "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    });
    if let Some(map) = extra.as_object() {
        for (key, value) in map {
            tree["spec"][key] = value.clone();
        }
    }
    Node::read(&Object::from_value(tree, 1, &[]).unwrap()).unwrap()
}

fn pod(name: &str, spec: Value) -> Pod {
    let meta = Meta {
        name: name.into(),
        namespace: "d".into(),
        uid: name.into(),
        labels: [("app".into(), "web".into())].into(),
        ..Meta::default()
    };
    Pod::from_tree(meta, &json!({"spec": spec}))
}

fn cpu(amount: &str) -> Value {
    json!({"containers": [{"resources": {"requests": {"cpu": amount}}}]})
}

fn cluster(nodes: &[Node]) -> Cluster {
    let mut cluster = Cluster::default();
    nodes.iter().cloned().for_each(|n| cluster.put_node(n));
    cluster
}

/// Places a pod and counts it there.
fn place(cluster: &mut Cluster, pod: &Pod, defaults: &[Spread]) -> Decision {
    let decision = schedule(pod, cluster, defaults, 0);
    if let Decision::Bind(node) = &decision {
        cluster.put_pod(Arc::new(Pod { node: node.clone(), ..pod.clone() }));
    }
    decision
}

/// Why it goes nowhere.
fn why(decision: Decision) -> String {
    match decision {
        Decision::Unschedulable(failure) => failure.message(),
        Decision::Bind(node) => panic!("bound to {node}"),
    }
}

fn bind(node: &str) -> Decision {
    Decision::Bind(node.into())
}

#[test]
fn resources_must_fit_and_the_reasons_say_which_do_not() {
    let mut c = cluster(&[node("a", &[], json!({})), node("b", &[], json!({"unschedulable": true}))]);
    assert_eq!(place(&mut c, &pod("p1", cpu("3")), &[]), bind("a"));
    assert_eq!(
        why(place(&mut c, &pod("p2", cpu("2")), &[])),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable."
    );
    c.remove_pod("p1");
    assert_eq!(place(&mut c, &pod("p2", cpu("2")), &[]), bind("a"));
    assert_eq!(
        why(schedule(&pod("p", cpu("1")), &Cluster::default(), &[], 0)),
        "no nodes available to schedule pods"
    );
}

#[test]
fn a_node_takes_only_so_many_pods() {
    let mut c = cluster(&[node("a", &[], json!({}))]);
    for n in 0..10 {
        assert_eq!(place(&mut c, &pod(&format!("p{n}"), json!({})), &[]), bind("a"));
    }
    let full = place(&mut c, &pod("p10", json!({})), &[]);
    assert_eq!(why(full), "0/1 nodes are available: 1 Too many pods.");
}

#[test]
fn selectors_taints_and_ports_keep_pods_away() {
    let taint = json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]});
    let mut c = cluster(&[node("a", &[("disk", "ssd")], taint), node("b", &[], json!({}))]);
    let tolerant = json!([{"key": "gpu", "operator": "Exists"}]);
    assert_eq!(place(&mut c, &pod("p1", json!({})), &[]), bind("b"));
    let picky = pod("p2", json!({"nodeSelector": {"disk": "ssd"}}));
    assert_eq!(
        why(place(&mut c, &picky, &[])),
        "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
             1 node(s) had untolerated taint(s)."
    );
    let spec = json!({"nodeSelector": {"disk": "ssd"}, "tolerations": tolerant});
    assert_eq!(place(&mut c, &pod("p3", spec), &[]), bind("a"));
    let port =
        |ip: &str| json!({"containers": [{"ports": [{"containerPort": 80, "hostPort": 80, "hostIP": ip}]}]});
    assert_eq!(place(&mut c, &pod("p4", port("127.0.0.1")), &[]), bind("b"));
    assert!(matches!(place(&mut c, &pod("p5", port("0.0.0.0")), &[]), Decision::Unschedulable(_)));
    assert_eq!(place(&mut c, &pod("p6", port("127.0.0.2")), &[]), bind("b"));
}

#[test]
fn required_node_affinity_has_alternatives() {
    let c = cluster(&[node("a", &[("zone", "1")], json!({})), node("b", &[("zone", "2")], json!({}))]);
    let terms = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
    let by_zone =
        terms(json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["2", "3"]}]}]));
    assert_eq!(schedule(&pod("p", by_zone), &c, &[], 0), bind("b"));
    let by_name =
        terms(json!([{}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]));
    assert_eq!(schedule(&pod("p", by_name), &c, &[], 0), bind("a"));
    assert!(matches!(schedule(&pod("p", terms(json!([{}]))), &c, &[], 0), Decision::Unschedulable(_)));
}

#[test]
fn pods_of_a_service_spread_over_nodes() {
    let names = ["a", "b", "c"];
    let mut c = cluster(&names.map(|n| node(n, &[], json!({}))));
    let defaults = plugins::spread::default_constraints(LabelSelector::parse("app=web").unwrap());
    for n in 0..9 {
        assert!(matches!(place(&mut c, &pod(&format!("p{n}"), json!({})), &defaults), Decision::Bind(_)));
    }
    let counts: Vec<usize> = c.nodes().map(|(_, info)| info.pods.len()).collect();
    assert_eq!(counts, [3, 3, 3]);
}

#[test]
fn a_hard_spread_is_kept() {
    let mut c = cluster(&[
        node("a", &[("zone", "1")], json!({})),
        node("b", &[("zone", "2")], json!({"unschedulable": true})),
        node("x", &[], json!({})),
    ]);
    let constraint = json!({"topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}}]});
    assert_eq!(place(&mut c, &pod("p1", constraint.clone()), &[]), bind("a"));
    assert_eq!(
        why(place(&mut c, &pod("p2", constraint), &[])),
        "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, \
             1 node(s) didn't match pod topology spread constraints (missing required label), \
             1 node(s) were unschedulable."
    );
}

fn near(kind: &str, key: &str) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": key, "labelSelector": {"matchLabels": {"app": "web"}}}]}}})
}

#[test]
fn pods_stay_away_from_each_other_both_ways() {
    let mut c = cluster(&[node("a", &[], json!({})), node("b", &[], json!({}))]);
    let alone = near("podAntiAffinity", "kubernetes.io/hostname");
    assert!(matches!(place(&mut c, &pod("p1", alone.clone()), &[]), Decision::Bind(_)));
    assert!(matches!(place(&mut c, &pod("p2", alone.clone()), &[]), Decision::Bind(_)));
    assert_eq!(
        why(place(&mut c, &pod("p3", alone), &[])),
        "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules."
    );
    assert_eq!(
        why(place(&mut c, &pod("p4", json!({})), &[])),
        "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules."
    );
}

#[test]
fn a_group_that_is_near_itself_starts_somewhere_and_stays_there() {
    let mut c = cluster(&[node("a", &[("zone", "1")], json!({})), node("b", &[("zone", "2")], json!({}))]);
    let together = near("podAffinity", "zone");
    let Decision::Bind(first) = place(&mut c, &pod("p1", together.clone()), &[]) else { panic!("nowhere") };
    for n in 2..6 {
        assert_eq!(place(&mut c, &pod(&format!("p{n}"), together.clone()), &[]), bind(&first));
    }
}

#[test]
fn namespaces_are_chosen_by_their_labels_both_ways() {
    let mut c = cluster(&[node("a", &[], json!({})), node("b", &[], json!({}))]);
    let labels: Labels = [("team".into(), "x".into())].into();
    c.put_namespace("d", &labels);
    c.put_namespace("e", &Labels::new());
    let away = |selector: Value| {
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}},
            "namespaceSelector": selector}]}}})
    };
    let in_namespace = |name: &str, namespace: &str, spec: Value| {
        let mut pod = pod(name, spec);
        pod.meta.namespace = namespace.into();
        pod
    };
    let team = away(json!({"matchLabels": {"team": "x"}}));
    let there = |name: &str, namespace: &str, node: &str, spec: Value| {
        Arc::new(Pod { node: node.into(), ..in_namespace(name, namespace, spec) })
    };
    let decide = |c: &Cluster, pod: Pod| schedule(&pod.resolved(c.namespaces()), c, &[], 0);
    c.put_pod(there("p1", "d", "a", json!({})));
    assert_eq!(
        decide(&c, in_namespace("p2", "e", team.clone())),
        bind("b"),
        "a pod of the chosen namespace is there"
    );
    c.put_pod(there("p3", "d", "b", json!({})));
    assert!(matches!(decide(&c, in_namespace("p2", "e", team.clone())), Decision::Unschedulable(_)));
    c.put_namespace("d", &Labels::new());
    assert!(
        matches!(decide(&c, in_namespace("p2", "e", team.clone())), Decision::Bind(_)),
        "no namespace is chosen"
    );
    // The other way round: who is there keeps pods of the chosen namespaces away.
    let mut c = cluster(&[node("a", &[], json!({}))]);
    c.put_namespace("d", &labels);
    c.put_pod(there("p4", "e", "a", team));
    assert!(matches!(decide(&c, in_namespace("p5", "d", json!({}))), Decision::Unschedulable(_)));
    assert_eq!(decide(&c, in_namespace("p6", "e", json!({}))), bind("a"));
}

#[test]
fn of_many_nodes_a_part_is_looked_at_and_others_each_time() {
    let nodes: Vec<Node> = (0..1000).map(|n| node(&format!("n{n:04}"), &[], json!({}))).collect();
    let c = cluster(&nodes);
    assert_eq!((enough(100), enough(1000), enough(5000), enough(20_000)), (100, 420, 500, 1000));
    let chosen = |turn: usize| schedule(&pod("p", json!({})), &c, &[], turn);
    let first = |n: usize| Decision::Bind(format!("n{n:04}"));
    assert_eq!((chosen(0), chosen(1)), (first(0), first(421)));
    let full = Node { unschedulable: true, ..node("n0999", &[], json!({})) };
    let mut almost =
        cluster(&nodes.iter().map(|n| Node { unschedulable: true, ..n.clone() }).collect::<Vec<_>>());
    assert!(
        why(schedule(&pod("p", json!({})), &almost, &[], 3)).starts_with("0/1000 nodes are available: 1000 ")
    );
    almost.put_node(Node { unschedulable: false, ..full });
    assert_eq!(
        schedule(&pod("p", json!({})), &almost, &[], 3),
        first(999),
        "all are looked at where few will do"
    );
}

#[test]
fn counting_goes_back_to_zero() {
    let mut c = cluster(&[node("a", &[], json!({}))]);
    for n in 0..5 {
        place(&mut c, &pod(&format!("p{n}"), cpu("100m")), &[]);
    }
    assert_eq!(c.nodes().next().unwrap().1.requested.get("cpu"), 500);
    for n in 0..5 {
        c.remove_pod(&format!("p{n}"));
    }
    assert_eq!(c.nodes().next().unwrap().1.requested.get("cpu"), 0);
    c.remove_node("a");
    assert_eq!(c.nodes().count(), 0);
}
