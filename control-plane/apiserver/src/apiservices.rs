//! APIServices of what this server serves by itself, kept in step with its resource table, and the answer for versions
//! that another server should serve: requests are not passed on, so that one is not available.

use crate::cache::Caches;
use serde_json::{Value, json};
use skep_api::kinds::apiservice::{CUSTOM_PRIORITY, priority};
use skep_api::{GroupResource, GroupVersion, Status};
use skep_client::{Client, Collection, DeleteOptions, ListOptions, WriteOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const GROUP: &str = "apiregistration.k8s.io";
const RESOURCE: &str = "apiservices";
/// Says that the server made the object, and whether once or as long as it serves the version.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const ONCE: &str = "onstart";
const ALWAYS: &str = "true";
/// How long a failed attempt waits before the next.
const RETRY: Duration = Duration::from_secs(1);

/// What is to be written.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    create: Vec<Value>,
    delete: Vec<String>,
}

/// Compares what is served with the objects that are there: by name, what [`MANAGED`] says. `starting` brings back objects of
/// built-in versions.
fn plan(served: &[GroupVersion], there: &BTreeMap<String, String>, starting: bool) -> Plan {
    let name = |version: &GroupVersion| format!("{}.{}", version.version, version.group);
    let mut plan = Plan::default();
    for version in served.iter().filter(|version| version.group != GROUP) {
        let own = priority(&version.group, &version.version);
        if there.contains_key(&name(version)) || (own.is_some() && !starting) {
            continue;
        }
        let ((of_group, of_version), managed) = match own {
            Some(own) => (own, ONCE),
            None => (CUSTOM_PRIORITY, ALWAYS),
        };
        let mut spec = json!({
            "version": version.version, "groupPriorityMinimum": of_group, "versionPriority": of_version,
        });
        if !version.group.is_empty() {
            spec["group"] = version.group.as_ref().into();
        }
        plan.create.push(json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "APIService", "spec": spec,
            "metadata": {"name": name(version), "labels": {MANAGED: managed}},
        }));
    }
    let gone = |(name_there, managed): &(&String, &String)| {
        [ONCE, ALWAYS].contains(&managed.as_str())
            && !served.iter().any(|version| name(version) == **name_there)
    };
    plan.delete = there.iter().filter(gone).map(|(name, _)| name.clone()).collect();
    plan
}

async fn sync(client: &Arc<dyn Client>, caches: &Caches, starting: bool) -> Result<(), Status> {
    let collection = Collection::of(GROUP, "v1", RESOURCE);
    let served: Vec<GroupVersion> = caches.table().versions().collect();
    let listed = client.list(&collection, &ListOptions::default()).await?;
    let managed = |object: &Value| {
        let labels = object.pointer("/metadata/labels");
        labels.and_then(|l| l.get(MANAGED)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let there = listed.items.iter().map(|o| (o.meta().name.to_string(), managed(&o.value()))).collect();
    let plan = plan(&served, &there, starting);
    for object in plan.create {
        match client.create(&collection, object, &WriteOptions::default()).await {
            Err(status) if !status.is_already_exists() => return Err(status),
            _ => {}
        }
    }
    for name in plan.delete {
        match client.delete(&collection.object(name), &DeleteOptions::default()).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

/// Keeps the objects in step with the resource table for as long as the server runs.
pub async fn keep(client: Arc<dyn Client>, caches: Arc<Caches>) {
    let mut changes = caches.table_changes();
    let mut starting = true;
    loop {
        changes.mark_unchanged();
        match sync(&client, &caches, starting).await {
            Ok(()) => {
                starting = false;
                if changes.changed().await.is_err() {
                    return;
                }
            }
            Err(status) => {
                tracing::warn!(%status, "the APIServices of this server cannot be brought in step; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// 503 for a version that an APIService gives to another server; none where nobody serves it.
pub(crate) fn elsewhere(caches: &Caches, group: &str, version: &str) -> Option<Status> {
    let resource = GroupResource::new(GROUP, RESOURCE);
    let found = caches.peek(&resource, "", &format!("{version}.{group}"))?.value();
    let service = found.pointer("/spec/service").filter(|service| !service.is_null())?;
    let text = |key: &str| service.get(key).and_then(Value::as_str).unwrap_or_default();
    Some(Status::unavailable(format!(
        "{group}/{version} is served by Service {}/{}, to which requests are not passed on",
        text("namespace"),
        text("name")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(list: &[&str]) -> Vec<GroupVersion> {
        list.iter().map(|text| GroupVersion::parse(text)).collect()
    }

    fn there(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(name, managed)| ((*name).to_owned(), (*managed).to_owned())).collect()
    }

    fn created(plan: &Plan) -> Vec<&str> {
        plan.create.iter().filter_map(|o| o["metadata"]["name"].as_str()).collect()
    }

    #[test]
    fn every_version_has_its_object_but_the_objects_own() {
        let served = versions(&["v1", "apps/v1", "apiregistration.k8s.io/v1", "stable.example.com/v1"]);
        let first = plan(&served, &there(&[]), true);
        assert_eq!(created(&first), ["v1.", "v1.apps", "v1.stable.example.com"]);
        assert_eq!(
            first.create[0]["spec"],
            json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1})
        );
        assert_eq!(first.create[2]["spec"]["groupPriorityMinimum"], 1000);
        assert_eq!(first.create[2]["metadata"]["labels"][MANAGED], ALWAYS);
    }

    #[test]
    fn what_an_administrator_removed_or_made_stays_so() {
        let served = versions(&["v1", "apps/v1", "stable.example.com/v1"]);
        let have = there(&[("v1.", ONCE), ("v1alpha1.wardle.example.com", "")]);
        let later = plan(&served, &have, false);
        assert_eq!(created(&later), ["v1.stable.example.com"]);
        assert!(later.delete.is_empty());
    }

    #[test]
    fn an_object_goes_with_its_version() {
        let have = there(&[("v1.", ONCE), ("v1.stable.example.com", ALWAYS), ("v2.remote.example.com", "")]);
        let plan = plan(&versions(&["v1"]), &have, false);
        assert_eq!(created(&plan), Vec::<&str>::new());
        assert_eq!(plan.delete, ["v1.stable.example.com"]);
    }
}
