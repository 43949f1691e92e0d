use super::*;
use serde_json::json;

fn set(spec: &Value) -> Set {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "s", "generation": 2},
        "spec": {"replicas": 3, "podManagementPolicy": "OrderedReady", "serviceName": "peers",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "selector": {"matchLabels": {"app": "web"}}},
    });
    for (field, with) in spec.as_object().unwrap() {
        value["spec"][field] = with.clone();
    }
    serde_json::from_value(value).unwrap()
}

/// A pod of the set by its ordinal and what it is like: `r`eady, `p`ending, `b`roken (runs, not ready), `f`ailed,
/// `t`erminating; `n` behind that is one of the new revision.
fn pod(ordinal: i64, like: &str) -> Pod {
    let phase = if like.contains('p') {
        "Pending"
    } else if like.contains('f') {
        "Failed"
    } else {
        "Running"
    };
    let ready = if like.contains('r') { "True" } else { "False" };
    let revision = if like.contains('n') { "web-new" } else { "web-old" };
    let name = format!("web-{ordinal}");
    let mut value = json!({
        "metadata": {"name": name, "uid": format!("u{ordinal}"), "labels": {"app": "web",
            "statefulset.kubernetes.io/pod-name": name, "controller-revision-hash": revision}},
        "status": {"phase": phase, "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:59:50Z"}]},
    });
    if like.contains('t') {
        value["metadata"]["deletionTimestamp"] = "2026-01-01T01:00:00Z".into();
    }
    serde_json::from_value(value).unwrap()
}

fn pods(like: &[&str]) -> Vec<Pod> {
    like.iter().enumerate().map(|(n, like)| pod(n as i64, like)).collect()
}

fn version(name: &str, image: &str) -> Version {
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}});
    Version { name: name.into(), template }
}

fn decide_with(set: &Set, pods: &[Pod], claims: &HashMap<String, Claim>) -> Plan {
    plan(&Input {
        set,
        current: &version("web-old", "web:1"),
        update: &version("web-new", "web:2"),
        collisions: 0,
        pods,
        claims,
        now: "2026-01-01T01:00:00Z".parse().unwrap(),
    })
}

fn decide(set: &Set, pods: &[Pod]) -> Plan {
    decide_with(set, pods, &HashMap::new())
}

/// The plan in words: tasks of a phase side by side, phases one after the other.
fn shown(plan: &Plan) -> String {
    let word = |todo: &Todo| match todo {
        Todo::Claim { body, .. } => format!("claim {}", body["metadata"]["name"].as_str().unwrap()),
        Todo::Reown(change) => format!("own {}", change.claim),
        Todo::Create { pod, .. } => format!("+{pod}"),
        Todo::Identify { pod, .. } => format!("name {pod}"),
        Todo::Delete { pod } => format!("-{pod}"),
        Todo::Blocked { pod, .. } => format!("blocked {pod}"),
    };
    let phase = |tasks: &Vec<Vec<Todo>>| {
        let tasks = tasks.iter().map(|t| t.iter().map(word).collect::<Vec<_>>().join(", "));
        tasks.collect::<Vec<_>>().join(" | ")
    };
    plan.phases.iter().map(phase).collect::<Vec<_>>().join("; ")
}

#[test]
fn pods_are_made_one_after_the_other() {
    let ordered = set(&json!({}));
    for (like, todo) in [
        (&[][..], "+web-0"),
        (&["p"], ""),
        (&["b"], ""),
        (&["rn"], "+web-1"),
        (&["rn", "rn"], "+web-2"),
        (&["rn", "rnt"], ""),
        (&["rn", "fn", "rn"], "-web-1"),
        (&["rn", "rn", "rn"], ""),
    ] {
        assert_eq!(shown(&decide(&ordered, &pods(like))), todo, "{like:?}");
    }
    let hole = [pod(0, "rn"), pod(2, "rn")];
    assert_eq!(shown(&decide(&ordered, &hole)), "+web-1");
    let parallel = set(&json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(shown(&decide(&parallel, &pods(&["b"]))), "+web-1 | +web-2");
}

#[test]
fn a_pod_knows_who_it_is() {
    let set = set(&json!({"ordinals": {"start": 5}}));
    let plan = decide(&set, &[]);
    let Todo::Create { body, .. } = &plan.phases[0][0][0] else { panic!("no pod") };
    assert_eq!(body["metadata"]["name"], "web-5");
    assert_eq!(body["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "5");
    assert_eq!(body["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"], "web-5");
    assert_eq!(body["metadata"]["labels"]["controller-revision-hash"], "web-new");
    assert_eq!(body["spec"]["hostname"], "web-5");
    assert_eq!(body["spec"]["subdomain"], "peers");
    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "s");
    assert!(body["metadata"].get("generateName").is_none());
}

#[test]
fn the_last_goes_first() {
    let one = set(&json!({"replicas": 1}));
    for (like, todo) in [
        (&["rn", "rn", "rn"][..], "-web-2"),
        (&["rn", "rn", "rnt"], ""),
        // The first that is not well goes before those that are; nothing goes past it.
        (&["rn", "bn", "rn"], "-web-2"),
        (&["rn", "rn", "bn"], "-web-2"),
        (&["rn", "bn", "bn"], ""),
        (&["bn", "rn", "rn"], ""),
    ] {
        assert_eq!(shown(&decide(&one, &pods(like))), todo, "{like:?}");
    }
    let burst = set(&json!({"replicas": 1, "podManagementPolicy": "Parallel"}));
    assert_eq!(shown(&decide(&burst, &pods(&["bn", "bn", "rn", "rnt"]))), "-web-2 | -web-1");
}

#[test]
fn updates_replace_the_last_first() {
    let rolling = set(&json!({}));
    for (like, todo) in [
        (&["r", "r", "r"][..], "-web-2"),
        (&["r", "r", "rt"], ""),
        (&["r", "r", "bn"], ""),
        (&["r", "r", "rn"], "-web-1"),
        (&["r", "rn", "rn"], "-web-0"),
    ] {
        assert_eq!(shown(&decide(&rolling, &pods(like))), todo, "{like:?}");
    }
    let phased = |partition: i64| {
        set(&json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}}))
    };
    assert_eq!(shown(&decide(&phased(2), &pods(&["r", "r", "rn"]))), "");
    assert_eq!(shown(&decide(&phased(1), &pods(&["r", "r", "rn"]))), "-web-1");
    assert_eq!(shown(&decide(&phased(9), &pods(&["r", "r", "r"]))), "");
    // Below the partition a pod is made anew of the revision it had.
    let plan = decide(&phased(2), &[pod(1, "r"), pod(2, "rn")]);
    let Todo::Create { body, .. } = &plan.phases[0][0][0] else { panic!("no pod") };
    assert_eq!(body["metadata"]["labels"]["controller-revision-hash"], "web-old");
    assert_eq!(body["spec"]["containers"][0]["image"], "web:1");
    let by_hand = set(&json!({"updateStrategy": {"type": "OnDelete"}}));
    assert_eq!(shown(&decide(&by_hand, &pods(&["r", "r", "r"]))), "");
    let several = set(&json!({"updateStrategy":
        {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": "70%"}}}));
    assert_eq!(shown(&decide(&several, &pods(&["r", "r", "r"]))), "-web-2; -web-1");
    assert_eq!(decide(&several, &pods(&["r", "r", "r"])).status.current_replicas, 1);
    // Where pods come in no order, a broken one is replaced too.
    let parallel = set(&json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(shown(&decide(&parallel, &pods(&["r", "b", "b"]))), "-web-2");
}

#[test]
fn availability_takes_its_time() {
    let patient = set(&json!({"minReadySeconds": 30}));
    let plan = decide(&patient, &pods(&["rn"]));
    assert_eq!((shown(&plan).as_str(), plan.again), ("", Some(Duration::from_secs(20))));
    assert_eq!((plan.status.ready_replicas, plan.status.available_replicas), (1, 0));
    let soon = set(&json!({"minReadySeconds": 10}));
    assert_eq!(shown(&decide(&soon, &pods(&["rn"]))), "+web-1");
}

#[test]
fn the_status_counts() {
    let set = set(&json!({}));
    let status = decide(&set, &pods(&["r", "rt", "rn"])).status;
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (3, 3, 3));
    assert_eq!((status.current_replicas, status.updated_replicas), (1, 1));
    assert_eq!((&*status.current_revision, &*status.update_revision), ("web-old", "web-new"));
    let done = decide(&set, &pods(&["rn", "rn", "rn"])).status;
    assert_eq!((&*done.current_revision, done.current_replicas), ("web-new", 3));
    assert_eq!(done.value()["observedGeneration"], 2);
    let empty = decide(&set, &[]).status.value();
    assert_eq!(empty["replicas"], 0);
    assert!(empty.get("readyReplicas").is_none());
}

#[test]
fn a_set_that_goes_does_nothing() {
    let mut going = set(&json!({}));
    going.metadata.meta.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
    assert_eq!(shown(&decide(&going, &pods(&["f"]))), "");
}

#[test]
fn claims_come_before_their_pods() {
    let template =
        json!({"metadata": {"name": "data", "labels": {"tier": "x"}}, "spec": {"volumeMode": "Block"}});
    let kept = set(&json!({"volumeClaimTemplates": [template], "replicas": 2,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"}}));
    let plan = decide(&kept, &[]);
    assert_eq!(shown(&plan), "claim data-web-0, +web-0");
    let Todo::Claim { body, .. } = &plan.phases[0][0][0] else { panic!("no claim") };
    assert_eq!(body["metadata"]["labels"], json!({"app": "web", "tier": "x"}));
    assert_eq!(body["metadata"]["ownerReferences"][0]["kind"], "StatefulSet");
    assert_eq!(body["spec"]["volumeMode"], "Block");
    let Todo::Create { body, .. } = &plan.phases[0][0][1] else { panic!("no pod") };
    assert_eq!(
        body["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}])
    );
    let claim =
        |deleting: bool| HashMap::from([("data-web-0".to_owned(), Claim { owners: vec![], deleting })]);
    assert_eq!(shown(&decide_with(&kept, &[], &claim(false))), "own data-web-0, +web-0");
    assert_eq!(shown(&decide_with(&kept, &[], &claim(true))), "blocked web-0");
    // A pending pod whose claim was lost gets another.
    assert_eq!(shown(&decide(&kept, &pods(&["pn"]))), "claim data-web-0");
    // Before a pod is scaled away it gets its claim.
    let gone = HashMap::from([("data-web-2".to_owned(), Claim::default())]);
    let plan = decide_with(&kept, &pods(&["rn", "rn", "rn"]), &gone);
    assert_eq!(shown(&plan), "own data-web-2; -web-2");
}

#[test]
fn a_lost_label_is_put_back() {
    let set = set(&json!({}));
    let mut all = pods(&["rn", "rn", "rn"]);
    all[1].metadata.meta.labels.remove(NAME_LABEL);
    assert_eq!(shown(&decide(&set, &all)), "name web-1");
}

#[test]
fn names_are_parsed() {
    assert_eq!(parse_name("web-10"), Some(("web", 10)));
    assert_eq!(parse_name("a-b-0"), Some(("a-b", 0)));
    for name in ["web", "web-", "web-x", "web-99999999999"] {
        assert_eq!(parse_name(name), None, "{name}");
    }
}
