//! Watches: over HTTP lines and in process.

use super::{World, version, world};
use crate::hooks::full;
use crate::request::UserInfo;
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skep_client::{Collection, ListOptions, WatchEvent, WatchOptions};
use std::sync::Arc;

const MAPS: &str = "/api/v1/namespaces/d/configmaps";

/// An open watch over HTTP, line by line.
struct Lines {
    body: crate::Body,
    rest: Vec<u8>,
}

impl Lines {
    async fn open(w: &World, query: &str) -> Lines {
        let request = Request::builder().uri(format!("{MAPS}?watch=true&{query}")).body(full("")).unwrap();
        let response = w.raw(request).await;
        assert_eq!(response.status(), 200);
        Lines { body: response.into_body(), rest: Vec::new() }
    }

    /// The next event; none at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.rest.extend_from_slice(frame.data_ref().unwrap());
        }
    }

    async fn told(&mut self) -> (String, String) {
        let event = self.next().await.unwrap();
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        (event["type"].as_str().unwrap().to_owned(), name.to_owned())
    }
}

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.into(), name.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_where_it_is_told_to() {
    let w = world().await;
    let first = version(&w.config_map("a", json!({})).await.body);
    let second = version(&w.config_map("b", json!({})).await.body);
    let mut after = Lines::open(&w, &format!("resourceVersion={first}")).await;
    assert_eq!(after.told().await, pair("ADDED", "b"));
    let mut present = Lines::open(&w, "").await;
    assert_eq!(present.told().await, pair("ADDED", "a"));
    assert_eq!(present.told().await, pair("ADDED", "b"));
    let mut now = Lines::open(&w, "sendInitialEvents=false&resourceVersionMatch=NotOlderThan").await;
    w.json("DELETE", &format!("{MAPS}/a"), json!({})).await;
    for lines in [&mut after, &mut present, &mut now] {
        let event = lines.next().await.unwrap();
        assert_eq!(
            (event["type"].as_str(), event["object"]["metadata"]["name"].as_str()),
            (Some("DELETED"), Some("a"))
        );
        assert!(version(&event["object"]) > second, "a deletion has a revision of its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streaming_list_ends_with_its_bookmark() {
    let w = world().await;
    w.config_map("a", json!({})).await;
    let last = version(&w.config_map("b", json!({})).await.body);
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(&w, query).await;
    assert_eq!(lines.told().await, pair("ADDED", "a"));
    assert_eq!(lines.told().await, pair("ADDED", "b"));
    let mark = lines.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["kind"], "ConfigMap");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert!(version(&mark["object"]) >= last);
    w.config_map("c", json!({})).await;
    assert_eq!(lines.told().await, pair("ADDED", "c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_a_selector_is_deleted_for_it() {
    let w = world().await;
    let start = w.store.revision();
    let mut lines =
        Lines::open(&w, &format!("labelSelector=in%3Dyes&resourceVersion={}", start.max(1))).await;
    let label = async |value: &str| {
        let body = json!({"metadata": {"labels": {"in": value}}}).to_string();
        w.ask("PATCH", &format!("{MAPS}/a"), "application/merge-patch+json", body).await
    };
    w.config_map("a", json!({"in": "no"})).await;
    label("yes").await;
    w.ask("PATCH", &format!("{MAPS}/a"), "application/merge-patch+json", r#"{"data":{"k":"v"}}"#).await;
    let left = label("no").await;
    label("yes").await;
    w.json("DELETE", &format!("{MAPS}/a"), json!({})).await;
    assert_eq!(lines.told().await, pair("ADDED", "a"));
    assert_eq!(lines.told().await, pair("MODIFIED", "a"));
    let gone = lines.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(version(&gone["object"]), version(&left.body), "told at the revision at which it left");
    assert_eq!(gone["object"]["metadata"]["labels"]["in"], "yes", "as it last was inside");
    assert_eq!(lines.told().await, pair("ADDED", "a"));
    assert_eq!(lines.told().await, pair("DELETED", "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_see_every_change_once_and_in_order() {
    let w = Arc::new(world().await);
    w.config_map("seed", json!({})).await;
    let client = w.server.local_client(UserInfo::new("watcher", &[]));
    let maps = Collection::core("configmaps").within("d");
    let begin = w.store.revision();
    const WRITERS: usize = 6;
    const ROUNDS: usize = 20;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..WRITERS {
        let w = w.clone();
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                w.config_map(&format!("w{n}-{round}"), json!({})).await;
                let body = r#"{"data":{"k":"v"}}"#;
                w.ask("PATCH", &format!("{MAPS}/w{n}-{round}"), "application/merge-patch+json", body).await;
                w.json("DELETE", &format!("{MAPS}/w{n}-{round}"), json!({})).await;
            }
        });
    }
    let options = WatchOptions { revision: Some(begin), ..WatchOptions::default() };
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(client.watch(&maps, &options).await.unwrap());
    }
    tasks.join_all().await;
    for mut watch in watches {
        let mut last = begin;
        let mut state = std::collections::BTreeMap::<String, u32>::new();
        for _ in 0..WRITERS * ROUNDS * 3 {
            let (object, step) = match watch.next().await.unwrap().unwrap() {
                WatchEvent::Added(object) => (object, 1),
                WatchEvent::Modified(object) => (object, 2),
                WatchEvent::Deleted(object) => (object, 3),
                WatchEvent::Bookmark { .. } => panic!("no bookmark was asked for"),
            };
            assert!(object.revision() > last, "revisions only grow");
            last = object.revision();
            let seen = state.entry(object.meta().name.to_string()).or_default();
            assert_eq!(*seen + 1, step, "{}", object.meta().name);
            *seen = step;
        }
        assert!(state.values().all(|step| *step == 3) && state.len() == WRITERS * ROUNDS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_is_shared_by_all_in_the_process() {
    let w = world().await;
    w.config_map("a", json!({})).await;
    let client = w.server.local_client(UserInfo::new("someone", &[]));
    let maps = Collection::core("configmaps");
    let list = client.list(&maps, &ListOptions::default()).await.unwrap();
    let got = client.get(&maps.item("d", "a")).await.unwrap();
    let mut watch = client.watch(&maps, &WatchOptions::default()).await.unwrap();
    let WatchEvent::Added(watched) = watch.next().await.unwrap().unwrap() else { panic!("not added") };
    assert!(Arc::ptr_eq(&list.items[0], &got) && Arc::ptr_eq(&got, &watched));
    let nobody = w.server.local_client(UserInfo::new("nobody", &[]));
    assert_eq!(nobody.get(&maps.item("d", "a")).await.unwrap_err().code, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_old_is_an_error_event_and_the_time_ends_a_watch() {
    let w = world().await;
    for n in 0..3 {
        w.config_map(&format!("c{n}"), json!({})).await;
    }
    // A server that starts now knows nothing of what was before.
    let caches =
        crate::cache::Caches::start(w.store.clone(), w.server.registry().caches().table()).await.unwrap();
    let cache = caches.cache(&skep_api::GroupResource::new("", "configmaps")).unwrap();
    assert!(cache.watch(1).is_none());
    let registry = crate::registry::Registry::new(caches, Arc::new(super::Open), crate::Handlers::default());
    let table = w.server.registry().caches().table();
    let row = table.get("", "v1", "configmaps").unwrap();
    let query = crate::registry::WatchQuery {
        namespace: String::new(),
        selection: Default::default(),
        begin: crate::registry::Begin::After(1),
        mark_initial_end: false,
        bookmarks: false,
        timeout: std::time::Duration::from_secs(60),
    };
    let mut old = registry.watch(row, query).await.unwrap();
    let status = old.next().await.unwrap().unwrap_err();
    assert!(status.is_expired() && status.message.starts_with("too old resource version: 1 ("), "{status:?}");

    let mut short =
        Lines::open(&w, "timeoutSeconds=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan").await;
    assert!(short.next().await.is_none());
}
