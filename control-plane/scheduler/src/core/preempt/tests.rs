use super::*;
use crate::core::{Decision, schedule};
use serde_json::json;
use skep_api::Meta;

const RESOURCE: &str = "example.com/fakecpu";

fn node(name: &str, amount: i64) -> Node {
    let tree = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": "z"}},
        "status": {"allocatable": {"pods": "110", RESOURCE: amount.to_string()}},
    });
    Node::read(&Object::from_value(tree, 1, &[]).unwrap()).unwrap()
}

fn pod(name: &str, priority: i64, amount: i64) -> Pod {
    let meta = Meta {
        name: name.into(),
        namespace: "d".into(),
        uid: name.into(),
        labels: [("app".into(), name.into())].into(),
        ..Meta::default()
    };
    let spec = json!({"priority": priority, "containers": [{"resources": {"requests": {RESOURCE: amount.to_string()}}}]});
    Pod::from_tree(meta, &json!({"spec": spec}))
}

fn on(node: &str, pod: Pod) -> Arc<Pod> {
    Arc::new(Pod { node: node.into(), ..pod })
}

fn started(at: i64, pod: Pod) -> Pod {
    Pod { started: Some(at), ..pod }
}

fn cluster(nodes: &[Node], pods: &[Arc<Pod>]) -> Cluster {
    let mut cluster = Cluster::default();
    nodes.iter().cloned().for_each(|n| cluster.put_node(n));
    pods.iter().cloned().for_each(|p| cluster.put_pod(p));
    cluster
}

fn failure(pod: &Pod, cluster: &Cluster) -> Failure {
    match schedule(pod, cluster, &[], 0) {
        Decision::Unschedulable(failure) => failure,
        Decision::Bind(node) => panic!("bound to {node}"),
    }
}

fn tried(pod: &Pod, cluster: &Cluster, budgets: &[Budget]) -> Outcome {
    preempt(pod, cluster, &failure(pod, cluster), budgets, 0)
}

/// The node and its victims.
fn evicted(outcome: Outcome) -> (String, Vec<String>) {
    match outcome {
        Outcome::Evict { node, victims } => (node, victims.iter().map(|v| v.meta.name.to_string()).collect()),
        other => panic!("{other:?}"),
    }
}

fn went(node: &str, victims: &[&str]) -> (String, Vec<String>) {
    (node.into(), victims.iter().map(|v| (*v).to_owned()).collect())
}

fn budget(app: &str, allowed: i64) -> Budget {
    Budget {
        namespace: "d".into(),
        selector: LabelSelector::parse(&format!("app={app}")).unwrap(),
        allowed,
        going: BTreeSet::new(),
    }
}

#[test]
fn only_as_many_leave_as_must_and_the_most_important_stay() {
    let pods = [("p1", 1, 200), ("p2", 2, 300), ("p3", 3, 450)].map(|(n, p, a)| on("a", pod(n, p, a)));
    let c = cluster(&[node("a", 1000)], &pods);
    assert_eq!(evicted(tried(&pod("p4", 4, 500), &c, &[])), went("a", &["p2", "p1"]));
    assert_eq!(evicted(tried(&pod("p4", 4, 100), &c, &[])), went("a", &["p1"]));
}

#[test]
fn of_one_priority_those_that_run_for_longer_stay() {
    let pods = [("old", 10), ("new", 30), ("middle", 20)].map(|(n, at)| on("a", started(at, pod(n, 1, 2))));
    let waiting = on("a", pod("unstarted", 1, 2));
    let c = cluster(&[node("a", 8)], &[pods.as_slice(), &[waiting]].concat());
    assert_eq!(evicted(tried(&pod("p", 5, 4), &c, &[])), went("a", &["new", "unstarted"]));
}

#[test]
fn nobody_of_the_same_priority_leaves_and_the_message_says_so() {
    let c = cluster(&[node("a", 2), node("b", 1)], &[on("a", pod("p1", 5, 2))]);
    let p = pod("p", 5, 2);
    let outcome = tried(&p, &c, &[]);
    assert_eq!(
        outcome.message(&failure(&p, &c)),
        "0/2 nodes are available: 2 Insufficient example.com/fakecpu. no new claims to deallocate, preemption: \
         0/2 nodes are available: 1 No preemption victims found for incoming pod, \
         1 Preemption is not helpful for scheduling."
    );
    assert!(matches!(outcome, Outcome::Useless(_)));
}

#[test]
fn a_pod_that_is_never_to_preempt_does_not() {
    let c = cluster(&[node("a", 2)], &[on("a", pod("p1", 1, 2))]);
    let p = Pod { preempts: false, ..pod("p", 5, 2) };
    let outcome = tried(&p, &c, &[]);
    assert_eq!(
        outcome.message(&failure(&p, &c)),
        "0/1 nodes are available: 1 Insufficient example.com/fakecpu. no new claims to deallocate, preemption: \
         not eligible due to preemptionPolicy=Never."
    );
}

#[test]
fn budgets_are_kept_where_that_is_possible_and_broken_where_not() {
    let pods = [on("a", pod("p1", 1, 2)), on("b", pod("p2", 2, 2))];
    let c = cluster(&[node("a", 2), node("b", 2)], &pods);
    let p = pod("p", 5, 2);
    assert_eq!(evicted(tried(&p, &c, &[])), went("a", &["p1"]), "the lower priority leaves");
    assert_eq!(evicted(tried(&p, &c, &[budget("p1", 0)])), went("b", &["p2"]), "a budget weighs more");
    assert_eq!(evicted(tried(&p, &c, &[budget("p1", 1)])), went("a", &["p1"]), "one may go");
    assert_eq!(evicted(tried(&p, &c, &[budget("p1", 0), budget("p2", 0)])), went("a", &["p1"]));
    let going = Budget { going: ["p1".to_owned()].into(), ..budget("p1", 0) };
    assert_eq!(evicted(tried(&p, &c, &[going])), went("a", &["p1"]), "it goes in any case");
    // On one node those without a budget leave before those with one, whatever their priority.
    let c = cluster(&[node("a", 4)], &[on("a", pod("p1", 1, 2)), on("a", pod("p2", 2, 2))]);
    assert_eq!(evicted(tried(&p, &c, &[budget("p1", 0)])), went("a", &["p2"]));
}

#[test]
fn the_node_is_chosen_by_upstreams_criteria_in_their_order() {
    let p = pod("p", 9, 4);
    let two = |pods: &[(&str, &str, i64, i64, i64)]| {
        let pods: Vec<Arc<Pod>> = pods
            .iter()
            .map(|(at, name, pr, amount, t)| on(at, started(*t, pod(name, *pr, *amount))))
            .collect();
        evicted(tried(&p, &cluster(&[node("a", 4), node("b", 4)], &pods), &[])).0
    };
    assert_eq!(
        two(&[("a", "x", 3, 4, 1), ("b", "y", 2, 2, 1), ("b", "z", 2, 2, 1)]),
        "b",
        "lowest highest priority"
    );
    assert_eq!(
        two(&[("a", "x", 3, 2, 1), ("a", "w", 2, 2, 1), ("b", "y", 3, 2, 1), ("b", "z", 1, 2, 1)]),
        "b",
        "sum"
    );
    assert_eq!(two(&[("a", "x", 3, 2, 1), ("a", "w", -5, 2, 1), ("b", "y", 3, 4, 1)]), "b", "fewest pods");
    assert_eq!(two(&[("a", "x", 3, 4, 10), ("b", "y", 3, 4, 20)]), "b", "latest start");
    assert_eq!(two(&[("a", "x", 3, 4, 10), ("b", "y", 3, 4, 10)]), "a", "the first");
}

#[test]
fn room_that_was_made_is_kept_for_the_pod() {
    let mut c = cluster(&[node("a", 4)], &[]);
    c.nominate(Arc::new(pod("high", 5, 3)), "a");
    assert_eq!(
        failure(&pod("low", 1, 2), &c).message(),
        "0/1 nodes are available: 1 Insufficient example.com/fakecpu."
    );
    assert_eq!(schedule(&pod("low", 1, 1), &c, &[], 0), Decision::Bind("a".into()));
    assert_eq!(
        schedule(&pod("higher", 6, 2), &c, &[], 0),
        Decision::Bind("a".into()),
        "a higher one takes it"
    );
    assert_eq!(schedule(&pod("high", 5, 3), &c, &[], 0), Decision::Bind("a".into()), "its own");
    c.forget_nomination("high");
    assert_eq!(schedule(&pod("low", 1, 2), &c, &[], 0), Decision::Bind("a".into()));
}

#[test]
fn a_pod_goes_where_room_was_made_though_another_node_is_better() {
    let mut c = cluster(&[node("a", 9), node("b", 9)], &[on("b", pod("x", 1, 1))]);
    let p = pod("p", 5, 2);
    c.nominate(Arc::new(p.clone()), "b");
    for turn in 0..4 {
        assert_eq!(schedule(&p, &c, &[], turn), Decision::Bind("b".into()));
    }
    c.remove_node("b");
    assert_eq!(schedule(&p, &c, &[], 0), Decision::Bind("a".into()));
}

#[test]
fn while_its_victims_go_a_pod_sends_nobody_else_away() {
    let mut victim = Pod { preempted: true, ..pod("v", 1, 4) };
    victim.meta.deletion_timestamp = Some("2026-05-01T12:00:00Z".into());
    let mut c = cluster(&[node("a", 4), node("b", 4)], &[on("a", victim), on("b", pod("x", 2, 4))]);
    let p = pod("p", 5, 4);
    c.nominate(Arc::new(p.clone()), "a");
    let why = "not eligible due to a terminating pod on the nominated node.";
    assert!(matches!(tried(&p, &c, &[]), Outcome::Ineligible(said) if said == why));
    // Where the node is of no use any more it looks again.
    let cordoned = Node { unschedulable: true, ..node("a", 4) };
    c.put_node(cordoned);
    assert_eq!(evicted(tried(&p, &c, &[])), went("b", &["x"]));
}

#[test]
fn pods_that_keep_others_away_leave_too() {
    let near = |kind: &str| {
        json!({"priority": 5, "affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}]}}})
    };
    let meta = Meta { name: "p".into(), namespace: "d".into(), uid: "p".into(), ..Meta::default() };
    let alone = Pod::from_tree(meta.clone(), &json!({"spec": near("podAntiAffinity")}));
    let c = cluster(&[node("a", 4)], &[on("a", pod("x", 1, 1)), on("a", pod("y", 1, 1))]);
    assert_eq!(evicted(tried(&alone, &c, &[])), went("a", &["x"]));
    // The pod that it must not be near runs on another node of the zone, which preemption does not look at.
    let c = cluster(&[node("a", 4), node("b", 4)], &[on("a", pod("x", 1, 1)), on("b", pod("y", 1, 1))]);
    assert_eq!(evicted(tried(&alone, &c, &[])), went("a", &["x"]));
    let together = Pod::from_tree(meta, &json!({"spec": near("podAffinity")}));
    let c = cluster(&[node("a", 4)], &[on("a", pod("y", 1, 1))]);
    assert!(matches!(tried(&together, &c, &[]), Outcome::Useless(_)), "no leaving pod brings company");
}

#[test]
fn a_claim_for_one_pod_alone_is_given_up_by_the_lesser() {
    let using = |name: &str, priority: i64| Pod { claims: vec!["c".into()], ..pod(name, priority, 1) };
    let c = cluster(&[node("a", 4), node("b", 4)], &[on("a", using("x", 2)), on("a", pod("y", 1, 1))]);
    let alone = |priority: i64| Pod { exclusive: vec!["c".into()], ..using("p", priority) };
    let why = "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and \
               ReadWriteOncePod access mode.";
    assert_eq!(failure(&alone(1), &c).message(), why);
    assert_eq!(evicted(tried(&alone(5), &c, &[])), went("a", &["x"]));
    assert!(matches!(tried(&alone(2), &c, &[]), Outcome::Useless(_)));
    assert!(matches!(schedule(&using("p", 1), &c, &[], 0), Decision::Bind(_)), "others share it");
}

#[test]
fn an_uneven_spread_is_mended_by_leaving() {
    let spec = json!({"priority": 5, "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}]});
    let meta = Meta {
        name: "p".into(),
        namespace: "d".into(),
        uid: "p".into(),
        labels: [("app".into(), "p".into())].into(),
        ..Meta::default()
    };
    let spread = Pod::from_tree(meta, &json!({"spec": spec}));
    let full = Node { unschedulable: true, ..node("b", 4) };
    let c = cluster(&[node("a", 4), full], &[on("a", pod("x", 1, 1)), on("a", pod("y", 2, 1))]);
    assert_eq!(evicted(tried(&spread, &c, &[])), went("a", &["y", "x"]));
}
