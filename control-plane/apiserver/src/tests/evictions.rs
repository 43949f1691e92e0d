//! Evictions, and the budgets that refuse them.

use super::{World, world_with};
use crate::Handlers;
use crate::server::Limits;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/d/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/d/poddisruptionbudgets";

async fn cluster() -> World {
    let mut handlers = Handlers::default();
    crate::subresources::register(&mut handlers);
    world_with(Limits::default(), handlers).await
}

async fn patch(world: &World, path: &str, body: Value) {
    let answer = world.ask("PATCH", path, "application/merge-patch+json", body.to_string()).await;
    assert_eq!(answer.code, 200, "{}", answer.body);
}

/// A pod that runs, ready or not.
async fn pod(world: &World, name: &str, ready: bool) {
    let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "web:1"}]}});
    let answer = world.json("POST", PODS, body).await;
    assert_eq!(answer.code, 201, "{}", answer.body);
    let ready = if ready { "True" } else { "False" };
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]});
    patch(world, &format!("{PODS}/{name}/status"), json!({"status": status})).await;
}

async fn budget(world: &World, name: &str, allowed: i64) {
    let body = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    let answer = world.json("POST", BUDGETS, body).await;
    assert_eq!(answer.code, 201, "{}", answer.body);
    allow(world, name, allowed).await;
}

async fn allow(world: &World, name: &str, allowed: i64) {
    let status = json!({"observedGeneration": 1, "currentHealthy": 1 + allowed, "desiredHealthy": 1,
        "expectedPods": 2, "disruptionsAllowed": allowed});
    patch(world, &format!("{BUDGETS}/{name}/status"), json!({"status": status})).await;
}

async fn evict(world: &World, name: &str, query: &str, options: Value) -> (u16, Value) {
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name},
        "deleteOptions": options});
    let answer = world.json("POST", &format!("{PODS}/{name}/eviction{query}"), body).await;
    (answer.code, answer.body)
}

#[tokio::test]
async fn a_budget_is_charged_and_then_refuses() {
    let world = cluster().await;
    pod(&world, "a", true).await;
    pod(&world, "b", true).await;
    budget(&world, "pdb", 1).await;
    let (code, _) = evict(&world, "a", "?dryRun=All", Value::Null).await;
    assert_eq!(code, 201);
    assert_eq!(world.get(&format!("{PODS}/a")).await.code, 200, "a dry run deletes nothing");
    let (code, body) = evict(&world, "a", "", Value::Null).await;
    assert_eq!((code, &body["status"]), (201, &json!("Success")), "{body}");
    assert_eq!(world.get(&format!("{PODS}/a")).await.code, 404);
    let status = world.get(&format!("{BUDGETS}/pdb")).await.body["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert!(status["disruptedPods"].get("a").is_some());
    allow(&world, "pdb", 0).await;
    let (code, body) = evict(&world, "b", "", Value::Null).await;
    assert_eq!((code, &body["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(body["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_eq!(
        body["details"]["causes"],
        json!([{"reason": "DisruptionBudget", "message": "The disruption budget pdb needs 1 healthy pods and has 1 currently"}])
    );
    assert_eq!(world.get(&format!("{PODS}/b")).await.code, 200);
}

#[tokio::test]
async fn pods_that_count_for_nothing_go_without_a_charge() {
    let world = cluster().await;
    pod(&world, "sick", false).await;
    budget(&world, "pdb", 0).await;
    let (code, body) = evict(&world, "sick", "", Value::Null).await;
    assert_eq!(code, 201, "{body}");
    pod(&world, "done", true).await;
    patch(&world, &format!("{PODS}/done/status"), json!({"status": {"phase": "Failed"}})).await;
    let (code, body) = evict(&world, "done", "", Value::Null).await;
    assert_eq!(code, 201, "{body}");
    let status = world.get(&format!("{BUDGETS}/pdb")).await.body["status"].clone();
    assert!(status.get("disruptedPods").is_none(), "{status}");
}

#[tokio::test]
async fn preconditions_and_several_budgets() {
    let world = cluster().await;
    pod(&world, "a", true).await;
    let (code, body) = evict(&world, "a", "", json!({"preconditions": {"uid": "other"}})).await;
    assert_eq!((code, &body["reason"]), (409, &json!("Conflict")), "{body}");
    budget(&world, "one", 1).await;
    budget(&world, "two", 1).await;
    let (code, body) = evict(&world, "a", "", Value::Null).await;
    assert_eq!(code, 500, "{body}");
    assert!(body["message"].as_str().unwrap().starts_with("This pod has more than one"));
    assert_eq!(evict(&world, "nobody", "", Value::Null).await.0, 404);
}
