use super::*;
use serde_json::json;

const NOW: &str = "2026-01-01T01:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn deployment(replicas: i64, image: &str, strategy: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "u", "generation": 1},
        "spec": {
            "replicas": replicas, "revisionHistoryLimit": 2, "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    }))
    .unwrap()
}

fn rolling(surge: &str, unavailable: &str) -> Value {
    let value = |text: &str| text.parse::<i64>().map_or_else(|_| json!(text), |n| json!(n));
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": value(surge), "maxUnavailable": value(unavailable)}})
}

/// Does what the plan says to sets in memory, as the shell does through the API.
fn apply(deployment: &mut Deployment, sets: &mut Vec<ReplicaSet>, plan: &Plan) {
    if let Some(set) = &plan.create {
        let mut set: ReplicaSet = serde_json::from_value(set.clone()).unwrap();
        set.metadata.creation_timestamp = Some(Timestamp::from_second(1_000 + sets.len() as i64).unwrap());
        set.metadata.meta.uid = set.name().into();
        sets.push(set);
    }
    if let Some((name, annotations, _)) = &plan.annotate {
        let set = sets.iter_mut().find(|s| s.name() == name).unwrap();
        set.metadata.annotations = Some(annotations.clone());
    }
    for step in &plan.scale {
        let set = sets.iter_mut().find(|s| s.name() == step.name).unwrap();
        assert_eq!(set.replicas(), step.from);
        set.spec.replicas = Some(step.to);
        let annotations = set.metadata.annotations.get_or_insert_default();
        annotations.insert(DESIRED.into(), plan.sizes.0.to_string());
        annotations.insert(MAX.into(), plan.sizes.1.to_string());
    }
    sets.retain(|s| !plan.delete.contains(&s.name().to_owned()));
    deployment.status = plan.status.clone();
    if let Some(revision) = &plan.revision {
        deployment.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision.clone());
    }
}

/// One pod that should be there becomes available, or one too many goes: what a ReplicaSet controller and
/// nodes do, as slowly as can be. Answers whether anything moved.
fn one_pod_moves(sets: &mut [ReplicaSet]) -> bool {
    for set in sets {
        let want = set.replicas();
        let status = &mut set.status;
        status.replicas = want;
        if status.available_replicas > want {
            status.available_replicas = want;
            return true;
        }
        if status.available_replicas < want {
            status.available_replicas += 1;
            status.ready_replicas = status.available_replicas;
            return true;
        }
    }
    false
}

/// Rolls on until nothing moves, checking after each step what a rollout promises.
fn settle(deployment: &mut Deployment, sets: &mut Vec<ReplicaSet>, check: bool) {
    let (surge, unavailable) = deployment.fences();
    for _ in 0..500 {
        let plan =
            plan(deployment, sets, sets.iter().any(|s| s.status.replicas > 0 && s.replicas() == 0), now());
        let still = plan.create.is_none() && plan.scale.is_empty() && plan.annotate.is_none();
        apply(deployment, sets, &plan);
        if check {
            let asked: i64 = sets.iter().map(ReplicaSet::replicas).sum();
            assert!(asked <= deployment.replicas() + surge, "{asked} pods asked for");
            let kept: i64 = sets.iter().map(|s| s.status.available_replicas.min(s.replicas())).sum();
            assert!(kept >= deployment.replicas() - unavailable, "{kept} pods kept available");
        }
        if !one_pod_moves(sets) && still {
            return;
        }
    }
    panic!("the rollout does not come to rest");
}

fn progressing(deployment: &Deployment) -> &str {
    let conditions = deployment.status["conditions"].as_array().unwrap();
    conditions.iter().find(|c| c["type"] == "Progressing").unwrap()["reason"].as_str().unwrap()
}

#[test]
fn a_new_deployment_gets_its_set() {
    let mut d = deployment(3, "a", rolling("25%", "25%"));
    let mut sets = Vec::new();
    settle(&mut d, &mut sets, false);
    assert_eq!(sets.len(), 1);
    assert_eq!(sets[0].replicas(), 3);
    assert!(sets[0].metadata.meta.labels.contains_key("pod-template-hash"));
    assert_eq!(d.metadata.annotation(REVISION), Some("1"));
    assert_eq!(d.status["availableReplicas"], 3);
    assert_eq!(progressing(&d), "NewReplicaSetAvailable");
}

#[test]
fn every_rolling_update_stays_within_its_fences() {
    for replicas in [1, 2, 3, 7, 20] {
        for (surge, unavailable) in
            [("25%", "25%"), ("0%", "10%"), ("100%", "0%"), ("50%", "50%"), ("0%", "0%")]
        {
            let mut d = deployment(replicas, "a", rolling(surge, unavailable));
            let mut sets = Vec::new();
            settle(&mut d, &mut sets, false);
            for image in ["b", "c"] {
                d.spec.template["spec"]["containers"][0]["image"] = image.into();
                d.metadata.meta.generation += 1;
                settle(&mut d, &mut sets, true);
                let (new, old) = split(&d, &sets);
                assert_eq!(new.unwrap().replicas(), replicas, "{replicas} {surge} {unavailable}");
                assert!(old.iter().all(|s| s.replicas() == 0));
            }
            assert_eq!(d.metadata.annotation(REVISION), Some("3"));
        }
    }
}

#[test]
fn going_back_reuses_the_set_and_counts_on() {
    let mut d = deployment(2, "a", rolling("1", "0"));
    let mut sets = Vec::new();
    for image in ["a", "b", "a"] {
        d.spec.template["spec"]["containers"][0]["image"] = image.into();
        settle(&mut d, &mut sets, false);
    }
    assert_eq!(sets.len(), 2);
    let (new, _) = split(&d, &sets);
    assert_eq!(new.unwrap().revision(), 3);
    assert_eq!(new.unwrap().metadata.annotation("deployment.kubernetes.io/revision-history"), Some("1"));
}

#[test]
fn history_keeps_as_many_sets_as_asked() {
    let mut d = deployment(1, "0", rolling("1", "0"));
    let mut sets = Vec::new();
    for image in ["0", "1", "2", "3", "4", "5"] {
        d.spec.template["spec"]["containers"][0]["image"] = image.into();
        settle(&mut d, &mut sets, false);
        settle(&mut d, &mut sets, false);
    }
    let mut revisions: Vec<i64> = sets.iter().map(ReplicaSet::revision).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [4, 5, 6]);
}

#[test]
fn a_recreate_waits_for_the_old_pods() {
    let mut d = deployment(3, "a", json!({"type": "Recreate"}));
    let mut sets = Vec::new();
    settle(&mut d, &mut sets, false);
    d.spec.template["spec"]["containers"][0]["image"] = "b".into();
    let first = plan(&d, &sets, true, now());
    assert!(first.create.is_none());
    assert_eq!(first.scale[0].to, 0);
    apply(&mut d, &mut sets, &first);
    assert!(plan(&d, &sets, true, now()).create.is_none());
    settle(&mut d, &mut sets, false);
    assert_eq!(split(&d, &sets).0.unwrap().replicas(), 3);
}

#[test]
fn scaling_during_a_rollout_is_proportional() {
    let mut d = deployment(10, "a", rolling("3", "2"));
    let mut sets = Vec::new();
    settle(&mut d, &mut sets, false);
    d.spec.template["spec"]["containers"][0]["image"] = "b".into();
    for _ in 0..2 {
        let step = plan(&d, &sets, false, now());
        apply(&mut d, &mut sets, &step);
    }
    let before: Vec<i64> = sets.iter().map(ReplicaSet::replicas).collect();
    d.spec.replicas = Some(30);
    let step = plan(&d, &sets, false, now());
    apply(&mut d, &mut sets, &step);
    let after: Vec<i64> = sets.iter().map(ReplicaSet::replicas).collect();
    let (surge, _) = d.fences();
    assert_eq!(after.iter().sum::<i64>(), 30 + surge, "{before:?} {after:?}");
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
    settle(&mut d, &mut sets, false);
    assert_eq!(split(&d, &sets).0.unwrap().replicas(), 30);
}

#[test]
fn a_paused_rollout_scales_but_does_not_roll() {
    let mut d = deployment(4, "a", rolling("1", "0"));
    let mut sets = Vec::new();
    settle(&mut d, &mut sets, false);
    d.spec.paused = true;
    d.spec.template["spec"]["containers"][0]["image"] = "b".into();
    d.spec.replicas = Some(6);
    settle(&mut d, &mut sets, false);
    assert_eq!(sets.len(), 1);
    assert_eq!(sets[0].replicas(), 6);
    assert_eq!(progressing(&d), "DeploymentPaused");
    d.spec.paused = false;
    settle(&mut d, &mut sets, true);
    assert_eq!(sets.len(), 2);
    assert_eq!(progressing(&d), "NewReplicaSetAvailable");
}

#[test]
fn a_rollout_without_progress_runs_out_of_time() {
    let mut d = deployment(1, "a", rolling("1", "0"));
    let mut sets = Vec::new();
    let first = plan(&d, &sets, false, now());
    assert_eq!(first.again, Some(Duration::from_secs(601)));
    apply(&mut d, &mut sets, &first);
    let later = now() + jiff::SignedDuration::from_secs(602);
    let second = plan(&d, &sets, false, later);
    apply(&mut d, &mut sets, &second);
    assert_eq!(progressing(&d), "ProgressDeadlineExceeded");
    assert_eq!(second.again, None);
}
