//! Requests and their answers.

use super::{names, version, world, world_with};
use crate::hooks::{Body, Exchange, Handler, full};
use crate::{Handlers, Limits};
use async_trait::async_trait;
use http::{Request, Response};
use serde_json::{Value, json};
use skep_api::Status;
use std::sync::Arc;

const MAPS: &str = "/api/v1/namespaces/d/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_lives() {
    let w = world().await;
    let made = w.json("POST", MAPS, map("a")).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let meta = &made.body["metadata"];
    assert_eq!(meta["namespace"], "d");
    assert!(
        meta["uid"].as_str().unwrap().len() == 36
            && meta["creationTimestamp"].as_str().unwrap().ends_with('Z')
    );
    let read = w.get(&format!("{MAPS}/a")).await;
    assert_eq!((read.code, &read.body), (200, &made.body));

    // An update that changes nothing writes nothing.
    let same = w.json("PUT", &format!("{MAPS}/a"), made.body.clone()).await;
    assert_eq!((same.code, version(&same.body)), (200, version(&made.body)), "{}", same.body);
    let mut changed = made.body.clone();
    changed["data"]["k"] = "w".into();
    let newer = w.json("PUT", &format!("{MAPS}/a"), changed.clone()).await;
    assert_eq!(newer.code, 200);
    assert!(version(&newer.body) > version(&made.body));
    assert_eq!(newer.body["metadata"]["uid"], made.body["metadata"]["uid"]);

    // The old version is stale now.
    changed["data"]["k"] = "x".into();
    let stale = w.json("PUT", &format!("{MAPS}/a"), changed).await;
    assert_eq!((stale.code, stale.body["reason"].as_str().unwrap()), (409, "Conflict"));
    assert_eq!(
        stale.body["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the \
         latest version and try again"
    );
    // Without a version it is taken as it is.
    let taken = w.json("PUT", &format!("{MAPS}/a"), map("a")).await;
    assert_eq!((taken.code, taken.body["data"]["k"].as_str().unwrap()), (200, "v"));

    let gone = w.json("DELETE", &format!("{MAPS}/a"), json!({})).await;
    assert_eq!((gone.code, gone.body["status"].as_str().unwrap()), (200, "Success"), "{}", gone.body);
    assert_eq!(gone.body["details"]["kind"], "configmaps");
    let none = w.get(&format!("{MAPS}/a")).await;
    assert_eq!((none.code, none.body["reason"].as_str().unwrap()), (404, "NotFound"));
    assert_eq!(none.body["message"], "configmaps \"a\" not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_a_status() {
    let w = world().await;
    assert_eq!(w.json("POST", MAPS, map("a")).await.code, 201);
    let big = "x".repeat((3 << 20) + 1);
    let fat: Value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fat"}, "data": {"k": "x".repeat((1 << 20) + 1)}});
    let fat_secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fat"}, "stringData": {"k": "x".repeat((1 << 20) + 1)}});
    let mut unknown = map("u");
    unknown["datum"] = json!({});
    let mut wrong = map("u");
    wrong["data"] = json!({"k": 3});
    let mut elsewhere = map("u");
    elsewhere["metadata"]["namespace"] = "e".into();
    let mut versioned = map("u");
    versioned["metadata"]["resourceVersion"] = "5".into();
    let mut fixed = map("fixed");
    fixed["immutable"] = true.into();
    assert_eq!(w.json("POST", MAPS, fixed.clone()).await.code, 201);
    fixed["data"]["k"] = "other".into();
    let one = format!("{MAPS}/a");
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let rows: &[(&str, &str, &str, String, u16, &str, &str)] = &[
        ("POST", &strict, "json", unknown.to_string(), 400, "BadRequest", "unknown field \"datum\""),
        ("POST", MAPS, "json", wrong.to_string(), 400, "BadRequest", "ConfigMap"),
        ("POST", MAPS, "json", "{".into(), 400, "BadRequest", ""),
        ("POST", MAPS, "json", "[]".into(), 400, "BadRequest", ""),
        ("POST", MAPS, "json", "null".into(), 400, "BadRequest", ""),
        ("POST", MAPS, "json", String::new(), 400, "BadRequest", ""),
        ("POST", MAPS, "json", map("a").to_string(), 409, "AlreadyExists", "configmaps \"a\" already exists"),
        (
            "POST",
            MAPS,
            "json",
            map("A_b").to_string(),
            422,
            "Invalid",
            "ConfigMap \"A_b\" is invalid: metadata.name",
        ),
        ("POST", MAPS, "json", map("").to_string(), 422, "Invalid", "name or generateName is required"),
        ("POST", MAPS, "json", elsewhere.to_string(), 400, "BadRequest", "does not match the namespace"),
        ("POST", MAPS, "json", versioned.to_string(), 500, "", "resourceVersion should not be set"),
        ("POST", MAPS, "json", big, 413, "RequestEntityTooLarge", "limit is 3145728"),
        ("POST", MAPS, "json", fat.to_string(), 422, "Invalid", "Too long"),
        ("POST", "/api/v1/namespaces/d/secrets", "json", fat_secret.to_string(), 422, "Invalid", "Too long"),
        ("POST", MAPS, "vnd.kubernetes.protobuf", "k8s".into(), 400, "BadRequest", "protobuf"),
        ("POST", MAPS, "cbor", "x".into(), 415, "UnsupportedMediaType", ""),
        (
            "POST",
            MAPS,
            "json",
            json!({"kind": "Pod", "apiVersion": "v1"}).to_string(),
            400,
            "BadRequest",
            "Pod",
        ),
        ("POST", MAPS, "json", json!({"apiVersion": "apps/v1"}).to_string(), 400, "BadRequest", "apps/v1"),
        (
            "PUT",
            &one,
            "json",
            map("b").to_string(),
            400,
            "BadRequest",
            "does not match the name on the URL (a)",
        ),
        ("PUT", &format!("{MAPS}/zz"), "json", map("zz").to_string(), 404, "NotFound", ""),
        ("PUT", &format!("{MAPS}/fixed"), "json", fixed.to_string(), 422, "Invalid", "immutable"),
        ("PATCH", &one, "apply-patch+cbor", "{}".into(), 415, "UnsupportedMediaType", "apply-patch+yaml"),
        ("PATCH", &one, "apply-patch+yaml", "{}".into(), 422, "Invalid", "is required for apply patch"),
        (
            "PATCH",
            &format!("{one}?force=true"),
            "merge-patch+json",
            "{}".into(),
            422,
            "Invalid",
            "may not be specified for non-apply patch",
        ),
        ("PATCH", &one, "merge-patch+json", "{".into(), 400, "BadRequest", ""),
        ("PATCH", &one, "json-patch+json", "{}".into(), 400, "BadRequest", ""),
        ("GET", "/api/v1/namespaces/d/nothings", "json", String::new(), 404, "NotFound", "could not find"),
        ("GET", "/apis/nothing.io/v1/x", "json", String::new(), 404, "NotFound", ""),
        ("GET", "/nothing", "json", String::new(), 404, "NotFound", ""),
        ("POST", &one, "json", map("a").to_string(), 405, "MethodNotAllowed", ""),
        ("DELETE", "/api/v1/configmaps", "json", String::new(), 405, "MethodNotAllowed", ""),
        (
            "GET",
            &format!("{MAPS}?labelSelector=a+b"),
            "json",
            String::new(),
            400,
            "BadRequest",
            "unable to parse",
        ),
        (
            "GET",
            &format!("{MAPS}?fieldSelector=spec.x%3D1"),
            "json",
            String::new(),
            400,
            "BadRequest",
            "\"spec.x\" is not a known field selector",
        ),
        (
            "GET",
            &format!("{MAPS}?continue=zz"),
            "json",
            String::new(),
            400,
            "BadRequest",
            "continue key is not valid",
        ),
        ("GET", &format!("{MAPS}?resourceVersion=x"), "json", String::new(), 400, "BadRequest", ""),
        ("GET", &format!("{MAPS}?limit=x"), "json", String::new(), 400, "BadRequest", ""),
        (
            "GET",
            &format!("{MAPS}?resourceVersionMatch=Exact"),
            "json",
            String::new(),
            422,
            "Invalid",
            "unless resourceVersion is provided",
        ),
        (
            "GET",
            &format!("{MAPS}?watch=1&sendInitialEvents=true"),
            "json",
            String::new(),
            422,
            "Invalid",
            "NotOlderThan",
        ),
        (
            "GET",
            &format!("{MAPS}?sendInitialEvents=true"),
            "json",
            String::new(),
            422,
            "Invalid",
            "forbidden for list",
        ),
        ("POST", &format!("{MAPS}?dryRun=Some"), "json", map("x").to_string(), 422, "Invalid", "dryRun"),
        (
            "DELETE",
            &format!("{one}?propagationPolicy=Up"),
            "json",
            String::new(),
            422,
            "Invalid",
            "propagationPolicy",
        ),
        (
            "DELETE",
            &one,
            "json",
            json!({"preconditions": {"uid": "other"}}).to_string(),
            409,
            "Conflict",
            "the UID in the precondition (other) does not match",
        ),
    ];
    let before = w.get("/api/v1/configmaps").await.body["items"].clone();
    for (method, path, kind, body, code, reason, part) in rows {
        let answer = w.ask(method, path, &format!("application/{kind}"), body.clone()).await;
        let shown = answer.body.to_string();
        assert_eq!(answer.code, *code, "{method} {path}: {shown:.300}");
        assert_eq!(answer.body["kind"], "Status");
        assert_eq!(answer.body["code"], *code);
        assert_eq!(
            answer.body["reason"].as_str().unwrap_or_default(),
            *reason,
            "{method} {path}: {shown:.300}"
        );
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(part), "{method} {path}: {message:.300} lacks {part}");
    }
    assert_eq!(w.get("/api/v1/configmaps").await.body["items"], before, "something was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_named_in_causes_and_warnings() {
    let w = world().await;
    let mut body = map("Bad");
    body["data"] = json!({"a/b": "x"});
    let refused = w.json("POST", MAPS, body).await;
    let fields: Vec<_> =
        refused.body["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].clone()).collect();
    assert!(fields.contains(&"metadata.name".into()), "{}", refused.body);
    assert_eq!(refused.body["details"]["kind"], "ConfigMap");
    let mut odd = map("odd");
    odd["metadata"]["colour"] = "red".into();
    let warned = w.json("POST", MAPS, odd).await;
    assert_eq!(warned.code, 201, "{}", warned.body);
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"metadata.colour\\\"\"");
    assert!(warned.body["metadata"].get("colour").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_in_upstreams_words() {
    let w = world().await;
    for (user, path, code, message) in [
        ("stranger", MAPS, 401, "Unauthorized"),
        (
            "nobody",
            MAPS,
            403,
            "configmaps is forbidden: User \"nobody\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"d\"",
        ),
        (
            "nobody",
            "/api/v1/nodes/n",
            403,
            "nodes \"n\" is forbidden: User \"nobody\" cannot get resource \"nodes\" in API group \"\" at the cluster scope",
        ),
        ("nobody", "/x", 403, "forbidden: User \"nobody\" cannot get path \"/x\""),
    ] {
        let request = Request::builder().uri(path).header("user", user).body(full("")).unwrap();
        let response = w.raw(request).await;
        assert_eq!(response.status(), code);
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(body["message"], message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_generated() {
    let w = world().await;
    let body = json!({"metadata": {"generateName": "web-"}});
    let (a, b) = (w.json("POST", MAPS, body.clone()).await, w.json("POST", MAPS, body).await);
    let name = |answer: &super::Answer| answer.body["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name(&a).starts_with("web-") && name(&a).len() == 9 && name(&a) != name(&b));
}

#[tokio::test(flavor = "multi_thread")]
async fn patches() {
    let w = world().await;
    w.json("POST", MAPS, map("a")).await;
    let one = format!("{MAPS}/a");
    let merged = w.ask("PATCH", &one, "application/merge-patch+json", r#"{"data":{"k":null,"m":"1"}}"#).await;
    assert_eq!((merged.code, &merged.body["data"]), (200, &json!({"m": "1"})), "{}", merged.body);
    let body = r#"[{"op":"test","path":"/data/m","value":"1"},{"op":"add","path":"/data/n","value":"2"}]"#;
    let patched = w.ask("PATCH", &one, "application/json-patch+json", body).await;
    assert_eq!((patched.code, &patched.body["data"]), (200, &json!({"m": "1", "n": "2"})));
    let failed = w
        .ask("PATCH", &one, "application/json-patch+json", r#"[{"op":"test","path":"/data/m","value":"9"}]"#)
        .await;
    assert_eq!(failed.code, 422, "{}", failed.body);
    let body = r#"{"metadata":{"labels":{"x":"y"}}}"#;
    let strategic = w.ask("PATCH", &one, "application/strategic-merge-patch+json", body).await;
    assert_eq!((strategic.code, &strategic.body["metadata"]["labels"]), (200, &json!({"x": "y"})));
    let stale =
        w.ask("PATCH", &one, "application/merge-patch+json", r#"{"metadata":{"resourceVersion":"1"}}"#).await;
    assert_eq!(stale.code, 409);
    let nothing = w.ask("PATCH", &one, "application/merge-patch+json", "{}").await;
    assert_eq!(version(&nothing.body), version(&strategic.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_lose_nothing() {
    let w = Arc::new(world().await);
    w.json("POST", MAPS, map("a")).await;
    let one = format!("{MAPS}/a");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (w, one) = (w.clone(), one.clone());
        tasks.spawn(async move {
            let mut conflicts = 0;
            for round in 0..10 {
                // A patch is tried again by the server; an update by its client.
                let body = json!({"data": {format!("p{n}-{round}"): "x"}}).to_string();
                assert_eq!(w.ask("PATCH", &one, "application/merge-patch+json", body).await.code, 200);
                loop {
                    let mut object = w.get(&one).await.body;
                    object["data"][format!("u{n}-{round}")] = "x".into();
                    match w.json("PUT", &one, object).await.code {
                        200 => break,
                        409 => conflicts += 1,
                        other => panic!("{other}"),
                    }
                }
            }
            conflicts
        });
    }
    let conflicts: u32 = tasks.join_all().await.into_iter().sum();
    assert!(conflicts > 0, "the writers never met");
    let data = w.get(&one).await.body["data"].as_object().unwrap().len();
    assert_eq!(data, 1 + 8 * 10 * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_hold_and_release() {
    let w = world().await;
    let mut body = map("a");
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    w.json("POST", MAPS, body).await;
    let one = format!("{MAPS}/a");
    let held = w.json("DELETE", &one, json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(held.code, 200);
    assert_eq!(held.body["metadata"]["finalizers"], json!(["example.com/hold", "foregroundDeletion"]));
    assert_eq!(held.body["metadata"]["deletionGracePeriodSeconds"], 0);
    let again = w.json("DELETE", &one, json!({})).await;
    assert_eq!(version(&again.body), version(&held.body), "a second deletion writes nothing");
    let kept = w
        .ask(
            "PATCH",
            &one,
            "application/merge-patch+json",
            r#"{"metadata":{"finalizers":["foregroundDeletion"]}}"#,
        )
        .await;
    assert_eq!(kept.code, 200, "{}", kept.body);
    assert_eq!(w.get(&one).await.code, 200);
    let freed =
        w.ask("PATCH", &one, "application/merge-patch+json", r#"{"metadata":{"finalizers":null}}"#).await;
    assert_eq!(freed.code, 200);
    assert_eq!(w.get(&one).await.code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_runs_write_nothing() {
    let w = world().await;
    let before = w.store.revision();
    let made = w.json("POST", &format!("{MAPS}?dryRun=All"), map("a")).await;
    assert_eq!((made.code, made.body["metadata"]["name"].as_str().unwrap()), (201, "a"));
    assert_eq!((w.store.revision(), w.get(&format!("{MAPS}/a")).await.code), (before, 404));
    w.json("POST", MAPS, map("a")).await;
    let mut changed = map("a");
    changed["data"]["k"] = "z".into();
    let put = w.json("PUT", &format!("{MAPS}/a?dryRun=All"), changed).await;
    assert_eq!((put.code, put.body["data"]["k"].as_str().unwrap()), (200, "z"));
    assert_eq!(w.json("DELETE", &format!("{MAPS}/a"), json!({"dryRun": ["All"]})).await.code, 200);
    assert_eq!(w.get(&format!("{MAPS}/a")).await.body["data"]["k"], "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_of_one_moment() {
    let w = world().await;
    for n in 0..25 {
        w.config_map(&format!("c{n:02}"), json!({"even": (n % 2 == 0).to_string()})).await;
    }
    for selector in ["", "&labelSelector=even%3Dtrue"] {
        let whole = w.get(&format!("{MAPS}?limit=0{selector}")).await.body;
        let mut seen = Vec::new();
        let mut page = w.get(&format!("{MAPS}?limit=4{selector}")).await.body;
        let moment = version(&page);
        let mut round = 0;
        loop {
            assert_eq!(version(&page), moment);
            seen.extend(names(&page));
            let Some(token) = page["metadata"]["continue"].as_str() else { break };
            assert_eq!(page["metadata"].get("remainingItemCount").is_some(), selector.is_empty());
            // Others write between the pages; nobody notices.
            round += 1;
            w.config_map(&format!("c{round:02}-new{}", selector.len()), json!({"even": "true"})).await;
            w.json("DELETE", &format!("{MAPS}/c24-gone"), json!({})).await;
            page = w.get(&format!("{MAPS}?limit=4&continue={token}{selector}")).await.body;
            assert_eq!(page["kind"], "ConfigMapList", "{page}");
        }
        assert_eq!(seen, names(&whole));
    }
    let exact = w.get(&format!("{MAPS}?resourceVersion=3&resourceVersionMatch=Exact")).await;
    assert_eq!(exact.body["metadata"]["resourceVersion"], "3", "{}", exact.body);
    let future = w.get(&format!("{MAPS}?resourceVersion=9999999&resourceVersionMatch=Exact")).await;
    assert_eq!((future.code, future.body["reason"].as_str().unwrap()), (504, "Timeout"));
}

#[tokio::test(flavor = "multi_thread")]
async fn compacted_pages_expire() {
    let w = world().await;
    for n in 0..4 {
        w.config_map(&format!("c{n}"), json!({})).await;
    }
    let page = w.get(&format!("{MAPS}?limit=2")).await.body;
    let token = page["metadata"]["continue"].as_str().unwrap();
    w.config_map("late", json!({})).await;
    w.store.compact(w.store.revision()).await.unwrap();
    let expired = w.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(
        (expired.code, expired.body["reason"].as_str().unwrap()),
        (410, "Expired"),
        "{}",
        expired.body
    );
    let onward = expired.body["metadata"]["continue"].as_str().unwrap();
    let rest = w.get(&format!("{MAPS}?continue={onward}")).await.body;
    assert_eq!(names(&rest), ["c2", "c3", "late"]);

    // Also where nothing of the kind has changed since: what counts is whether the moment is still kept.
    let page = w.get(&format!("{MAPS}?limit=2")).await.body;
    let token = page["metadata"]["continue"].as_str().unwrap();
    w.json("POST", "/api/v1/namespaces", json!({"metadata": {"name": "elsewhere"}})).await;
    assert_eq!(w.get(&format!("{MAPS}?limit=2&continue={token}")).await.code, 200);
    w.store.compact(w.store.revision()).await.unwrap();
    assert_eq!(w.get(&format!("{MAPS}?limit=2&continue={token}")).await.code, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_deleted_by_selector() {
    let w = world().await;
    for n in 0..6 {
        w.config_map(&format!("c{n}"), json!({"odd": (n % 2).to_string()})).await;
    }
    let gone = w.json("DELETE", &format!("{MAPS}?labelSelector=odd%3D1"), json!({})).await;
    assert_eq!((gone.code, names(&gone.body)), (200, vec!["c1".into(), "c3".into(), "c5".into()]));
    assert_eq!(names(&w.get(MAPS).await.body), ["c0", "c2", "c4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_forms() {
    let w = world().await;
    w.config_map("a", json!({})).await;
    let ask = async |path: &str, accept: &str| {
        let request = Request::builder().uri(path).header("accept", accept).body(full("")).unwrap();
        let response = w.raw(request).await;
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    let table = ask(MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await;
    assert_eq!((table["kind"].as_str(), table["rows"][0]["cells"][0].as_str()), (Some("Table"), Some("a")));
    let list = ask(MAPS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["kind"], "PartialObjectMetadata");
    let one = ask(&format!("{MAPS}/a"), "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await;
    assert_eq!(one["metadata"]["name"], "a");
    assert_eq!(ask(MAPS, "text/html").await["code"], 406);
}

struct Panics;

#[async_trait]
impl Handler for Panics {
    async fn handle(&self, _: Exchange) -> Result<Response<Body>, Status> {
        panic!("on purpose")
    }
}

struct Waits;

#[async_trait]
impl Handler for Waits {
    async fn handle(&self, _: Exchange) -> Result<Response<Body>, Status> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_panic_or_never_end_are_answered_for() {
    let mut handlers = Handlers::default();
    handlers.path("/panics", Arc::new(Panics)).path("/waits", Arc::new(Waits));
    let limits = Limits { timeout: std::time::Duration::from_millis(50), reading: 1, ..Limits::default() };
    let w = Arc::new(world_with(limits, handlers).await);
    let panicked = w.get("/panics").await;
    assert_eq!((panicked.code, panicked.body["reason"].as_str().unwrap()), (500, "InternalError"));
    let waiting = w.get("/waits").await;
    assert_eq!((waiting.code, waiting.body["reason"].as_str().unwrap()), (504, "Timeout"));
    let (one, two) = tokio::join!(w.get("/waits"), w.get("/waits"));
    let mut codes = [one.code, two.code];
    codes.sort_unstable();
    assert_eq!(codes, [429, 504]);
}
