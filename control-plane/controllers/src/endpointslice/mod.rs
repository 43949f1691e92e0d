//! Keeps the EndpointSlices of Services that have a selector.

mod mirror;
pub(crate) mod mirroring;
mod plan;

use crate::Context;
use crate::runtime::{CATCH_UP, Key, Outcome, OwnWrites, Queue, feed, feed_self, work};
use crate::services::Service;
use crate::views::{self, Pod};
use parking_lot::Mutex;
use plan::{MANAGED_BY, Zones, lost, plan};
pub(crate) use plan::{Plan, Slice};
use skep_api::{Object, Status};
use skep_client::{Change, Client, Collection, DeleteOptions, Informer, WriteOptions, typed};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const SERVICE: &str = "kubernetes.io/service-name";
pub(crate) const MANAGER: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";
/// When a Service is looked at again that has a pod on a node that is not known yet.
const NODE_RETRY: Duration = Duration::from_secs(1);

struct Controller {
    client: Arc<dyn Client>,
    services: Informer,
    slices: Informer,
    pods: Informer,
    nodes: Informer,
    writes: OwnWrites,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let informers = &context.informers;
    let controller = Arc::new(Controller {
        client: context.client("endpointslice-controller"),
        services: informers.services.clone(),
        slices: informers.endpoint_slices.clone(),
        pods: informers.pods.clone(),
        nodes: informers.nodes.clone(),
        writes: OwnWrites::default(),
    });
    let queue = Queue::default();
    feed_self(&controller.services, &queue);
    feed_services_of_pods(&controller.pods, &controller.services, &queue);
    feed_services_of_slices(&controller.slices, &queue, MANAGED_BY);
    work("endpointslice", &queue, 5, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// Adds the Services that select a pod that changes, before or after, in a way that its endpoints may show.
pub(crate) fn feed_services_of_pods(pods: &Informer, services: &Informer, queue: &Queue) {
    let services = services.clone();
    let selectors = Mutex::new(Selectors::default());
    feed(pods, queue, move |change: &Change| {
        let Some(pod) = change.latest() else { return Vec::new() };
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && let (Ok(old), Ok(new)) = (old.decode::<Pod>(), new.decode::<Pod>())
            && shows_alike(&old, &new)
        {
            return Vec::new();
        }
        let versions: Vec<&Arc<Object>> = [&change.old, &change.new].into_iter().flatten().collect();
        let mut selectors = selectors.lock();
        let near = services.namespace(&pod.meta().namespace).into_iter().filter(|service| {
            let service = selectors.of(service);
            service.is_some_and(|s| versions.iter().any(|v| s.selects(&v.meta().labels)))
        });
        near.map(|service| Key::of(&service)).collect()
    });
}

/// Whether endpoints show two versions of a pod alike.
fn shows_alike(old: &Pod, new: &Pod) -> bool {
    let state = |pod: &Pod| (pod.is_ready(), pod.is_finished(), pod.meta().deleting());
    let name =
        |pod: &Pod| (pod.spec.hostname.clone(), pod.spec.subdomain.clone(), pod.spec.node_name.clone());
    state(old) == state(new)
        && name(old) == name(new)
        && old.meta().uid == new.meta().uid
        && old.meta().labels == new.meta().labels
        && old.status.pod_ip == new.status.pod_ip
        && old.status.pod_ips == new.status.pod_ips
}

/// What Services select, read once a version.
#[derive(Default)]
struct Selectors(HashMap<Key, (u64, Option<Service>)>);

impl Selectors {
    /// More than this that are forgotten are remembered no more.
    const MOST: usize = 10_000;

    fn of(&mut self, service: &Object) -> Option<&Service> {
        if self.0.len() > Self::MOST {
            self.0.clear();
        }
        let read = || (service.revision(), typed::decode(service).ok());
        let known = self.0.entry(Key::of(service)).or_insert_with(read);
        if known.0 != service.revision() {
            *known = read();
        }
        known.1.as_ref()
    }
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        if !self.writes.seen(key, &self.slices) {
            return Ok(Some(CATCH_UP));
        }
        let Some(object) = self.services.get(&key.namespace, &key.name) else { return Ok(None) };
        let service: Service = typed::decode(&object)?;
        let near = self.pods.namespace(&key.namespace);
        let pods = views::pods(near.into_iter().filter(|pod| service.selects(&pod.meta().labels)));
        let zones = self.zones();
        let plan = plan(&service, &pods, &slices_of(&self.slices, key, MANAGED_BY), &zones);
        carry_out(&*self.client, key, plan, &self.writes).await?;
        let waits = pods.iter().any(|pod| !pod.is_finished() && lost(&service, pod, &zones));
        Ok(waits.then_some(NODE_RETRY))
    }

    fn zones(&self) -> Zones {
        let nodes = self.nodes.list();
        let zoned = nodes
            .iter()
            .map(|n| (n.meta().name.to_string(), n.meta().labels.get(ZONE).map(|zone| zone.to_string())));
        zoned.collect()
    }
}

/// The slices of a Service that a controller has made.
pub(crate) fn slices_of(slices: &Informer, key: &Key, manager: &str) -> Vec<Slice> {
    let own = slices.namespace(&key.namespace).into_iter().filter(|slice| {
        let labels = &slice.meta().labels;
        labels.get(SERVICE).is_some_and(|s| **s == *key.name)
            && labels.get(MANAGER).is_some_and(|m| **m == *manager)
            && !slice.meta().deleting()
    });
    own.map(|slice| Slice { name: slice.meta().name.to_string(), tree: slice.value() }).collect()
}

/// Adds the Service of each slice of a controller that changes.
pub(crate) fn feed_services_of_slices(slices: &Informer, queue: &Queue, manager: &'static str) {
    feed(slices, queue, move |change| {
        let slice = change.latest().filter(|s| s.meta().labels.get(MANAGER).is_some_and(|m| **m == *manager));
        let service = slice.and_then(|s| Some(Key::new(&s.meta().namespace, s.meta().labels.get(SERVICE)?)));
        service.into_iter().collect()
    });
}

/// Writes what a plan says.
pub(crate) async fn carry_out(
    client: &dyn Client,
    key: &Key,
    plan: Plan,
    writes: &OwnWrites,
) -> Result<(), Status> {
    let slices = Collection::of("discovery.k8s.io", "v1", "endpointslices").within(&*key.namespace);
    let options = WriteOptions::default();
    // What is new is written before anything is taken away, so that no backend is missing in between.
    for tree in plan.create {
        let written = client.create(&slices, tree, &options).await?;
        writes.note(key, written.revision());
    }
    for (name, tree) in plan.update {
        let written = client.update(&slices.object(name), tree, &options).await?;
        writes.note(key, written.revision());
    }
    for name in plan.delete {
        match client.delete(&slices.object(name), &DeleteOptions::default()).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn only_what_endpoints_show_makes_them_anew() {
        let pod = |extra: Value| -> Pod {
            let mut value = json!({
                "metadata": {"name": "p", "uid": "u", "labels": {"app": "web"}}, "spec": {"nodeName": "n"},
                "status": {"phase": "Running", "podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}],
                    "conditions": [{"type": "Ready", "status": "True"}]},
            });
            if let Some(map) = extra.as_object() {
                for (pointer, new) in map {
                    *value.pointer_mut(pointer).unwrap() = new.clone();
                }
            }
            serde_json::from_value(value).unwrap()
        };
        let plain = pod(json!({}));
        let mut restarted = plain.clone();
        restarted.status.container_statuses =
            vec![crate::views::ContainerStatus { restart_count: 3, ..Default::default() }];
        assert!(shows_alike(&plain, &restarted));
        for change in [
            json!({"/metadata/labels/app": "other"}),
            json!({"/status/conditions/0/status": "False"}),
            json!({"/status/phase": "Failed"}),
            json!({"/status/podIPs/0/ip": "10.0.0.3"}),
            json!({"/metadata/uid": "v"}),
        ] {
            assert!(!shows_alike(&plain, &pod(change.clone())), "{change}");
        }
    }

    #[test]
    fn a_selector_is_read_again_when_its_service_changes() {
        let service = |revision: u64, app: &str| {
            let tree = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "d"},
                "spec": {"selector": {"app": app}}});
            Object::from_value(tree, revision, &[]).unwrap()
        };
        let labels = [("app".into(), "web".into())].into();
        let mut selectors = Selectors::default();
        assert!(selectors.of(&service(1, "web")).unwrap().selects(&labels));
        assert!(!selectors.of(&service(2, "other")).unwrap().selects(&labels));
    }
}
