//! Jobs.

use super::*;
use crate::kinds::testing::{complete, context, now, shown};
use crate::resource::Strategy;
use serde_json::{Value, json};

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(a), Value::Object(b)) => {
            b.iter().for_each(|(k, v)| merge(a.entry(k.clone()).or_insert(Value::Null), v));
        }
        (a, b) => *a = b.clone(),
    }
}

/// A new Job as it is about to be validated.
fn job(spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "pi", "namespace": "d", "uid": "u-1", "creationTimestamp": "2026-05-01T11:58:00Z"},
        "spec": {"template": {
            "metadata": {"labels": {"app": "pi"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "pi:1"}]},
        }},
    });
    merge(&mut object["spec"], spec);
    let mut object = complete(object);
    Job.prepare_create(&mut object, &context());
    object
}

#[test]
fn defaults_and_selector() {
    let object = job(&json!({}));
    let spec = &object["spec"];
    for (field, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ("manualSelector", json!(false)),
        ("selector", json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}})),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    assert_eq!(
        spec["template"]["metadata"]["labels"],
        json!({
            "app": "pi", "job-name": "pi", "batch.kubernetes.io/job-name": "pi",
            "controller-uid": "u-1", "batch.kubernetes.io/controller-uid": "u-1",
        })
    );
    assert_eq!(
        object["metadata"]["labels"],
        json!({"app": "pi"}),
        "taken from the template as the client wrote it"
    );
    assert_eq!(shown(&Job.validate(&object)), "");
    let queue = job(&json!({"parallelism": 3}));
    assert!(queue["spec"].get("completions").is_none());
    let indexed = job(&json!({"completionMode": "Indexed", "completions": 3, "backoffLimitPerIndex": 1}));
    assert_eq!(indexed["spec"]["backoffLimit"], i32::MAX);
    for object in [queue, indexed] {
        assert_eq!(shown(&Job.validate(&object)), "");
    }
}

#[test]
fn what_is_wrong() {
    let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let indexed = |more: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 5});
        merge(&mut spec, &more);
        spec
    };
    for (spec, wrong) in [
        (
            json!({"parallelism": -1}),
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
        ),
        (json!({"ttlSecondsAfterFinished": -1}), "spec.ttlSecondsAfterFinished: Invalid value: -1"),
        (
            json!({"template": {"spec": {"restartPolicy": "Always"}}}),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
        (
            json!({"template": {"metadata": {"labels": {"job-name": "x"}}}}),
            "spec.template.metadata.labels[job-name]: Invalid value: ",
        ),
        (
            json!({"selector": {"matchLabels": {"a": "b"}}}),
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"batch.kubernetes.io/controller-uid\":\"u-1\"}}: \
             `selector` not auto-generated; spec.template.metadata.labels: Invalid value: ",
        ),
        (
            json!({"manualSelector": true}),
            "spec.selector: Required value; spec.template.metadata.labels: Invalid",
        ),
        (json!({"completionMode": "Odd"}), "spec.completionMode: Unsupported value: \"Odd\""),
        (
            json!({"completionMode": "Indexed", "parallelism": 1}),
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            json!({"maxFailedIndexes": 1}),
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified; \
             spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
        ),
        (
            indexed(json!({"parallelism": 100_001})),
            "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
        ),
        (
            indexed(json!({"completions": 100_001, "backoffLimitPerIndex": 1, "parallelism": 10_001})),
            "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000; \
             spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000",
        ),
        (json!({"managedBy": "me"}), "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path"),
        (
            json!({"successPolicy": {"rules": []}}),
            "spec.successPolicy: Invalid value: {\"rules\":[]}: requires indexed",
        ),
        (
            indexed(json!({"successPolicy": {"rules": []}})),
            "spec.successPolicy.rules: Required value: at least one",
        ),
        (
            indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "0-7", "succeededCount": 6}]}})),
            "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0-7\": error parsing succeededIndexes: too large index: \"7\"; \
             spec.successPolicy.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 5",
        ),
        (
            rule(
                json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [0, 3, 2, 2], "containerName": "x"}}),
            ),
            "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set; \
             spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in the pod template; \
             spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator; \
             spec.podFailurePolicy.rules[0].onExitCodes.values[3]: Duplicate value: 2; \
             spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [0,3,2,2]: must be ordered",
        ),
        (
            rule(json!({"action": "Ignore"})),
            "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ),
        (
            json!({"podFailurePolicy": {"rules": []}, "template": {"spec": {"restartPolicy": "OnFailure"}},
                   "podReplacementPolicy": "TerminatingOrFailed"}),
            "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"; \
             spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
        ),
    ] {
        let text = shown(&Job.validate(&job(&spec)));
        assert!(text.starts_with(wrong), "{spec}\n is {text}\nnot {wrong}");
    }
    let mut long = job(&indexed(json!({})));
    long["metadata"]["name"] = "a".repeat(62).into();
    assert!(shown(&Job.validate(&long)).contains("metadata.name: Invalid value: "));
}

#[test]
fn changes() {
    let old = job(&json!({}));
    for (pointer, value, wrong) in [
        ("/spec/parallelism", json!(4), ""),
        ("/spec/suspend", json!(true), ""),
        ("/spec/completions", json!(4), "spec.completions: Invalid value: 4: field is immutable"),
        ("/spec/completionMode", json!("Indexed"), "spec.completionMode: Invalid value: "),
        ("/spec/selector", json!({}), "spec.selector: Invalid value: {}: field is immutable"),
        ("/spec/template/spec/containers/0/image", json!("x"), "spec.template: Invalid value: "),
    ] {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        let text = shown(&Job.validate_update(&new, &old));
        assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{pointer}: {text}");
    }
    let indexed = job(&json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3}));
    let mut new = indexed.clone();
    new["spec"]["completions"] = 5.into();
    assert!(
        shown(&Job.validate_update(&new, &indexed))
            .ends_with("can only be modified in tandem with spec.parallelism")
    );
    new["spec"]["parallelism"] = 5.into();
    assert_eq!(shown(&Job.validate_update(&new, &indexed)), "");
}

#[test]
fn a_suspended_job_may_still_be_told_where_to_run() {
    let old = job(&json!({"suspend": true}));
    let change = |part: Value| {
        let mut new = old.clone();
        merge(&mut new["spec"]["template"], &part);
        new
    };
    let affinity = json!({"spec": {"affinity": {"nodeAffinity": {}}}});
    for part in [
        json!({"spec": {"nodeSelector": {"a": "b"}}}),
        json!({"spec": {"tolerations": [{"operator": "Exists"}]}}),
        json!({"metadata": {"annotations": {"a": "b"}}}),
        json!({"spec": {"containers": [{"name": "c", "image": "pi:1", "resources": {"limits": {"cpu": "1"}}}]}}),
        affinity.clone(),
    ] {
        // As little as a client changes; the rest of the container stays.
        let mut new = change(part.clone());
        if let Some(limits) = part.pointer("/spec/containers/0/resources") {
            new["spec"]["template"] = old["spec"]["template"].clone();
            new["spec"]["template"]["spec"]["containers"][0]["resources"] = limits.clone();
        }
        assert_eq!(shown(&Job.validate_update(&new, &old)), "", "{part}");
    }
    assert_eq!(shown(&Job.validate_update(&old, &change(affinity))), "", "an affinity may be cleared");
    let other = change(
        json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}]}}}}),
    );
    assert_ne!(shown(&Job.validate_update(&other, &old)), "");
    let mut ran = old.clone();
    ran["status"] = json!({"startTime": "2026-05-01T11:58:00Z"});
    let selector = change(json!({"spec": {"nodeSelector": {"a": "b"}}}));
    assert_ne!(shown(&Job.validate_update(&selector, &ran)), "", "it ran and is not seen to rest");
    ran["status"]["conditions"] = json!([{"type": "Suspended", "status": "True"}]);
    assert_eq!(shown(&Job.validate_update(&selector, &ran)), "");
}

#[test]
fn what_a_status_may_say() {
    let of = |kinds: &[&str]| -> Value {
        kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect()
    };
    let start = "2026-05-01T11:58:00Z";
    let indexed = json!({"completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 1});
    for (spec, before, after, wrong) in [
        (json!({}), json!({}), json!({"active": 1, "ready": 1, "startTime": start}), ""),
        (json!({}), json!({}), json!({"active": -1}), "status.active: Invalid value: -1"),
        (
            json!({}),
            json!({}),
            json!({"ready": 1}),
            "status.ready: Invalid value: 1: cannot set more ready pods than active",
        ),
        (
            json!({}),
            json!({"startTime": start}),
            json!({"startTime": start, "completionTime": start, "conditions": of(&["SuccessCriteriaMet", "Complete"])}),
            "",
        ),
        (
            json!({}),
            json!({}),
            json!({"startTime": start, "conditions": of(&["Failed"])}),
            "status.conditions: Invalid",
        ),
        (
            json!({}),
            json!({}),
            json!({"startTime": start, "conditions": of(&["SuccessCriteriaMet", "Complete"])}),
            "status.completionTime: Required value: completionTime is required for Complete jobs",
        ),
        (
            json!({}),
            json!({}),
            json!({"active": 1, "conditions": of(&["FailureTarget", "Failed"])}),
            "status.active: Invalid value: 1: active>0 is invalid for finished job; status.startTime: Required value: ",
        ),
        (
            json!({}),
            json!({"failed": 2}),
            json!({"failed": 1}),
            "status.failed: Invalid value: 1: cannot decrease",
        ),
        (
            json!({}),
            json!({"succeeded": 2}),
            json!({}),
            "status.succeeded: Invalid value: 0: cannot decrease",
        ),
        (
            json!({}),
            json!({"conditions": of(&["FailureTarget"])}),
            json!({}),
            "status.conditions: Invalid value: null: cannot disable the terminal FailureTarget=True condition",
        ),
        (
            json!({}),
            json!({"startTime": start}),
            json!({}),
            "status.startTime: Invalid value: null: field is immutable for unsuspended job once set",
        ),
        (
            json!({}),
            json!({}),
            json!({"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["a"]}}),
            "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
        ),
        (
            json!({}),
            json!({}),
            json!({"completedIndexes": "1"}),
            "status.completedIndexes: Invalid value: \"1\": error parsing",
        ),
        (indexed.clone(), json!({}), json!({"completedIndexes": "0,2", "failedIndexes": "1"}), ""),
        (
            indexed,
            json!({}),
            json!({"completedIndexes": "0-2", "failedIndexes": "2"}),
            "status.failedIndexes: Invalid value: \"2\": failedIndexes and completedIndexes overlap at index: 2",
        ),
    ] {
        let mut old = job(&spec);
        let mut new = old.clone();
        old["status"] = before;
        new["status"] = after;
        let text = shown(&Job.validate_status_update(&new, &old));
        assert!(
            text.starts_with(wrong) && text.is_empty() == wrong.is_empty(),
            "{} gives {text}",
            new["status"]
        );
    }
}

#[test]
fn cells() {
    let mut object = job(&json!({"parallelism": 2, "completions": 5}));
    object["status"] = json!({"succeeded": 1, "startTime": "2026-05-01T11:59:00Z"});
    assert_eq!(
        Job.cells(&object, now()),
        [
            json!("pi"),
            json!("Running"),
            json!("1/5"),
            json!("60s"),
            json!("2m"),
            json!("c"),
            json!("pi:1"),
            json!("batch.kubernetes.io/controller-uid=u-1")
        ]
    );
    object["status"]["completionTime"] = "2026-05-01T11:59:10Z".into();
    object["status"]["conditions"] = json!([{"type": "Complete", "status": "True"}]);
    object["spec"].as_object_mut().unwrap().remove("completions");
    assert_eq!(Job.cells(&object, now())[1..4], [json!("Complete"), json!("1/1 of 2"), json!("10s")]);
    object["status"] = json!({"conditions": [{"type": "Suspended", "status": "True"}]});
    assert_eq!(Job.cells(&object, now())[1..4], [json!("Suspended"), json!("0/1 of 2"), json!("")]);
}
