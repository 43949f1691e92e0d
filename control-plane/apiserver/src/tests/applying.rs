//! Server-side apply and field ownership.

use super::{Answer, World, version, world};
use crate::hooks::full;
use crate::request::UserInfo;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skep_client::{Collection, Patch, WriteOptions};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/d/deployments";

fn deployment(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "a"}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    })
}

impl World {
    async fn apply(&self, query: &str, body: impl Into<bytes::Bytes>) -> Answer {
        self.ask("PATCH", &format!("{DEPLOYMENTS}/a?{query}"), "application/apply-patch+yaml", body).await
    }

    /// Writes as a user agent.
    async fn as_agent(&self, agent: &str, method: &str, path: &str, kind: &str, body: &Value) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("user-agent", agent)
            .header("content-type", kind)
            .body(full(body.to_string()))
            .unwrap();
        let bytes = self.raw(request).await.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }
}

/// Manager, operation and subresource of each entry.
fn managers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let of = |entry: &Value| ["manager", "operation", "subresource"].map(|key| text(entry, key)).join(" ");
    list.iter().map(|entry| of(entry).trim_end().to_owned()).collect()
}

fn fields<'a>(object: &'a Value, manager: &str) -> &'a Value {
    let list = object["metadata"]["managedFields"].as_array().unwrap();
    &list.iter().find(|entry| entry["manager"] == manager).unwrap()["fieldsV1"]
}

#[tokio::test]
async fn apply_makes_changes_and_takes_away() {
    let w = world().await;
    let yaml = concat!(
        "apiVersion: apps/v1\n",
        "kind: Deployment\n",
        "metadata: {name: a, labels: {x: z}}\n",
        "spec:\n",
        "  replicas: 2\n",
        "  selector: {matchLabels: {app: a}}\n",
        "  template:\n",
        "    metadata: {labels: {app: a}}\n",
        "    spec:\n",
        "      containers:\n",
        "      - {name: c, image: i, ports: [{containerPort: 80}]}\n",
        "      - {name: e, image: j}\n",
    );
    let dry = w.apply("fieldManager=one&dryRun=All", yaml).await;
    assert_eq!((dry.code, w.get(&format!("{DEPLOYMENTS}/a")).await.code), (201, 404), "{}", dry.body);
    let made = w.apply("fieldManager=one", yaml).await;
    assert_eq!(made.code, 201, "{}", made.body);
    assert_eq!(managers(&made.body), ["one Apply"]);
    let containers = &fields(&made.body, "one")["f:spec"]["f:template"]["f:spec"]["f:containers"];
    assert_eq!(
        containers["k:{\"name\":\"c\"}"]["f:ports"],
        json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}})
    );
    // Once more: nothing is written.
    let again = w.apply("fieldManager=one", yaml).await;
    assert_eq!((again.code, version(&again.body)), (200, version(&made.body)));
    assert_eq!(again.body, made.body);
    // What the configuration no longer names goes, defaults come back.
    let less = w.apply("fieldManager=one", deployment(2).to_string()).await;
    assert_eq!(less.code, 200, "{}", less.body);
    assert_eq!(less.body["metadata"].get("labels"), None);
    let list = less.body["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!((list.len(), list[0].get("ports")), (1, None));
    assert_eq!(less.body["metadata"]["generation"], 2);
}

#[tokio::test]
async fn two_appliers_and_a_conflict() {
    let w = world().await;
    w.apply("fieldManager=one", deployment(2).to_string()).await;
    let mine = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 5}});
    let refused = w.apply("fieldManager=two", mine.to_string()).await;
    assert_eq!((refused.code, refused.body["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(
        refused.body["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas"
    );
    assert_eq!(
        refused.body["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.replicas"}])
    );
    let forced = w.apply("fieldManager=two&force=true", mine.to_string()).await;
    assert_eq!((forced.code, forced.body["spec"]["replicas"].as_u64()), (200, Some(5)));
    assert_eq!(fields(&forced.body, "two"), &json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(fields(&forced.body, "one")["f:spec"].get("f:replicas"), None);
    let wrong = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
    let wrong = w.apply("fieldManager=two", wrong.to_string()).await;
    assert_eq!((wrong.code, &wrong.body["message"]), (400, &json!("invalid object type: /v1, Kind=Pod")));
}

#[tokio::test]
async fn every_write_is_recorded() {
    let w = world().await;
    let json = "application/json";
    let made = w.as_agent("kubectl-create/v1 (linux)", "POST", DEPLOYMENTS, json, &deployment(1)).await;
    assert_eq!(managers(&made), ["kubectl-create Update"]);
    let spec = &fields(&made, "kubectl-create")["f:spec"];
    assert_eq!((&spec["f:selector"], &spec["f:revisionHistoryLimit"]), (&json!({}), &json!({})));
    assert_eq!(fields(&made, "kubectl-create").get("f:metadata"), None);
    let one = format!("{DEPLOYMENTS}/a");
    // A tree that is written back as it was read is no change, whoever does it.
    let same = w.as_agent("other/1", "PUT", &one, json, &made).await;
    assert_eq!(same, made);
    // Status and scale are places of their own.
    let mut seen = made.clone();
    seen["status"] = json!({"replicas": 1});
    seen["spec"]["replicas"] = 9.into();
    let seen = w.as_agent("watcher/1", "PUT", &format!("{one}/status"), json, &seen).await;
    assert_eq!(fields(&seen, "watcher"), &json!({"f:status": {"f:replicas": {}}}));
    let merge = "application/merge-patch+json";
    let scale = json!({"spec": {"replicas": 3}});
    w.as_agent("scaler/1", "PATCH", &format!("{one}/scale?fieldManager=me"), merge, &scale).await;
    let now = w.get(&one).await.body;
    let mut all = managers(&now);
    all.sort();
    assert_eq!(all, ["kubectl-create Update", "me Update scale", "watcher Update status"]);
    assert_eq!(fields(&now, "me"), &json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(fields(&now, "kubectl-create")["f:spec"].get("f:replicas"), None);
    let refused = w.apply("fieldManager=two", deployment(1).to_string()).await;
    assert_eq!(
        refused.body["message"],
        "Apply failed with 1 conflict: conflict with \"me\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    // All of it can be given up.
    for reset in [json!([]), json!([{}])] {
        let bare =
            w.as_agent("x/1", "PATCH", &one, merge, &json!({"metadata": {"managedFields": reset}})).await;
        assert_eq!(bare["metadata"].get("managedFields"), None, "{reset}");
    }
    let after = w.apply("fieldManager=two", json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "labels": {"x": "y"}},
    }).to_string()).await;
    assert_eq!(managers(&after.body), ["two Apply", "before-first-apply Update"]);
}

#[tokio::test]
async fn clients_in_the_process_have_names() {
    let w = world().await;
    let user = UserInfo::new("system:serviceaccount:kube-system:deployment-controller", &[]);
    let client = w.server.local_client(user);
    let target = Collection::of("apps", "v1", "deployments").item("d", "a");
    let patch = Patch::Apply(deployment(1));
    let refused = client.patch(&target, &patch, &WriteOptions::default()).await.unwrap_err();
    assert_eq!(refused.code, 422);
    let options = WriteOptions { field_manager: Some("me".into()), ..WriteOptions::default() };
    client.patch(&target, &patch, &options).await.unwrap();
    let labels = Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}}));
    let labelled = client.patch(&target, &labels, &WriteOptions::default()).await.unwrap();
    assert_eq!(managers(&labelled.value()), ["me Apply", "kube-controller-manager Update"]);
}
