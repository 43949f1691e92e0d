use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn budget(spec: &Value, status: Value) -> Budget {
    serde_json::from_value(
        json!({"metadata": {"name": "pdb", "generation": 4}, "spec": spec, "status": status}),
    )
    .unwrap()
}

fn pod(name: &str, ready: bool, deleting: bool) -> Pod {
    let mut value = json!({"metadata": {"name": name}, "status": {"phase": "Running", "conditions": [
        {"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
    if deleting {
        value["metadata"]["deletionTimestamp"] = NOW.into();
    }
    serde_json::from_value(value).unwrap()
}

fn decide(budget: &Budget, pods: &[Pod], scale: i64) -> Plan {
    let scales = Scales::from([("rs".to_owned(), scale)]);
    plan(&Input { budget, pods, scales: &scales, now: NOW.parse().unwrap() })
}

fn numbers(plan: &Plan) -> [i64; 4] {
    ["expectedPods", "currentHealthy", "desiredHealthy", "disruptionsAllowed"]
        .map(|field| plan.status[field].as_i64().unwrap())
}

#[test]
fn what_is_allowed_follows_from_what_must_be() {
    let three = [pod("a", true, false), pod("b", true, false), pod("c", true, false)];
    let mixed = [pod("a", true, false), pod("b", false, false), pod("c", true, true)];
    for (spec, pods, scale, want) in [
        (json!({"minAvailable": 2}), &three, 9, [3, 3, 2, 1]),
        (json!({"minAvailable": 2}), &mixed, 9, [3, 1, 2, 0]),
        (json!({"minAvailable": "50%"}), &three, 5, [5, 3, 3, 0]),
        (json!({"minAvailable": "50%"}), &three, 3, [3, 3, 2, 1]),
        (json!({"maxUnavailable": 1}), &three, 3, [3, 3, 2, 1]),
        (json!({"maxUnavailable": "30%"}), &three, 4, [4, 3, 2, 1]),
        (json!({"maxUnavailable": 5}), &three, 3, [3, 3, 0, 3]),
        (json!({}), &three, 3, [0, 3, 0, 0]),
    ] {
        let plan = decide(&budget(&spec, json!({})), pods, scale);
        assert_eq!(numbers(&plan), want, "{spec}");
    }
    let none = decide(&budget(&json!({"minAvailable": 0}), json!({})), &[], 0);
    assert_eq!(numbers(&none), [0, 0, 0, 0]);
    assert_eq!(none.status["conditions"][0]["reason"], "InsufficientPods");
    assert_eq!(none.status["observedGeneration"], 4);
}

#[test]
fn charged_evictions_count_until_they_are_given_up() {
    let pods = [pod("a", true, false), pod("b", true, false), pod("c", true, false)];
    let status =
        json!({"disruptedPods": {"a": "2026-01-01T00:59:00Z", "b": "2026-01-01T00:50:00Z", "gone": NOW}});
    let plan = decide(&budget(&json!({"minAvailable": 1}), status), &pods, 3);
    assert_eq!(numbers(&plan), [3, 2, 1, 1]);
    assert_eq!(plan.status["disruptedPods"], json!({"a": "2026-01-01T00:59:00Z"}));
    assert_eq!((plan.kept.as_slice(), plan.again), (&["b".to_owned()][..], Some(Duration::from_secs(60))));
    assert_eq!(plan.status["conditions"][0]["status"], "True");
}

#[test]
fn the_same_status_is_decided_again() {
    let pods = [pod("a", true, false)];
    let spec = json!({"minAvailable": 0});
    let first = decide(&budget(&spec, json!({})), &pods, 0).status;
    let mut later = budget(&spec, first.clone());
    later.status["conditions"][0]["lastTransitionTime"] = "2026-01-01T00:30:00Z".into();
    let want = later.status.clone();
    assert_eq!(decide(&later, &pods, 0).status, want);
}

#[test]
fn marks_get_old() {
    let marked = |reason: &str| {
        let mut pod = pod("a", true, false);
        pod.status.conditions.push(
            serde_json::from_value(json!({"type": "DisruptionTarget", "status": "True", "reason": reason,
                "lastTransitionTime": "2026-01-01T00:59:00Z"}))
            .unwrap(),
        );
        pod
    };
    let now = NOW.parse().unwrap();
    assert_eq!(stale_mark(&marked("EvictionByEvictionAPI"), now), Some(Duration::from_secs(60)));
    let later = "2026-01-01T02:00:00Z".parse().unwrap();
    assert_eq!(stale_mark(&marked("EvictionByEvictionAPI"), later), Some(Duration::ZERO));
    assert_eq!(stale_mark(&marked("TerminationByKubelet"), now), None);
    assert_eq!(stale_mark(&pod("b", true, false), now), None);
}
