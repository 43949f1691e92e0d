//! Keeps the Endpoints of Services that have a selector: the older form of EndpointSlices, one object a
//! Service and the Service's first family only.

use crate::Context;
use crate::endpointslice::feed_services_of_pods;
use crate::runtime::{CATCH_UP, Key, Outcome, OwnWrites, Queue, feed, feed_self, work};
use crate::services::{Service, addresses, target_ref};
use crate::subsets::{self, Subset, repack, truncate};
use crate::views::{self, Pod};
use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_api::{Object, Status};
use skep_client::{Client, Collection, DeleteOptions, Informer, WriteOptions, typed};
use std::collections::HashSet;
use std::sync::Arc;

const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

struct Controller {
    client: Arc<dyn Client>,
    services: Informer,
    endpoints: Informer,
    pods: Informer,
    writes: OwnWrites,
    /// Services that were seen to go: their Endpoints go too, whoever wrote them.
    gone: Arc<Mutex<HashSet<Key>>>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let informers = &context.informers;
    let controller = Arc::new(Controller {
        client: context.client("endpoint-controller"),
        services: informers.services.clone(),
        endpoints: informers.endpoints.clone(),
        pods: informers.pods.clone(),
        writes: OwnWrites::default(),
        gone: Arc::default(),
    });
    let queue = Queue::default();
    let gone = controller.gone.clone();
    feed(&controller.services, &queue, move |change| {
        let key = change.latest().map(|service| Key::of(service));
        if change.new.is_none() {
            gone.lock().extend(key.clone());
        }
        key.into_iter().collect()
    });
    feed_self(&controller.endpoints, &queue);
    feed_services_of_pods(&controller.pods, &controller.services, &queue);
    work("endpoints", &queue, 5, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        if !self.writes.seen(key, &self.endpoints) {
            return Ok(Some(CATCH_UP));
        }
        let endpoints = Collection::core("endpoints").within(&*key.namespace);
        let present = self.endpoints.get(&key.namespace, &key.name);
        let Some(object) = self.services.get(&key.namespace, &key.name) else {
            let gone = self.gone.lock().contains(key);
            let ours =
                |e: &Arc<Object>| e.meta().labels.get(MANAGED_BY.0).is_some_and(|m| **m == *MANAGED_BY.1);
            if present.is_some_and(|present| gone || ours(&present)) {
                let target = endpoints.object(&*key.name);
                ignore_missing(self.client.delete(&target, &DeleteOptions::default()).await.map(|_| ()))?;
            }
            self.gone.lock().remove(key);
            return Ok(None);
        };
        self.gone.lock().remove(key);
        let service: Service = typed::decode(&object)?;
        if service.selector().is_none() {
            return Ok(None);
        }
        let near = self.pods.namespace(&key.namespace);
        let pods = views::pods(near.into_iter().filter(|pod| service.selects(&pod.meta().labels)));
        let old = present.map(|e| e.value());
        let Some(new) = wanted(&service, &pods, old.as_ref()) else { return Ok(None) };
        let options = WriteOptions::default();
        let written = match old {
            None => self.client.create(&endpoints, new, &options).await?,
            Some(_) => self.client.update(&endpoints.object(&*key.name), new, &options).await?,
        };
        self.writes.note(key, written.revision());
        Ok(None)
    }
}

fn ignore_missing(result: Result<(), Status>) -> Result<(), Status> {
    result.or_else(|status| if status.is_not_found() { Ok(()) } else { Err(status) })
}

/// The object as it should be; `None` where it is so.
fn wanted(service: &Service, pods: &[Pod], old: Option<&Value>) -> Option<Value> {
    let (new, cut) = subsets(service, pods);
    let mut labels = service.labels();
    labels.insert(MANAGED_BY.0.into(), MANAGED_BY.1.into());
    let labels = Value::Object(labels);
    let mut tree = old.cloned().unwrap_or_else(|| {
        let meta = &service.metadata;
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": meta.name, "namespace": meta.namespace}})
    });
    tree["metadata"]["labels"] = labels;
    match (cut, tree["metadata"]["annotations"].as_object_mut()) {
        (true, _) => tree["metadata"]["annotations"][OVER_CAPACITY] = "truncated".into(),
        (false, Some(annotations)) => {
            annotations.remove(OVER_CAPACITY);
        }
        (false, None) => {
            tree["metadata"].as_object_mut()?.remove("annotations");
        }
    }
    // Where only the order differs nothing is written.
    if repack(&subsets::read(&tree)) != repack(&subsets::read(&json!({"subsets": new}))) {
        tree["subsets"] = new.into();
    }
    if tree["subsets"].as_array().is_none_or(Vec::is_empty) {
        tree.as_object_mut()?.remove("subsets");
    }
    (old != Some(&tree)).then_some(tree)
}

/// Addresses with the ports they answer on; whether some had to be left out.
fn subsets(service: &Service, pods: &[Pod]) -> (Vec<Value>, bool) {
    let family = service.family();
    let shown =
        |p: &&Pod| !p.is_finished() && (!p.meta().deleting() || service.spec.publish_not_ready_addresses);
    let one = |pod: &Pod| -> Option<Subset> {
        let ip = addresses(pod, family).into_iter().next()?;
        let ports = service.ports_of(pod);
        if ports.is_empty() && !(service.spec.ports.is_empty() && service.headless()) {
            return None;
        }
        let mut address = json!({"ip": ip, "targetRef": target_ref(pod)});
        if !pod.spec.node_name.is_empty() {
            address["nodeName"] = pod.spec.node_name.as_str().into();
        }
        if let Some(hostname) = service.hostname(pod) {
            address["hostname"] = hostname.into();
        }
        let mut out = Subset { ports: endpoint_ports(ports), ..Subset::default() };
        let open = pod.is_ready() || service.spec.publish_not_ready_addresses;
        if open { &mut out.ready } else { &mut out.not_ready }.push(address);
        Some(out)
    };
    let all: Vec<Subset> = pods.iter().filter(shown).filter_map(one).collect();
    let mut packed = repack(&all);
    let cut = truncate(&mut packed);
    (packed.into_iter().map(Subset::value).collect(), cut)
}

/// Ports as Endpoints write them: an empty name is left out.
fn endpoint_ports(mut ports: Vec<Value>) -> Vec<Value> {
    for port in ports.iter_mut().filter_map(Value::as_object_mut) {
        if port.get("name").is_some_and(|n| n == "") {
            port.remove("name");
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_and_unready_addresses_share_a_subset() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "d"},
            "spec": {"selector": {"a": "b"}, "clusterIP": "10.96.0.5", "ports": [{"protocol": "TCP", "port": 80, "targetPort": 8080}]},
        }))
        .unwrap();
        let pod = |n: u8, ready: bool| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{n}"), "namespace": "d", "uid": format!("u{n}"), "labels": {"a": "b"}},
                "spec": {"nodeName": "n"},
                "status": {"phase": "Running", "podIP": format!("10.244.0.{n}"), "conditions": [{"type": "Ready", "status": if ready {"True"} else {"False"}}]},
            }))
            .unwrap()
        };
        let pods = [pod(2, true), pod(3, false)];
        let tree = wanted(&service, &pods, None).unwrap();
        assert_eq!(tree["subsets"][0]["addresses"][0]["ip"], "10.244.0.2");
        assert_eq!(tree["subsets"][0]["notReadyAddresses"][0]["ip"], "10.244.0.3");
        assert_eq!(tree["subsets"][0]["ports"], json!([{"port": 8080, "protocol": "TCP"}]));
        assert_eq!(tree["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"], "endpoint-controller");
        assert!(wanted(&service, &pods, Some(&tree)).is_none());
        let gone = wanted(&service, &[], Some(&tree)).unwrap();
        assert!(gone.get("subsets").is_none());
    }
}
