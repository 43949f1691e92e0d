//! Definitions and their objects over a real store, asked as clients ask.

mod conversion;
mod definitions;
mod objects;

use crate::tests::{Answer, World, world};
use serde_json::{Value, json};
use skep_api::custom::rules::NoRules;
use std::sync::Arc;
use std::time::Duration;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A world in which definitions are served.
async fn served() -> World {
    let w = world().await;
    super::start(&w.server, Arc::new(NoRules)).await.unwrap();
    w
}

/// A version with a schema of `spec`.
fn version(name: &str, storage: bool, spec: Value) -> Value {
    json!({
        "name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": spec},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }}},
    })
}

/// A definition of `crontabs.GROUP`.
fn crontabs(group: &str, versions: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("crontabs.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "versions": versions,
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"],
                      "categories": ["all"]},
        },
    })
}

fn crontab(group: &str, version: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("{group}/{version}"), "kind": "CronTab", "metadata": {"name": name}, "spec": spec,
    })
}

fn path(group: &str, version: &str, rest: &str) -> String {
    format!("/apis/{group}/{version}/namespaces/d/crontabs{rest}")
}

/// The status of a condition, or nothing.
fn condition(definition: &Value, kind: &str) -> String {
    let conditions = definition.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.into_iter().flatten().find(|c| c["type"] == kind);
    found.map_or_else(String::new, |c| c["status"].as_str().unwrap().to_owned())
}

/// Asks again until the answer is as it should be. The bound only keeps a failure from hanging.
async fn until(w: &World, path: &str, good: impl Fn(&Answer) -> bool) -> Answer {
    let asked = async {
        loop {
            let answer = w.get(path).await;
            if good(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(30), asked).await {
        Ok(answer) => answer,
        Err(_) => panic!("{path} stays {:?}", w.get(path).await),
    }
}

/// Creates a definition and waits until it is established.
async fn define(w: &World, definition: Value) -> Value {
    let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
    let made = w.json("POST", DEFINITIONS, definition).await;
    assert_eq!(made.code, 201, "{}", made.body);
    established(w, &name).await
}

async fn established(w: &World, name: &str) -> Value {
    let path = format!("{DEFINITIONS}/{name}");
    until(w, &path, |a| condition(&a.body, "Established") == "True").await.body
}

async fn create(w: &World, group: &str, version: &str, object: Value) -> Value {
    let made = w.json("POST", &path(group, version, ""), object).await;
    assert_eq!(made.code, 201, "{}", made.body);
    made.body
}

fn warnings(answer: &Answer) -> Vec<String> {
    answer.headers.get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect()
}
