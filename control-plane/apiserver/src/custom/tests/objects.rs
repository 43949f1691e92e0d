//! Objects of one version: schema, subresources, tables, selectors, patches.

use super::*;
use crate::tests::names;

const GROUP: &str = "stable.example.com";

fn full_version() -> Value {
    let mut v = version(
        "v1",
        true,
        json!({
            "cron": {"type": "string", "pattern": "^\\S+( \\S+)*$"},
            "replicas": {"type": "integer", "default": 1, "minimum": 0},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                      "items": {"type": "object", "required": ["name"], "properties": {
                          "name": {"type": "string"}, "port": {"type": "integer"}, "by": {"type": "string"}}}},
        }),
    );
    v["subresources"] = json!({
        "status": {},
        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                  "labelSelectorPath": ".status.selector"},
    });
    v["additionalPrinterColumns"] = json!([
        {"name": "Cron", "type": "string", "jsonPath": ".spec.cron"},
        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
    ]);
    v["selectableFields"] = json!([{"jsonPath": ".spec.cron"}]);
    v
}

async fn stable() -> World {
    let w = served().await;
    define(&w, crontabs(GROUP, json!([full_version()]))).await;
    w
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_checked_pruned_and_defaulted() {
    let w = stable().await;
    let all = path(GROUP, "v1", "");
    let body = || crontab(GROUP, "v1", "a", json!({"cron": "* *", "unknown": 1}));
    let strict = w.json("POST", &format!("{all}?fieldValidation=Strict"), body()).await;
    assert_eq!(strict.code, 400);
    assert!(
        strict.body["message"].as_str().unwrap().contains("unknown field \"spec.unknown\""),
        "{}",
        strict.body
    );
    let made = w.json("POST", &all, body()).await;
    assert_eq!((made.code, &made.body["spec"]), (201, &json!({"cron": "* *", "replicas": 1})));
    assert_eq!(warnings(&made), ["299 - \"unknown field \\\"spec.unknown\\\"\""]);
    assert_eq!(made.body["metadata"]["generation"], 1);
    let bad = w.json("POST", &all, crontab(GROUP, "v1", "b", json!({"cron": "", "replicas": -1}))).await;
    assert_eq!(bad.code, 422, "{}", bad.body);
    let why = bad.body["message"].as_str().unwrap();
    assert!(why.contains("spec.replicas") && why.contains("spec.cron"), "{why}");
    let missing = w.json("POST", &all, crontab(GROUP, "v1", "c", json!({"ports": [{"port": 1}]}))).await;
    assert!(missing.body["message"].as_str().unwrap().contains("spec.ports[0].name: Required value"));
    // Not a word of protobuf.
    let proto = w.ask("POST", &all, "application/vnd.kubernetes.protobuf", "k8s\0").await;
    assert!(matches!(proto.code, 400 | 415), "{}", proto.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_scale_are_seen_through_their_subresources() {
    let w = stable().await;
    create(&w, GROUP, "v1", crontab(GROUP, "v1", "a", json!({"cron": "x"}))).await;
    let one = path(GROUP, "v1", "/a");
    let status = format!("{one}/status");
    let patch = r#"{"spec":{"cron":"y"},"status":{"replicas":2,"selector":"a=b"}}"#;
    let told = w.ask("PATCH", &status, MERGE, patch).await;
    assert_eq!((told.code, &told.body["spec"]["cron"]), (200, &json!("x")));
    assert_eq!(told.body["metadata"]["generation"], 1);
    let main = w.ask("PATCH", &one, MERGE, r#"{"spec":{"cron":"y"},"status":{"replicas":9}}"#).await;
    assert_eq!(
        (&main.body["status"]["replicas"], &main.body["metadata"]["generation"]),
        (&json!(2), &json!(2))
    );
    let scale = w.get(&format!("{one}/scale")).await.body;
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 1}), &json!({"replicas": 2, "selector": "a=b"}))
    );
    let scaled = w.ask("PATCH", &format!("{one}/scale"), MERGE, r#"{"spec":{"replicas":7}}"#).await;
    assert_eq!((scaled.code, &scaled.body["spec"]["replicas"]), (200, &json!(7)));
    assert_eq!(w.get(&one).await.body["spec"]["replicas"], 7);
    let none = w.get(&format!("{one}/other")).await;
    assert_eq!((none.code, &none.body["reason"]), (404, &json!("NotFound")));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_lists_and_selectors() {
    let w = stable().await;
    for (name, cron) in [("a", "x"), ("b", "y")] {
        create(&w, GROUP, "v1", crontab(GROUP, "v1", name, json!({"cron": cron}))).await;
    }
    let all = path(GROUP, "v1", "");
    let list = w.get(&all).await.body;
    assert_eq!((&list["kind"], names(&list)), (&json!("CronTabList"), vec!["a".to_owned(), "b".to_owned()]));
    let y = w.get(&format!("{all}?fieldSelector=spec.cron%3Dy")).await.body;
    assert_eq!(names(&y), ["b"]);
    assert_eq!(w.get(&format!("{all}?fieldSelector=spec.replicas%3D1")).await.code, 400);
    let request = http::Request::get(&all).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let response = w.raw(request.body(crate::full("")).unwrap()).await;
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let table: Value = serde_json::from_slice(&bytes).unwrap();
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Cron", "Replicas"]);
    assert_eq!(table["rows"][1]["cells"], json!(["b", "y", 1]));
    assert_eq!(w.json("DELETE", &format!("{all}?fieldSelector=spec.cron%3Dx"), json!({})).await.code, 200);
    assert_eq!(names(&w.get(&all).await.body), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_and_apply() {
    let w = stable().await;
    create(&w, GROUP, "v1", crontab(GROUP, "v1", "a", json!({"cron": "x"}))).await;
    let one = path(GROUP, "v1", "/a");
    let strategic = w.ask("PATCH", &one, "application/strategic-merge-patch+json", "{}").await;
    assert_eq!(strategic.code, 415);
    assert!(!strategic.body["message"].as_str().unwrap().contains("strategic"), "{}", strategic.body);
    let json_patch = r#"[{"op":"replace","path":"/spec/cron","value":"z"}]"#;
    assert_eq!(
        w.ask("PATCH", &one, "application/json-patch+json", json_patch).await.body["spec"]["cron"],
        "z"
    );

    let apply = |who: &str, force: &str, ports: Value| {
        let body = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "CronTab", "spec": {"ports": ports}});
        let place = format!("{}?fieldManager={who}{force}", path(GROUP, "v1", "/applied"));
        let w = &w;
        async move { w.ask("PATCH", &place, APPLY, body.to_string()).await }
    };
    let first = apply("one", "", json!([{"name": "http", "port": 80}])).await;
    assert_eq!(first.code, 201, "{}", first.body);
    let second = apply("two", "", json!([{"name": "https", "port": 443}])).await;
    assert_eq!(second.body["spec"]["ports"].as_array().unwrap().len(), 2, "keys tell the elements apart");
    let conflict =
        apply("two", "", json!([{"name": "https", "port": 443}, {"name": "http", "port": 81}])).await;
    assert_eq!(conflict.code, 409);
    let why = conflict.body["message"].as_str().unwrap();
    assert!(why.contains(".spec.ports[name=\"http\"].port"), "{why}");
    let forced = apply("two", "&force=true", json!([{"name": "http", "port": 81}])).await;
    assert_eq!(
        forced.body["spec"]["ports"],
        json!([{"name": "http", "port": 81}]),
        "what it left out is gone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_warned_of_a_deprecated_version() {
    let w = served().await;
    let mut old = version("v1beta1", false, json!({}));
    old["deprecated"] = true.into();
    define(&w, crontabs("old.example.com", json!([version("v1", true, json!({})), old]))).await;
    let answer = w.get(&path("old.example.com", "v1beta1", "")).await;
    let want = "299 - \"old.example.com/v1beta1 CronTab is deprecated; use old.example.com/v1 CronTab\"";
    assert_eq!(warnings(&answer), [want]);
    assert!(warnings(&w.get(&path("old.example.com", "v1", "")).await).is_empty());
}
