//! Options of requests, in upstream's words.

use super::{names, version, world};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/d/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/d/deployments";
const APPLY: &str = "application/apply-patch+yaml";

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]},
        }},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_say_nothing_are_refused() {
    let w = world().await;
    w.config_map("a", json!({})).await;
    let number = "strconv.ParseInt: parsing \"x\": invalid syntax";
    let revision = "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax";
    let in_list = format!("invalid resource version: {revision}");
    for (query, code, message) in [
        ("limit=x", 400, number),
        ("timeoutSeconds=x", 400, number),
        ("limit=-1", 200, ""),
        ("resourceVersion=x", 400, in_list.as_str()),
        ("watch=1&resourceVersion=x", 500, revision),
        ("continue=foo", 400, "invalid continue token: continue key is not valid: "),
        (
            "resourceVersionMatch=Exact",
            422,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "watch=1&sendInitialEvents=true",
            422,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "fieldSelector=foo%3Dx",
            400,
            "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        (
            "fieldSelector=metadata.name",
            400,
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'",
        ),
    ] {
        let answer = w.get(&format!("{MAPS}?{query}")).await;
        let said = answer.body["message"].as_str().unwrap_or_default();
        assert_eq!((answer.code, said.contains(message)), (code, true), "{query}: {said}");
    }
    let pods = w.get("/api/v1/pods?fieldSelector=spec.foo%3Dx").await;
    assert_eq!(pods.body["message"], "field label not supported: spec.foo");
    for (query, message) in [
        ("dryRun=All&dryRun=x", "dryRun: Unsupported value: [\"All\",\"x\"]: supported values: \"All\""),
        (
            "fieldValidation=x",
            "fieldValidation: Unsupported value: \"x\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
        ),
        ("fieldManager=a%01b", "invalid character U+0001 (at position 1)"),
    ] {
        let answer = w.json("POST", &format!("{MAPS}?{query}"), json!({"metadata": {"name": "b"}})).await;
        let said = answer.body["message"].as_str().unwrap_or_default();
        assert_eq!((answer.code, said.contains(message)), (422, true), "{query}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_have_conditions_and_pages() {
    let w = world().await;
    for name in ["a", "b", "c"] {
        w.config_map(name, json!({})).await;
    }
    let wrong = w.json("DELETE", &format!("{MAPS}/a"), json!({"preconditions": {"uid": "other"}})).await;
    assert_eq!(wrong.code, 409);
    let said = wrong.body["message"].as_str().unwrap();
    let begin = "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match";
    assert!(said.starts_with(begin), "{said}");
    let stale = json!({"preconditions": {"resourceVersion": "999"}});
    assert_eq!(w.json("DELETE", &format!("{MAPS}/a"), stale).await.code, 409);
    let first = w.ask("DELETE", &format!("{MAPS}?limit=2"), "", "").await;
    assert_eq!((first.code, names(&first.body)), (200, vec!["a".to_owned(), "b".to_owned()]));
    let token = first.body["metadata"]["continue"].as_str().unwrap();
    assert_eq!(first.body["metadata"]["remainingItemCount"], 1);
    let rest = w.ask("DELETE", &format!("{MAPS}?limit=2&continue={token}"), "", "").await;
    assert_eq!(names(&rest.body), ["c"]);
    assert!(names(&w.get(MAPS).await.body).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_name_what_stands_twice() {
    let w = world().await;
    assert_eq!(w.json("POST", DEPLOYMENTS, deployment("a")).await.code, 201);
    let strict = format!("{DEPLOYMENTS}/a?fieldValidation=Strict");
    for (kind, body, message) in [
        (
            "merge-patch",
            r#"{"spec":{"foo":1,"paused":true,"paused":false}}"#,
            "strict decoding error: duplicate field \"spec.paused\", unknown field \"spec.foo\"",
        ),
        (
            "json-patch",
            r#"[{"op":"add","path":"/spec/foo","value":{"a":1,"a":2}}]"#,
            "strict decoding error: json patch duplicate field \"[0].value.a\", unknown field \"spec.foo\"",
        ),
    ] {
        let answer = w.ask("PATCH", &strict, &format!("application/{kind}+json"), body).await;
        let said = answer.body["message"].as_str().unwrap_or_default();
        assert_eq!((answer.code, said.ends_with(message)), (422, true), "{said}");
        let loose = format!("{DEPLOYMENTS}/a?fieldValidation=Warn");
        let answer = w.ask("PATCH", &loose, &format!("application/{kind}+json"), body).await;
        assert_eq!((answer.code, answer.headers.get_all("warning").iter().count()), (200, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_is_applied() {
    let w = world().await;
    let place = format!("{DEPLOYMENTS}/a");
    let mine = deployment("a").to_string();
    assert_eq!(w.ask("PATCH", &format!("{place}?fieldManager=m"), APPLY, mine).await.code, 201);
    let scale = |replicas: Value| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"}, "spec": {"replicas": replicas}})
            .to_string()
    };
    let other = format!("{place}/scale?fieldManager=s");
    let refused = w.ask("PATCH", &other, APPLY, scale(0.into())).await;
    assert_eq!(refused.code, 409);
    assert_eq!(refused.body["message"], "Apply failed with 1 conflict: conflict with \"m\": .spec.replicas");
    let taken = w.ask("PATCH", &format!("{other}&force=true"), APPLY, scale(0.into())).await;
    assert_eq!((taken.code, &taken.body["kind"], &taken.body["spec"]), (200, &json!("Scale"), &json!({})));
    let whole = w.get(&place).await.body;
    assert_eq!((version(&whole), &whole["spec"]["replicas"]), (version(&taken.body), &json!(0)));
    let entries = whole["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["manager"] == "s").unwrap();
    assert_eq!((&entry["operation"], &entry["subresource"]), (&json!("Apply"), &json!("scale")));
    assert_eq!(entry["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(w.ask("PATCH", &other, APPLY, scale((-1).into())).await.code, 422);
    assert_eq!(w.ask("PATCH", &other, APPLY, deployment("a").to_string()).await.code, 400);
}
