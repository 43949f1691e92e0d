//! Deployments and ReplicaSets.

use super::*;
use crate::kinds::testing::{complete, now, shown};
use serde_json::json;

pub(super) fn workload(kind: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": "web", "namespace": "d", "creationTimestamp": "2026-05-01T11:58:00Z"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "web:1"}, {"name": "s", "image": "side"}]},
            },
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    complete(object)
}

#[test]
fn defaults() {
    let object = workload("Deployment", json!({}));
    assert_eq!(object["spec"]["replicas"], 1);
    assert_eq!(
        object["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    assert_eq!(object["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(object["spec"]["progressDeadlineSeconds"], 600);
    let template = &object["spec"]["template"]["spec"];
    assert_eq!(template["restartPolicy"], "Always");
    assert_eq!(template["containers"][1]["imagePullPolicy"], "Always");
    assert!(template.get("enableServiceLinks").is_none(), "only a Pod gets it");
    let recreate = workload("Deployment", json!({"strategy": {"type": "Recreate"}}));
    assert!(recreate["spec"]["strategy"].get("rollingUpdate").is_none());
    for object in [object, recreate] {
        assert_eq!(shown(&Deployment.validate(&object)), "");
    }
    let set = workload("ReplicaSet", json!({}));
    assert_eq!(set["spec"]["replicas"], 1);
    assert_eq!(shown(&ReplicaSet.validate(&set)), "");
}

#[test]
fn what_is_wrong() {
    for (spec, wrong) in [
        (json!({"replicas": -1}), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (json!({"selector": null}), "spec.selector: Required value"),
        (
            json!({"selector": {}}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            json!({"selector": {"matchLabels": {"app": "api"}}}),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
        ),
        (json!({"minReadySeconds": -1}), "spec.minReadySeconds: Invalid value: -1"),
        (
            json!({"minReadySeconds": 600}),
            "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
        ),
        (
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            json!({"strategy": {"type": "Magic"}}),
            "spec.strategy: Unsupported value: {\"type\":\"Magic\"}: supported values: \"Recreate\", \"RollingUpdate\"",
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxUnavailable": "101%"}}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxSurge": "x"}}}),
            "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent",
        ),
        (
            json!({"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}}),
            "spec.template.spec.containers: Required value",
        ),
        (
            json!({"template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "restartPolicy": "Never", "activeDeadlineSeconds": 5, "containers": [{"name": "c", "image": "a"}]}}}),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"; \
             spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
        ),
        (
            json!({"template": {"metadata": {"labels": {"app": "web", "a b": ""}}, "spec": {"containers": [{"name": "c", "image": "a"}]}}}),
            "spec.template.labels: Invalid value: \"a b\"",
        ),
    ] {
        let text = shown(&Deployment.validate(&workload("Deployment", spec.clone())));
        assert!(text.starts_with(wrong), "{spec}\n is {text}\nnot {wrong}");
    }
    let text = shown(&ReplicaSet.validate(&workload("ReplicaSet", json!({"replicas": -1}))));
    assert!(text.starts_with("spec.replicas: Invalid value: -1"));
}

#[test]
fn changes() {
    let old = workload("Deployment", json!({}));
    let other = json!({"selector": {"matchLabels": {"app": "web", "b": "c"}}});
    for (kind, text) in [
        ("Deployment", shown(&Deployment.validate_update(&workload("Deployment", other.clone()), &old))),
        (
            "ReplicaSet",
            shown(
                &ReplicaSet
                    .validate_update(&workload("ReplicaSet", other), &workload("ReplicaSet", json!({}))),
            ),
        ),
    ] {
        assert!(text.starts_with("spec.selector: Invalid value: "), "{kind}: {text}");
        assert!(text.ends_with("field is immutable"), "{kind}: {text}");
    }
    let mut new = old.clone();
    assert!(!Deployment.generation_changes(&new, &old));
    new["status"] = json!({"replicas": 1});
    new["metadata"]["labels"] = json!({"x": "y"});
    assert!(!Deployment.generation_changes(&new, &old));
    new["metadata"]["annotations"] = json!({"x": "y"});
    assert!(Deployment.generation_changes(&new, &old));
    assert!(!ReplicaSet.generation_changes(&new, &old));
    new["spec"]["replicas"] = 2.into();
    assert!(ReplicaSet.generation_changes(&new, &old));
    Deployment.prepare_status_update(&mut new, &old);
    assert_eq!(new["spec"], old["spec"]);
    assert!(new["metadata"].get("labels").is_none());
    for (status, wrong) in [
        (json!({"replicas": 2, "readyReplicas": 2, "availableReplicas": 1}), ""),
        (json!({"replicas": -1}), "status.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            json!({"replicas": 1, "readyReplicas": 2}),
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
        ),
        (
            json!({"replicas": 2, "availableReplicas": 1}),
            "status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas",
        ),
    ] {
        new["status"] = status;
        for text in [
            shown(&Deployment.validate_status_update(&new, &old)),
            shown(&ReplicaSet.validate_status_update(&new, &old)),
        ] {
            assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{text}");
        }
    }
}

#[test]
fn cells() {
    let mut object = workload("Deployment", json!({"replicas": 5}));
    object["status"] =
        json!({"replicas": 4, "updatedReplicas": 3, "readyReplicas": 2, "availableReplicas": 1});
    assert_eq!(
        Deployment.cells(&object, now()),
        [
            json!("web"),
            json!("2/5"),
            json!(3),
            json!(1),
            json!("2m"),
            json!("c,s"),
            json!("web:1,side"),
            json!("app=web")
        ]
    );
    assert_eq!(
        ReplicaSet.cells(&object, now()),
        [
            json!("web"),
            json!(5),
            json!(4),
            json!(2),
            json!("2m"),
            json!("c,s"),
            json!("web:1,side"),
            json!("app=web")
        ]
    );
    assert_eq!(Deployment.columns().len(), 8);
    assert_eq!(ReplicaSet.columns().len(), 8);
    let revision = json!({"metadata": {"name": "r", "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "controller": true}]}, "revision": 3, "data": {}});
    assert_eq!(ControllerRevision.cells(&revision, now())[1..3], [json!("statefulset.apps/db"), json!(3)]);
    assert_eq!(ControllerRevision.validate_create(&revision), []);
    assert!(
        shown(&ControllerRevision.validate_create(&json!({})))
            .starts_with("data: Required value: data is mandatory")
    );
    let mut other = revision.clone();
    other["data"] = json!({"a": 1});
    assert!(shown(&ControllerRevision.validate_update(&other, &revision)).ends_with("field is immutable"));
}
