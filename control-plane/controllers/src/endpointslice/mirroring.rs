//! Mirrors the Endpoints of Services without a selector, which somebody else writes, to EndpointSlices, which everybody reads.

use super::mirror::{MANAGED_BY, mirror, wanted};
use super::{carry_out, feed_services_of_slices, slices_of};
use crate::Context;
use crate::runtime::{CATCH_UP, Key, Outcome, OwnWrites, Queue, feed_self, work};
use crate::subsets::MAX;
use crate::views::reference;
use serde_json::Value;
use skep_client::{Client, Informer, Recorder};
use std::sync::Arc;

struct Controller {
    client: Arc<dyn Client>,
    events: Recorder,
    services: Informer,
    endpoints: Informer,
    slices: Informer,
    writes: OwnWrites,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let informers = &context.informers;
    let client = context.client("endpointslicemirroring-controller");
    let controller = Arc::new(Controller {
        events: Recorder::start(client.clone(), "endpoint-slice-mirroring-controller", ""),
        client,
        services: informers.services.clone(),
        endpoints: informers.endpoints.clone(),
        slices: informers.endpoint_slices.clone(),
        writes: OwnWrites::default(),
    });
    let queue = Queue::default();
    feed_self(&controller.endpoints, &queue);
    feed_self(&controller.services, &queue);
    feed_services_of_slices(&controller.slices, &queue, MANAGED_BY);
    work("endpointslicemirroring", &queue, 5, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        if !self.writes.seen(key, &self.slices) {
            return Ok(Some(CATCH_UP));
        }
        let slices = slices_of(&self.slices, key, MANAGED_BY);
        let selects = |service: &Value| service.pointer("/spec/selector").is_some_and(Value::is_object);
        let open =
            self.services.get(&key.namespace, &key.name).is_some_and(|service| !selects(&service.value()));
        let endpoints = self.endpoints.get(&key.namespace, &key.name).filter(|_| open);
        let mirrored = endpoints.map(|object| (object.value(), object)).filter(|(tree, _)| wanted(tree));
        let Some((tree, object)) = mirrored else {
            let delete = slices.into_iter().map(|slice| slice.name).collect();
            let plan = super::Plan { delete, ..super::Plan::default() };
            carry_out(&*self.client, key, plan, &self.writes).await?;
            return Ok(None);
        };
        let mut mirror = mirror(&tree, &slices);
        if object.meta().deleting() {
            mirror.plan.create.clear();
        }
        if !mirror.plan.create.is_empty() || !mirror.plan.update.is_empty() {
            let about = reference("v1", "Endpoints", &object);
            if mirror.invalid > 0 {
                let message = format!(
                    "Skipped {} invalid IP addresses when mirroring to EndpointSlices",
                    mirror.invalid
                );
                self.events.warning(&about, "InvalidIPAddress", message);
            }
            if mirror.skipped > mirror.invalid {
                let message = format!(
                    "A max of {MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                    mirror.skipped
                );
                self.events.warning(&about, "TooManyAddressesToMirror", message);
            }
        }
        carry_out(&*self.client, key, mirror.plan, &self.writes).await?;
        Ok(None)
    }
}
