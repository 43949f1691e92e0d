//! Resources that come and go while the server runs, and kinds that are served in several versions.

use super::{World, names, version, world};
use crate::cache::store_key;
use crate::registry::{Begin, Told, WatchQuery};
use serde_json::{Value, json};
use skep_api::kinds::ResourceTable;
use skep_api::resource::{Pure, Stored};
use skep_api::{GroupResource, GroupVersionKind, Resource};
use skep_store::{Op, Txn};
use std::sync::Arc;
use std::time::Duration;

/// A kind like ConfigMap, of a group of its own.
fn widgets(version: &'static str) -> Resource {
    let table = ResourceTable::builtin();
    let like = table.get("", "v1", "configmaps").unwrap();
    Resource {
        gvk: GroupVersionKind::new("example.com", version, "Widget"),
        plural: "widgets".into(),
        singular: "widget".into(),
        short_names: Vec::new(),
        ..Resource::clone(like)
    }
}

/// Version `v2` of the widgets: what lies in `data.size` is served as `data.length`, by which it can be selected.
fn widgets_v2() -> Resource {
    fn renamed(mut object: Value, version: &str, from: &str, to: &str) -> Value {
        object["apiVersion"] = format!("example.com/{version}").into();
        if let Some(data) = object.get_mut("data").and_then(Value::as_object_mut)
            && let Some(value) = data.remove(from)
        {
            data.insert(to.into(), value);
        }
        object
    }
    let pure = Pure {
        to_served: |object| renamed(object, "v2", "size", "length"),
        to_stored: |object| renamed(object, "v1", "length", "size"),
    };
    Resource {
        stored: Some(Stored::new(
            GroupResource::new("example.com", "widgets"),
            widgets("v1").gvk,
            Arc::new(pure),
        )),
        selectable_fields: vec!["data.length".into()],
        ..widgets("v2")
    }
}

fn path(version: &str, name: &str) -> String {
    format!("/apis/example.com/{version}/namespaces/d/widgets{name}")
}

fn widget(version: &str, name: &str, data: Value) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": name}, "data": data})
}

async fn serve(w: &World, rows: Vec<Resource>) {
    let caches = w.server.registry().caches().clone();
    tokio::task::spawn_blocking(move || caches.change_table(|table| table.with(rows)))
        .await
        .unwrap()
        .unwrap();
}

fn withdraw(w: &World, version: &str) {
    let keep = |row: &Resource| row.gvk.group != "example.com" || row.gvk.version != version;
    w.server.registry().caches().change_table(|table| table.retain(keep)).unwrap();
}

async fn watch(w: &World, version: &str, begin: Begin) -> crate::registry::Watch {
    let row = w.server.registry().caches().row("example.com", version, "widgets").unwrap();
    let query = WatchQuery {
        namespace: String::new(),
        selection: Default::default(),
        begin,
        mark_initial_end: false,
        bookmarks: false,
        timeout: Duration::from_secs(60),
    };
    w.server.registry().watch(&row, query).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_comes_is_complete_however_busy_the_store_is() {
    let w = world().await;
    // A store without any write has no revision that a watch could begin after.
    w.config_map("first", json!({})).await;
    let resource = GroupResource::new("example.com", "widgets");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, resource, stopped) = (w.store.clone(), resource.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut rounds = 0_u32;
                while !*stopped.borrow() {
                    for name in 0..5 {
                        let key = store_key(&resource, "d", &format!("w{writer}-{name}"));
                        let body =
                            widget("v1", &format!("w{writer}-{name}"), json!({"size": rounds.to_string()}));
                        let value = skep_api::Object::canonical(body).unwrap();
                        let op = if rounds % 3 == 2 {
                            Op::Delete { key: key.into() }
                        } else {
                            Op::Put { key: key.into(), value }
                        };
                        store.txn(Txn { compare: vec![], ops: vec![op] }).await.unwrap();
                    }
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    for _ in 0..20 {
        serve(&w, vec![widgets("v1")]).await;
        let listed = w.get(&path("v1", "")).await;
        assert_eq!(listed.code, 200, "{}", listed.body);
        // From this list on, the watch tells every change: applied to it they make what the next list shows.
        let mut state: std::collections::BTreeMap<String, u64> = listed.body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), version(item)))
            .collect();
        let mut watch = watch(&w, "v1", Begin::After(version(&listed.body))).await;
        let mut told = 0;
        while told < 40 {
            for one in watch.next().await.unwrap().unwrap() {
                told += 1;
                match one {
                    Told::Added(o, _) => {
                        assert!(state.insert(o.meta().name.to_string(), o.revision()).is_none())
                    }
                    Told::Modified(o, _) => {
                        assert!(
                            state.insert(o.meta().name.to_string(), o.revision()).unwrap() < o.revision()
                        );
                    }
                    Told::Deleted(o, _) => assert!(state.remove(&*o.meta().name).is_some()),
                    Told::Bookmark { .. } => unreachable!("none was asked for"),
                }
            }
        }
        withdraw(&w, "v1");
        assert_eq!(w.get(&path("v1", "")).await.code, 404);
    }
    stop.send(true).unwrap();
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    serve(&w, vec![widgets("v1")]).await;
    let cached = names(&w.get(&path("v1", "?resourceVersion=0")).await.body);
    let prefix = crate::cache::prefix_of(&resource);
    let stored =
        w.store.range(prefix.as_bytes(), &skep_store::prefix_end(prefix.as_bytes()), 0, None).unwrap();
    assert_eq!(cached.len(), stored.kvs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_a_resource_that_goes_are_told_everything_and_end() {
    let w = world().await;
    serve(&w, vec![widgets("v1")]).await;
    let mut running = watch(&w, "v1", Begin::Latest).await;
    assert_eq!(w.json("POST", &path("v1", ""), widget("v1", "a", json!({}))).await.code, 201);
    withdraw(&w, "v1");
    let told = running.next().await.unwrap().unwrap();
    assert!(matches!(&told[..], [Told::Added(object, _)] if &*object.meta().name == "a"));
    assert!(running.next().await.is_none());

    // A row that is replaced ends the watches of the one before, for they would go on in its words.
    serve(&w, vec![widgets("v1")]).await;
    let mut running = watch(&w, "v1", Begin::Now).await;
    serve(&w, vec![widgets("v1")]).await;
    assert!(running.next().await.is_none());
    // What others do does not concern it.
    let mut maps = w.server.registry().caches().table_changes();
    let running = tokio::spawn({
        let mut watch = watch(&w, "v1", Begin::Now).await;
        async move { watch.next().await.unwrap().unwrap().len() }
    });
    serve(
        &w,
        vec![Resource { gvk: GroupVersionKind::new("other.example.com", "v1", "Widget"), ..widgets("v1") }],
    )
    .await;
    maps.changed().await.unwrap();
    assert_eq!(w.json("POST", &path("v1", ""), widget("v1", "b", json!({}))).await.code, 201);
    assert_eq!(running.await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_share_their_objects_and_each_shows_its_own_form() {
    let w = world().await;
    serve(&w, vec![widgets("v1"), widgets_v2()]).await;
    let mut first = watch(&w, "v1", Begin::Latest).await;
    let mut second = watch(&w, "v2", Begin::Latest).await;
    let made = w.json("POST", &path("v2", ""), widget("v2", "a", json!({"length": "3"}))).await;
    assert_eq!((made.code, &made.body["data"]), (201, &json!({"length": "3"})));
    assert_eq!(made.body["apiVersion"], "example.com/v2");
    let old = w.get(&path("v1", "/a")).await.body;
    assert_eq!((old["apiVersion"].as_str(), &old["data"]), (Some("example.com/v1"), &json!({"size": "3"})));
    assert_eq!(version(&old), version(&made.body));

    // It lies in the first version, once.
    let key = store_key(&GroupResource::new("example.com", "widgets"), "d", "a");
    let stored: Value = serde_json::from_slice(&w.store.get(key.as_bytes()).unwrap().value).unwrap();
    assert_eq!((&stored["apiVersion"], &stored["data"]), (&json!("example.com/v1"), &json!({"size": "3"})));

    // Each can be changed in either form.
    let patch = json!({"data": {"length": "4"}}).to_string();
    let patched = w.ask("PATCH", &path("v2", "/a"), "application/merge-patch+json", patch).await;
    assert_eq!((patched.code, &patched.body["data"]), (200, &json!({"length": "4"})));
    let mut tree = w.get(&path("v1", "/a")).await.body;
    tree["data"]["size"] = "5".into();
    assert_eq!(w.json("PUT", &path("v1", "/a"), tree).await.body["data"], json!({"size": "5"}));
    assert_eq!(w.get(&path("v2", "/a")).await.body["data"], json!({"length": "5"}));

    // Lists, field selectors and tables are of the version that is asked.
    let none = w.get(&path("v2", "?fieldSelector=data.length%3D4")).await.body;
    let one = w.get(&path("v2", "?fieldSelector=data.length%3D5")).await.body;
    assert_eq!((names(&none).len(), names(&one)), (0, vec!["a".to_owned()]));
    assert_eq!(one["items"][0]["data"], json!({"length": "5"}));
    assert_eq!(w.get(&path("v1", "?fieldSelector=data.length%3D5")).await.code, 400);
    let exact = version(&one);
    let then = w.get(&path("v2", &format!("?resourceVersion={exact}&resourceVersionMatch=Exact"))).await.body;
    assert_eq!(then["items"], one["items"]);

    // A change that changes nothing is none, and a dry run shows the version asked for.
    let same =
        w.ask("PATCH", &path("v2", "/a"), "application/merge-patch+json", r#"{"data":{"length":"5"}}"#).await;
    assert_eq!(version(&same.body), version(&one["items"][0]));
    let dry = w
        .ask(
            "PATCH",
            &path("v2", "/a?dryRun=All"),
            "application/merge-patch+json",
            r#"{"data":{"length":"9"}}"#,
        )
        .await;
    assert_eq!(dry.body["data"], json!({"length": "9"}));

    let gone = w.json("DELETE", &path("v2", "/a"), json!({})).await;
    assert_eq!(gone.code, 200, "{}", gone.body);
    let mut seen = [Vec::new(), Vec::new()];
    for (watch, seen) in [&mut first, &mut second].into_iter().zip(&mut seen) {
        while seen.len() < 4 {
            for told in watch.next().await.unwrap().unwrap() {
                let (word, object) = match told {
                    Told::Added(object, _) => ("ADDED", object),
                    Told::Modified(object, _) => ("MODIFIED", object),
                    Told::Deleted(object, _) => ("DELETED", object),
                    Told::Bookmark { .. } => unreachable!("none was asked for"),
                };
                seen.push(format!("{word} {} {}", object.value()["apiVersion"], object.value()["data"]));
            }
        }
    }
    let want = |version: &str, field: &str| -> Vec<String> {
        [("ADDED", 3), ("MODIFIED", 4), ("MODIFIED", 5), ("DELETED", 5)]
            .map(|(word, n)| format!("{word} \"example.com/{version}\" {{\"{field}\":\"{n}\"}}"))
            .into()
    };
    assert_eq!(seen, [want("v1", "size"), want("v2", "length")]);

    // One version may go while the other stays.
    withdraw(&w, "v2");
    assert_eq!(w.get(&path("v2", "")).await.code, 404);
    assert_eq!(w.get(&path("v1", "")).await.code, 200);
    assert!(second.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_converted_once_is_kept_with_the_object() {
    let w = world().await;
    serve(&w, vec![widgets("v1"), widgets_v2()]).await;
    w.json("POST", &path("v1", ""), widget("v1", "a", json!({"size": "3"}))).await;
    let registry = w.server.registry();
    let row = registry.caches().row("example.com", "v2", "widgets").unwrap();
    registry.caches().fresh().await.unwrap();
    let get = || registry.get(&row, "d", "a", crate::registry::Moment::Latest);
    let (one, other) = (get().await.unwrap(), get().await.unwrap());
    assert!(Arc::ptr_eq(&one, &other));
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_kinds_of_several_versions_share_their_objects() {
    let w = world().await;
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "eventTime": "2026-05-01T11:59:00.000000Z", "reportingController": "skep.dev/agent", "reportingInstance": "n1",
        "action": "Killing", "reason": "Killing", "type": "Normal", "note": "It goes.",
        "regarding": {"kind": "Pod", "name": "web", "namespace": "d"},
    });
    let new = "/apis/events.k8s.io/v1/namespaces/d/events";
    let made = w.json("POST", new, event).await;
    assert_eq!((made.code, &made.body["note"]), (201, &json!("It goes.")), "{}", made.body);
    let core = w.get("/api/v1/namespaces/d/events/e").await.body;
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("It goes."), &json!("web")));
    let found = w
        .get(&format!("{new}?fieldSelector=regarding.name%3Dweb,reportingController%3Dskep.dev/agent"))
        .await;
    assert_eq!(names(&found.body), ["e"]);
    assert_eq!(found.body["items"][0]["regarding"]["name"], "web");
    assert_eq!(w.get(&format!("{new}?fieldSelector=involvedObject.name%3Dweb")).await.code, 400);
    assert_eq!(names(&w.get("/api/v1/events?fieldSelector=involvedObject.name%3Dweb").await.body), ["e"]);
    // The strict rules are those of the group that is asked.
    let patch = r#"{"series":{"count":3,"lastObservedTime":"2026-05-01T12:00:00.000000Z"}}"#;
    let patched = w.ask("PATCH", &format!("{new}/e"), "application/strategic-merge-patch+json", patch).await;
    assert_eq!((patched.code, &patched.body["series"]["count"]), (200, &json!(3)));
    let refused =
        w.ask("PATCH", &format!("{new}/e"), "application/merge-patch+json", r#"{"note":"x"}"#).await;
    assert_eq!(refused.code, 422, "{}", refused.body);
    let told = w
        .ask("PATCH", "/api/v1/namespaces/d/events/e", "application/merge-patch+json", r#"{"message":"x"}"#)
        .await;
    assert_eq!(told.code, 200, "{}", told.body);
    assert_eq!(w.get(&format!("{new}/e")).await.body["note"], "x");

    let scaler = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}, "maxReplicas": 5},
    });
    let (first, second) = (
        "/apis/autoscaling/v1/namespaces/d/horizontalpodautoscalers",
        "/apis/autoscaling/v2/namespaces/d/horizontalpodautoscalers",
    );
    let made = w.json("POST", first, scaler).await;
    assert_eq!(
        (made.code, &made.body["spec"]["targetCPUUtilizationPercentage"]),
        (201, &json!(80)),
        "{}",
        made.body
    );
    let read = w.get(&format!("{second}/web")).await.body;
    assert_eq!(read["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
    let patch = r#"[{"op":"add","path":"/spec/metrics/-","value":{"type":"Resource","resource":{"name":"memory","target":{"type":"Utilization","averageUtilization":50}}}}]"#;
    let patched = w.ask("PATCH", &format!("{second}/web"), "application/json-patch+json", patch).await;
    assert_eq!(patched.code, 200, "{}", patched.body);
    let old = w.get(&format!("{first}/web")).await.body;
    assert!(
        old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"]
            .as_str()
            .unwrap()
            .contains("memory")
    );
    // What the first version keeps in annotations survives a write through it.
    let mut tree = old;
    tree["spec"]["maxReplicas"] = 7.into();
    assert_eq!(w.json("PUT", &format!("{first}/web"), tree).await.code, 200);
    let read = w.get(&format!("{second}/web")).await.body;
    assert_eq!(
        (&read["spec"]["maxReplicas"], read["spec"]["metrics"].as_array().unwrap().len()),
        (&json!(7), 2)
    );
    let bad = w
        .ask(
            "PATCH",
            &format!("{first}/web"),
            "application/merge-patch+json",
            r#"{"spec":{"maxReplicas":0}}"#,
        )
        .await;
    assert_eq!(bad.code, 422);
    let applied = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {"maxReplicas": 9}});
    let conflict = w
        .ask(
            "PATCH",
            &format!("{second}/web?fieldManager=other"),
            "application/apply-patch+yaml",
            applied.to_string(),
        )
        .await;
    assert_eq!(
        conflict.code, 409,
        "the owner of a field in one version owns it in the other: {}",
        conflict.body
    );
}
