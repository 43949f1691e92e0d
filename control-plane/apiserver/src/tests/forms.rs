//! Answers in protobuf and YAML, as tables and as metadata alone.

use super::{World, world};
use crate::hooks::full;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skep_api::{protobuf, yaml};

const MAPS: &str = "/api/v1/namespaces/d/configmaps";
const PB: &str = protobuf::MEDIA_TYPE;
const SLIM: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

async fn send(w: &World, method: &str, path: &str, accept: &str, body: Vec<u8>) -> Response<crate::Body> {
    let request = Request::builder().method(method).uri(path).header("accept", accept);
    let kind = if body.starts_with(&protobuf::MAGIC) { PB } else { "application/json" };
    w.raw(request.header("content-type", kind).body(full(body)).unwrap()).await
}

/// The code, media type and bytes of an answer.
async fn ask(w: &World, method: &str, path: &str, accept: &str, body: Vec<u8>) -> (u16, String, Vec<u8>) {
    let (parts, body) = send(w, method, path, accept, body).await.into_parts();
    let kind = parts.headers["content-type"].to_str().unwrap().to_owned();
    (parts.status.as_u16(), kind, body.collect().await.unwrap().to_bytes().to_vec())
}

async fn read(w: &World, path: &str) -> Value {
    let (_, kind, bytes) = ask(w, "GET", path, PB, Vec::new()).await;
    assert_eq!(kind, PB, "{path}");
    protobuf::decode(&bytes).unwrap().value
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"a": name}}, "data": {"k": "v"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_lists_and_statuses_say_the_same_in_protobuf() {
    let w = world().await;
    let body = protobuf::tree(&map("a")).unwrap();
    let (code, kind, bytes) = ask(&w, "POST", MAPS, PB, body).await;
    assert_eq!((code, kind.as_str()), (201, PB));
    assert_eq!(protobuf::tree(&w.get(&format!("{MAPS}/a")).await.body).unwrap(), bytes);
    for n in 0..40 {
        let mut big = map(&format!("m{n}"));
        big["data"]["k"] = "x".repeat(4000).into();
        assert_eq!(w.json("POST", MAPS, big).await.code, 201);
    }
    for path in [
        format!("{MAPS}/a"),
        MAPS.to_owned(),
        format!("{MAPS}?limit=1"),
        format!("{MAPS}?labelSelector=a%3Dnone"),
        format!("{MAPS}/none"),
        "/api/v1/namespaces/d/nothing".to_owned(),
    ] {
        let plain = w.get(&path).await.body;
        let (_, kind, bytes) = ask(&w, "GET", &path, PB, Vec::new()).await;
        assert_eq!(kind, PB, "{path}");
        assert_eq!(protobuf::tree(&plain).unwrap(), bytes, "{path}");
    }
    let patched = ask(&w, "PUT", &format!("{MAPS}/a"), PB, map("a").to_string().into()).await;
    assert_eq!((patched.0, patched.1.as_str()), (200, PB));
    let gone = ask(&w, "DELETE", &format!("{MAPS}/a"), PB, Vec::new()).await;
    assert_eq!(protobuf::decode(&gone.2).unwrap().value["status"], "Success");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_lists_tables_and_statuses_in_yaml() {
    let w = world().await;
    let (code, kind, bytes) = ask(&w, "POST", MAPS, "application/yaml", map("a").to_string().into()).await;
    assert_eq!((code, kind.as_str()), (201, "application/yaml"));
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("apiVersion: v1\ndata:\n  k: v\nkind: ConfigMap\nmetadata:\n"), "{text}");
    w.json("POST", MAPS, map("yes")).await;
    for (path, form) in [
        (format!("{MAPS}/yes"), ""),
        (format!("{MAPS}/yes?pretty=true"), ""),
        (MAPS.to_owned(), ""),
        (format!("{MAPS}/none"), ""),
        ("/api/v1".to_owned(), ""),
        (MAPS.to_owned(), ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
        (MAPS.to_owned(), ";as=Table;g=meta.k8s.io;v=v1"),
    ] {
        let (_, _, json) = ask(&w, "GET", &path, &format!("application/json{form}"), Vec::new()).await;
        let (_, kind, bytes) = ask(&w, "GET", &path, &format!("application/yaml{form}"), Vec::new()).await;
        assert_eq!(kind, "application/yaml", "{path}{form}");
        let tree: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), String::from_utf8(yaml::document(&tree)).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_alone() {
    let w = world().await;
    w.config_map("a", json!({"x": "y"})).await;
    let whole = w.get(&format!("{MAPS}/a")).await.body;
    let (_, kind, bytes) = ask(&w, "GET", &format!("{MAPS}/a"), SLIM, Vec::new()).await;
    let want = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": whole["metadata"]});
    assert_eq!((kind.as_str(), bytes), (PB, protobuf::tree(&want).unwrap()));
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let (_, _, json) = ask(&w, "GET", MAPS, accept, Vec::new()).await;
    let list: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&list["kind"], &list["items"][0]), (&json!("PartialObjectMetadataList"), &want));
    let accept = accept.replace("application/json", PB);
    let (_, kind, bytes) = ask(&w, "GET", MAPS, &accept, Vec::new()).await;
    assert_eq!((kind.as_str(), bytes), (PB, protobuf::tree(&list).unwrap()));
    // What is asked for is what is there: one, or a list.
    for (path, accept) in [(MAPS, SLIM.to_owned()), (&format!("{MAPS}/a"), accept)] {
        assert_eq!(ask(&w, "GET", path, &accept, Vec::new()).await.0, 406, "{path}");
    }
    let beta = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1beta1";
    let (_, _, json) = ask(&w, "GET", &format!("{MAPS}/a"), beta, Vec::new()).await;
    assert_eq!(serde_json::from_slice::<Value>(&json).unwrap()["apiVersion"], "meta.k8s.io/v1beta1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_such_form_is_not_given_in_it() {
    let w = world().await;
    w.config_map("a", json!({})).await;
    let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1";
    let (code, kind, _) = ask(&w, "GET", MAPS, table, Vec::new()).await;
    assert_eq!((code, kind.as_str()), (406, "application/json"));
    let both = format!("{table},application/json;as=Table;g=meta.k8s.io;v=v1");
    let (code, kind, body) = ask(&w, "GET", MAPS, &both, Vec::new()).await;
    assert_eq!((code, kind.as_str()), (200, "application/json"));
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["kind"], "Table");
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let body =
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}});
    let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
    assert_eq!(ask(&w, "POST", review, accept, body.to_string().into()).await.0, 406);
    let watch = format!("{MAPS}?watch=1");
    assert_eq!(ask(&w, "GET", &watch, "application/yaml", Vec::new()).await.0, 406);
    assert_eq!(ask(&w, "GET", MAPS, "application/cbor", Vec::new()).await.0, 406);
    assert_eq!(ask(&w, "GET", MAPS, "application/cbor,application/json", Vec::new()).await.0, 200);
    for (method, path) in [("HEAD", MAPS), ("OPTIONS", MAPS), ("PUT", MAPS), ("POST", &format!("{MAPS}/a"))] {
        let (code, _, body) = ask(&w, method, path, "application/json", Vec::new()).await;
        let message = "the server does not allow this method on the requested resource";
        assert_eq!((code, String::from_utf8(body).unwrap().contains(message)), (405, true), "{method}");
    }
}

/// The events of a protobuf watch.
struct Frames {
    body: crate::Body,
    rest: Vec<u8>,
}

impl Frames {
    async fn open(w: &World, query: &str, accept: &str) -> Frames {
        let response = send(w, "GET", &format!("{MAPS}?watch=true&{query}"), accept, Vec::new()).await;
        assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
        Frames { body: response.into_body(), rest: Vec::new() }
    }

    /// The next event's type and object.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((length, rest)) = self.rest.split_first_chunk() {
                let length = u32::from_be_bytes(*length) as usize;
                if rest.len() >= length {
                    // A watch event has no envelope: one is put around it to read it.
                    let (mut event, after) = protobuf::envelope("v1", "WatchEvent", length);
                    event.extend_from_slice(&rest[..length]);
                    event.extend_from_slice(after);
                    self.rest.drain(..4 + length);
                    let event = protobuf::decode(&event).unwrap().value;
                    return (event["type"].as_str().unwrap().to_owned(), event["object"].clone());
                }
            }
            let frame = self.body.frame().await.unwrap().unwrap();
            self.rest.extend_from_slice(frame.data_ref().unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_in_protobuf() {
    let w = world().await;
    w.config_map("a", json!({})).await;
    let stream = format!("{PB};stream=watch");
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut all = Frames::open(&w, query, &stream).await;
    let (kind, object) = all.next().await;
    assert_eq!((kind.as_str(), &object), ("ADDED", &read(&w, &format!("{MAPS}/a")).await));
    let (kind, object) = all.next().await;
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(object["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    assert_eq!(object["kind"], "ConfigMap");
    let mut some = Frames::open(&w, "labelSelector=a%3Db", &stream).await;
    let mut slim = Frames::open(&w, "resourceVersion=0", &format!("{SLIM};stream=watch")).await;
    assert_eq!(slim.next().await.1["metadata"]["name"], "a");
    let mut made = w.config_map("b", json!({"a": "b"})).await.body;
    let whole = read(&w, &format!("{MAPS}/b")).await;
    assert_eq!(all.next().await, ("ADDED".into(), whole.clone()));
    assert_eq!(some.next().await, ("ADDED".into(), whole.clone()));
    let (_, object) = slim.next().await;
    assert_eq!((&object["kind"], &object["metadata"]), (&json!("PartialObjectMetadata"), &whole["metadata"]));
    // It leaves the selection: told as it was, at the revision at which it left.
    made["metadata"]["labels"] = json!({});
    let newer = w.json("PUT", &format!("{MAPS}/b"), made).await.body;
    let (kind, object) = some.next().await;
    assert_eq!((kind.as_str(), &object["metadata"]["labels"]), ("DELETED", &json!({"a": "b"})));
    assert_eq!(object["metadata"]["resourceVersion"], newer["metadata"]["resourceVersion"]);
    assert_eq!(all.next().await.0, "MODIFIED");
    w.json("DELETE", &format!("{MAPS}/b"), json!({})).await;
    let (kind, object) = all.next().await;
    assert_eq!((kind.as_str(), &object["metadata"]["name"]), ("DELETED", &json!("b")));
    let mut future = Frames::open(&w, "resourceVersion=1", &stream).await;
    w.config_map("c", json!({})).await;
    let first = future.next().await;
    assert!(first.0 == "ADDED" || first.1["reason"] == "Expired", "{first:?}");
}
