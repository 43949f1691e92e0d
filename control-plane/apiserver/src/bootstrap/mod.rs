//! Objects that a cluster has from its first moment, brought into being (and kept what they must be) at every start.

mod objects;
mod reconcile;
#[cfg(test)]
mod tests;

use crate::authz::defaults;
use futures::{TryStreamExt, stream};
use serde_json::Value;
use skep_api::Status;
use skep_api::kinds::flow;
use skep_client::{Client, ClientExt, Collection, WriteOptions};
use std::net::IpAddr;
use std::sync::Arc;

/// What the objects say.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where pods and nodes reach this server.
    pub advertise: IpAddr,
    /// The port it listens on.
    pub port: u16,
    /// The first address of the Service range.
    pub service_ip: IpAddr,
    /// The ranges that addresses of Services come from, one a family: `10.96.0.0/16`.
    pub service_ranges: Vec<String>,
    /// The cluster CA, in PEM.
    pub ca_pem: String,
}

/// How many objects are looked at at a time.
const AT_ONCE: usize = 16;

/// Brings everything up: namespaces, priority classes, default roles and bindings, the `kubernetes` Service and its endpoints.
/// `client` must be allowed everything.
pub async fn run(client: &Arc<dyn Client>, config: &Config) -> Result<(), Status> {
    let namespaces = Collection::core("namespaces");
    for name in objects::NAMESPACES {
        ensure(client, &namespaces, objects::namespace(name), |_| None).await?;
    }
    let roles = defaults::all().map_err(Status::internal)?;
    stream::iter(roles.into_iter().map(Ok::<_, Status>))
        .try_for_each_concurrent(AT_ONCE, |default| async move {
            let collection = Collection::of(defaults::GROUP, "v1", default.resource);
            match reconcile::replaced(&find(client, &collection, &default.object).await?, &default.object) {
                true => recreate(client, &collection, default.object).await,
                false => {
                    let wanted = default.object.clone();
                    ensure(client, &collection, default.object, |have| reconcile::rbac(have, &wanted)).await
                }
            }
        })
        .await?;
    let classes = Collection::of("scheduling.k8s.io", "v1", "priorityclasses");
    for class in objects::priority_classes() {
        ensure(client, &classes, class, |_| None).await?;
    }
    for (objects, mandatory) in [(flow::mandatory(), true), (flow::suggested(), false)] {
        for object in objects {
            let wanted = object.clone();
            let collection = objects::flow_collection(&object);
            ensure(client, &collection, object, |have| reconcile::flow(have, &wanted, mandatory)).await?;
        }
    }
    service_range(client, &config.service_ranges).await?;
    for (collection, wanted) in objects::kubernetes(config) {
        let copy = wanted.clone();
        ensure(client, &collection, wanted, |have| reconcile::fields(have, &copy)).await?;
    }
    Ok(())
}

/// The ranges of Service addresses, and that they are ready.
async fn service_range(client: &Arc<dyn Client>, cidrs: &[String]) -> Result<(), Status> {
    let ranges = Collection::of("networking.k8s.io", "v1", "servicecidrs");
    let wanted = objects::service_range(cidrs);
    ensure(client, &ranges, wanted.clone(), |have| reconcile::second_range(have, &wanted)).await?;
    let Some(mut have) = find(client, &ranges, &wanted).await? else { return Ok(()) };
    let told = have.pointer("/status/conditions").and_then(Value::as_array).is_some_and(|c| !c.is_empty());
    if told || have.pointer("/spec/cidrs") != wanted.pointer("/spec/cidrs") {
        return Ok(());
    }
    have["status"]["conditions"] = objects::range_ready(&skep_api::kinds::rfc3339(jiff::Timestamp::now()));
    let target = ranges.item("", have["metadata"]["name"].as_str().unwrap_or_default()).sub("status");
    match client.update(&target, have, &WriteOptions::default()).await {
        Err(status) if !status.is_conflict() => Err(status),
        _ => Ok(()),
    }
}

async fn find(
    client: &Arc<dyn Client>,
    collection: &Collection,
    object: &Value,
) -> Result<Option<Value>, Status> {
    let text =
        |key: &str| object.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or_default();
    let target = collection.item(text("namespace"), text("name"));
    Ok(client.find(&target).await?.map(|found| found.value()))
}

/// Creates the object where it is not there; where it is, writes what `change` makes of it, if anything.
async fn ensure(
    client: &Arc<dyn Client>,
    collection: &Collection,
    wanted: Value,
    change: impl Fn(Value) -> Option<Value>,
) -> Result<(), Status> {
    let text =
        |key: &str| wanted.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("namespace").to_owned(), text("name").to_owned());
    // Others may write in between: what they wrote is looked at again.
    for _ in 0..5 {
        let done = match find(client, collection, &wanted).await? {
            None => {
                let place = if namespace.is_empty() {
                    collection.clone()
                } else {
                    collection.within(namespace.clone())
                };
                client.create(&place, wanted.clone(), &WriteOptions::default()).await.map(drop)
            }
            Some(have) => match change(have) {
                None => return Ok(()),
                Some(changed) => {
                    let target = collection.item(&namespace, &name);
                    client.update(&target, changed, &WriteOptions::default()).await.map(drop)
                }
            },
        };
        match done {
            Err(status) if status.is_conflict() || status.is_already_exists() => {}
            other => return other,
        }
    }
    Err(Status::internal(format!("{} {name} keeps changing", collection.resource)))
}

async fn recreate(client: &Arc<dyn Client>, collection: &Collection, wanted: Value) -> Result<(), Status> {
    let text =
        |key: &str| wanted.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or_default();
    let target = collection.item(text("namespace"), text("name"));
    match client.delete(&target, &skep_client::DeleteOptions::default()).await {
        Err(status) if !status.is_not_found() => return Err(status),
        _ => {}
    }
    ensure(client, collection, wanted, |_| None).await
}
