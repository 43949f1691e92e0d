//! Who may do what, held to the answers of a kube-apiserver: the same objects, the same questions.

use super::secure::{ROOT, secure};
use crate::authz::{self, defaults, rbac::Rule};
use crate::request::UserInfo;
use serde_json::{Value, json};
use skep_client::Client;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const RECORDED: &str = include_str!("../../../../tests/fixtures/authorization/kube-apiserver.json");

/// Whether a `/version` is that of a kube-apiserver of 1.36: what Skep answered proves nothing about Skep.
pub(super) fn is_of_a_kube_apiserver(version: &Value) -> Result<(), String> {
    let name = version["gitVersion"].as_str().unwrap_or_default();
    if name.contains("skep") {
        return Err(format!("recorded of Skep itself ({name})"));
    }
    if !name.starts_with("v1.36.") {
        return Err(format!("recorded of {name:?} and not of a kube-apiserver of 1.36"));
    }
    Ok(())
}

#[test]
fn what_skep_answered_is_no_measure_of_skep() {
    let refused = is_of_a_kube_apiserver(&crate::endpoints::version()).unwrap_err();
    assert!(refused.contains("Skep itself"), "{refused}");
    assert!(is_of_a_kube_apiserver(&json!({"gitVersion": "v1.35.4"})).is_err());
    assert!(is_of_a_kube_apiserver(&json!({})).is_err());
    assert!(is_of_a_kube_apiserver(&json!({"gitVersion": "v1.36.2"})).is_ok());
}

#[tokio::test]
async fn answers_are_those_of_a_kube_apiserver() {
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    is_of_a_kube_apiserver(&recorded["version"]).unwrap();
    let world = secure().await;
    let client: Arc<dyn Client> = world.server.local_client(UserInfo::new("root", &["system:masters"]));
    let keeping = tokio::spawn(authz::keep_aggregated(client));
    for object in recorded["objects"].as_array().unwrap() {
        world.make(object["path"].as_str().unwrap(), object["body"].clone()).await;
    }
    // Roles that are put together from others are complete a little later.
    let complete = async {
        loop {
            let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin";
            let admin = world.ask(ROOT, "GET", path, &Value::Null).await;
            if admin.body["rules"].as_array().is_some_and(|rules| rules.len() > 20) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), complete).await.unwrap();

    let reviews = recorded["reviews"].as_array().unwrap();
    assert!(reviews.len() >= 300, "{} answers", reviews.len());
    let mut wrong = Vec::new();
    for review in reviews {
        let body = json!({"spec": review["request"]});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = world.ask(ROOT, "POST", path, &body).await;
        assert_eq!(answer.code, 201, "{}", answer.body);
        let (ours, theirs) = (&answer.body["status"], &review["response"]);
        // Where several bindings allow something, a kube-apiserver names any of them.
        let by_any = |status: &Value| {
            status["reason"]
                .as_str()
                .is_some_and(|reason| reason.starts_with("RBAC: allowed by ClusterRoleBinding "))
        };
        let same_reason = ours["reason"] == theirs["reason"] || (by_any(ours) && by_any(theirs));
        if ours["allowed"] != theirs["allowed"] || !same_reason {
            wrong.push(format!("{}\n  ours:   {ours}\n  theirs: {theirs}", review["request"]));
        }
    }
    keeping.abort();
    assert!(wrong.is_empty(), "{} of {} answers differ:\n{}", wrong.len(), reviews.len(), wrong.join("\n"));
}

/// Names that the recorded server has beside those of Kubernetes: it is a distribution's.
fn is_a_distributions(name: &str) -> bool {
    name.contains("openshift") || name.starts_with("system:node-admin") || name == "system:node-reader"
}

/// What a role allows, taken apart: verb, group, resource, name or verb and path.
fn rights(object: &Value) -> BTreeSet<String> {
    let rules: Vec<Rule> = serde_json::from_value(object["rules"].clone()).unwrap_or_default();
    let mut out = BTreeSet::new();
    for rule in &rules {
        for verb in &rule.verbs {
            out.extend(rule.non_resource_urls.iter().map(|url| format!("{verb} {url}")));
            for (group, resource) in
                rule.api_groups.iter().flat_map(|g| rule.resources.iter().map(move |r| (g, r)))
            {
                let name = |name: &str| format!("{verb} {group}/{resource} {name}");
                match rule.resource_names.as_slice() {
                    [] => drop(out.insert(name(""))),
                    names => out.extend(names.iter().map(|n| name(n))),
                }
            }
        }
    }
    out
}

#[test]
fn the_default_roles_and_bindings_are_those_of_a_kube_apiserver() {
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    let key = |resource: &str, object: &Value| {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        (resource.to_owned(), text("namespace"), text("name"))
    };
    let theirs: BTreeMap<_, &Value> = recorded["defaults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| (key(object["resource"].as_str().unwrap(), object), object))
        .filter(|((_, _, name), _)| !is_a_distributions(name))
        .collect();
    let all = defaults::all().unwrap();
    let ours: BTreeMap<_, &Value> = all
        .iter()
        .map(|default| (key(default.resource, &default.object), &default.object))
        .filter(|((_, _, name), _)| !name.starts_with("skep:"))
        .collect();
    let names =
        |all: &BTreeMap<(String, String, String), &Value>| all.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&ours), names(&theirs));
    for (name, ours) in &ours {
        let theirs = theirs[name];
        assert_eq!(ours["metadata"]["labels"], theirs["metadata"]["labels"], "{name:?}");
        for field in ["aggregationRule", "roleRef", "subjects"] {
            assert_eq!(ours.get(field), theirs.get(field), "{field} of {name:?}");
        }
        // The rules of an aggregated role come from others.
        if ours.get("aggregationRule").is_none() {
            assert_eq!(rights(ours), rights(theirs), "{name:?}");
        }
    }
    assert!(ours.len() >= 130, "{} objects", ours.len());
}
