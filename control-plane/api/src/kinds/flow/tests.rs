use super::*;
use crate::kinds::testing::{complete, now, shown};
use crate::resource::Strategy;
use serde_json::{Value, json};

fn of_kind(kind: &str) -> Vec<Value> {
    mandatory().into_iter().chain(suggested()).filter(|o| o["kind"] == kind).collect()
}

#[test]
fn what_a_cluster_comes_with_is_valid_and_complete() {
    let (schemas, levels) = (of_kind("FlowSchema"), of_kind("PriorityLevelConfiguration"));
    assert_eq!((schemas.len(), levels.len()), (11, 8));
    let names: Vec<&str> = levels.iter().filter_map(|l| l["metadata"]["name"].as_str()).collect();
    for schema in &schemas {
        assert_eq!(complete(schema.clone())["spec"], schema["spec"], "defaults add nothing");
        assert_eq!(shown(&FlowSchema.validate(schema)), "");
        let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap();
        assert!(names.contains(&level), "{level}");
    }
    for level in &levels {
        assert_eq!(complete(level.clone())["spec"], level["spec"], "defaults add nothing");
        assert_eq!(shown(&PriorityLevelConfiguration.validate(level)), "");
    }
}

#[test]
fn mandatory_objects_cannot_be_changed() {
    let find =
        |kind: &str, name: &str| of_kind(kind).into_iter().find(|o| o["metadata"]["name"] == name).unwrap();
    let mut all = find("FlowSchema", "catch-all");
    all["spec"]["matchingPrecedence"] = 9_999.into();
    assert!(shown(&FlowSchema.validate(&all)).ends_with("spec of 'catch-all' must equal the fixed value"));
    let mut exempt = find("PriorityLevelConfiguration", "exempt");
    exempt["spec"]["exempt"]["lendablePercent"] = 50.into();
    assert_eq!(shown(&PriorityLevelConfiguration.validate(&exempt)), "");
    exempt["spec"]["type"] = "Limited".into();
    assert!(!PriorityLevelConfiguration.validate(&exempt).is_empty());
}

#[test]
fn schemas_say_what_is_wrong_with_them() {
    let base = of_kind("FlowSchema").into_iter().find(|o| o["metadata"]["name"] == "global-default").unwrap();
    for (pointer, value, wrong) in [
        (
            "/spec/matchingPrecedence",
            json!(0),
            "spec.matchingPrecedence: Invalid value: 0: must be a positive value",
        ),
        (
            "/spec/matchingPrecedence",
            json!(1),
            "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
        ),
        (
            "/spec/rules/0/resourceRules/0/verbs",
            json!(["*", "get"]),
            "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
        ),
        ("/spec/rules/0/resourceRules/0/namespaces", json!([]), ""),
        (
            "/spec/rules/0/nonResourceRules/0/nonResourceURLs",
            json!(["/a*"]),
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do suffix matching",
        ),
        (
            "/spec/rules/0/subjects/0",
            json!({"kind": "User"}),
            "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
        ),
    ] {
        let mut object = base.clone();
        *object.pointer_mut(pointer).unwrap() = value;
        assert_eq!(shown(&FlowSchema.validate(&object)), wrong, "{pointer}");
    }
    assert_eq!(FlowSchema.cells(&base, now())[1..4], [json!("global-default"), json!(9900), json!("ByUser")]);
}

#[test]
fn hands_are_dealt_from_enough_bits() {
    let base = of_kind("PriorityLevelConfiguration")
        .into_iter()
        .find(|o| o["metadata"]["name"] == "system")
        .unwrap();
    let wrong = |queues: i64, hand: i64| {
        let mut object = base.clone();
        object["spec"]["limited"]["limitResponse"]["queuing"] =
            json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        shown(&PriorityLevelConfiguration.validate(&object))
    };
    assert_eq!(wrong(64, 8), "");
    assert_eq!(wrong(64, 10), "");
    assert!(wrong(64, 11).contains("required entropy bits"));
    assert!(wrong(4, 5).contains("should not be greater than queues (4)"));
    assert!(wrong(20_000_000, 1).contains("must not be greater than 10000000"));
    assert_eq!(
        PriorityLevelConfiguration.cells(&base, now())[2..6],
        [json!(30), json!(64), json!(6), json!(50)]
    );
}
