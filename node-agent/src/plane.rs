//! The dataplane as pods see it.

use skep_dataplane::{Dataplane, PodAttachment};
use skep_pods::network::{self, Attachment};
use std::sync::Arc;

/// The one dataplane of the node.
#[derive(Clone)]
pub(crate) struct Plane(pub(crate) Arc<Dataplane>);

impl network::Dataplane for Plane {
    fn attach(&self, a: &Attachment) -> Result<(), String> {
        let pod = PodAttachment {
            ifindex: a.ifindex,
            addresses: a.addresses.clone(),
            uid: a.uid.clone(),
            namespace: a.namespace.clone(),
            name: a.name.clone(),
        };
        self.0.attach_pod(&pod).map(|_| ()).map_err(|e| e.to_string())
    }

    fn detach(&self, ifindex: u32) -> Result<(), String> {
        self.0.detach_pod(ifindex).map(|_| ()).map_err(|e| e.to_string())
    }
}
