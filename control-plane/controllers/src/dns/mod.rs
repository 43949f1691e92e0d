//! Keeps the Service by which pods reach the DNS server of their node, and its EndpointSlices.

mod plan;

use crate::Context;
use crate::endpointslice::{carry_out, feed_services_of_slices, slices_of};
use crate::runtime::{CATCH_UP, Key, Outcome, OwnWrites, Queue, feed, work};
use parking_lot::Mutex;
use plan::{MANAGED_BY, NAME, NAMESPACE, Node, ServiceStep, Step, plan};
use skep_client::{Client, Collection, Informer, WriteOptions};
use std::net::IpAddr;
use std::sync::Arc;

/// Where the cluster's DNS is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDns {
    /// Address of the Service.
    pub address: IpAddr,
    /// Port of the servers on their nodes.
    pub port: u16,
}

struct Controller {
    client: Arc<dyn Client>,
    services: Informer,
    slices: Informer,
    nodes: Informer,
    dns: ClusterDns,
    writes: OwnWrites,
    /// What was complained of last, so that it is told once.
    told: Mutex<Option<String>>,
}

/// Starts the controller, where the cluster has a DNS of its own.
pub(crate) fn start(context: &Context) {
    let Some(dns) = context.config.cluster_dns.clone() else { return };
    let informers = &context.informers;
    let controller = Arc::new(Controller {
        client: context.client("cluster-dns-controller"),
        services: informers.services.clone(),
        slices: informers.endpoint_slices.clone(),
        nodes: informers.nodes.clone(),
        dns,
        writes: OwnWrites::default(),
        told: Mutex::default(),
    });
    let queue = Queue::default();
    let the_one = || vec![Key::new(NAMESPACE, NAME)];
    // Without a node there is no change that would call for the Service.
    queue.add(Key::new(NAMESPACE, NAME));
    feed(&controller.nodes, &queue, move |_| the_one());
    feed(&controller.services, &queue, move |change| {
        let ours = change.latest().filter(|s| *s.meta().name == *NAME && *s.meta().namespace == *NAMESPACE);
        ours.map_or_else(Vec::new, |_| the_one())
    });
    feed_services_of_slices(&controller.slices, &queue, MANAGED_BY);
    work("cluster-dns", &queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        if !self.writes.seen(key, &self.slices) {
            return Ok(Some(CATCH_UP));
        }
        let service = self.services.get(NAMESPACE, NAME).map(|service| service.value());
        let nodes: Vec<Node> = self.nodes.list().iter().filter_map(|node| Node::of(&node.value())).collect();
        let own = slices_of(&self.slices, key, MANAGED_BY);
        let Step { service, complaint, slices } = plan(&self.dns, service.as_ref(), &own, &nodes);
        self.tell(complaint);
        let options = WriteOptions::default();
        let services = Collection::core("services").within(NAMESPACE);
        match service {
            ServiceStep::Leave => {}
            // The slices follow when it is seen, for they name it as their owner.
            ServiceStep::Create(tree) => drop(self.client.create(&services, tree, &options).await?),
            ServiceStep::Update(tree) => {
                self.client.update(&services.object(NAME), tree, &options).await?;
            }
        }
        carry_out(&*self.client, key, slices, &self.writes).await?;
        Ok(None)
    }

    fn tell(&self, complaint: Option<String>) {
        let mut told = self.told.lock();
        if let Some(complaint) = &complaint
            && told.as_ref() != Some(complaint)
        {
            tracing::warn!("cluster DNS: {complaint}");
        }
        *told = complaint;
    }
}
