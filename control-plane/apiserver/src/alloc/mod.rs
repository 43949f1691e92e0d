//! Addresses and node ports of Services, held as claims: one key of the store each, written in the transaction that writes the
//! Service and removed in the one that removes it, so that no two Services ever hold the same. An IPAddress object stands
//! beside the claim of each address, for people to see; whoever makes one first keeps Services from the address.

mod plan;
mod range;
#[cfg(test)]
mod tests;

pub use plan::{Claim, Plan, PortRange, plan};
pub use range::{Cidr, CidrError, Ranges};

use crate::cache::Caches;
use crate::hooks::{Companion, Together, WriteRequest};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use skep_api::{GroupResource, Object, Status};
use skep_store::{Compare, Op};
use std::net::IpAddr;
use std::sync::Arc;

/// Claims what Services need.
pub struct Services {
    caches: Arc<Caches>,
    ranges: Ranges,
    ports: PortRange,
}

impl Services {
    /// A companion that gives out addresses of `ranges` and node ports 30000 to 32767.
    pub fn new(caches: Arc<Caches>, ranges: Ranges) -> Self {
        Services { caches, ranges, ports: PortRange::default() }
    }
}

impl Claim {
    /// The claim's key in the store.
    fn key(&self) -> Bytes {
        match self {
            Claim::Ip(ip) => format!("/claims/clusterip/{ip}"),
            Claim::Port(port) => format!("/claims/nodeport/{port}"),
        }
        .into()
    }
}

/// Where the IPAddress of a claim lies; none for what is no address.
fn address_key(claim: &Claim) -> Option<Bytes> {
    let Claim::Ip(ip) = claim else { return None };
    let resource = GroupResource::new("networking.k8s.io", "ipaddresses");
    Some(crate::cache::store_key(&resource, "", &ip.to_string()).into())
}

/// The IPAddress of a Service.
fn address(ip: IpAddr, request: &WriteRequest<'_>, now: jiff::Timestamp) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": ip.to_string(), "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": skep_api::kinds::rfc3339(now),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": range::family(ip), "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {
            "group": "", "resource": "services", "namespace": request.namespace, "name": request.name,
        }},
    })
}

#[async_trait]
impl Companion for Services {
    async fn together(
        &self,
        request: &WriteRequest<'_>,
        new: Option<&mut Value>,
        old: Option<&Object>,
        attempt: u32,
    ) -> Result<Together, Status> {
        if !request.subresource.is_empty() && new.is_some() {
            return Ok(Together::default());
        }
        let seed = uuid::Uuid::new_v4().as_u128() as u64 ^ u64::from(attempt);
        let old = old.map(Object::value);
        let store = self.caches.store();
        let held = |key: &Bytes| store.get(key).is_some();
        let taken = |claim: &Claim| held(&claim.key()) || address_key(claim).as_ref().is_some_and(held);
        let plan = match new {
            Some(new) => plan(new, old.as_ref(), &self.ranges, &self.ports, seed, taken)
                .map_err(|errors| Status::invalid(&request.resource.gvk, request.name, &errors))?,
            None => Plan { claim: Vec::new(), release: old.as_ref().map(plan::held).unwrap_or_default() },
        };
        let holder: Bytes = format!("{}/{}", request.namespace, request.name).into();
        let mut together = Together::default();
        for claim in &plan.claim {
            together.compare.push(Compare::Absent(claim.key()));
            together.ops.push(Op::Put { key: claim.key(), value: holder.clone() });
            if let (Claim::Ip(ip), Some(key)) = (claim, address_key(claim)) {
                let object = address(*ip, request, jiff::Timestamp::now());
                let value = Object::canonical(object).map_err(Status::internal)?;
                together.compare.push(Compare::Absent(key.clone()));
                together.ops.push(Op::Put { key, value });
            }
        }
        for claim in &plan.release {
            together.ops.push(Op::Delete { key: claim.key() });
            together.ops.extend(address_key(claim).map(|key| Op::Delete { key }));
        }
        Ok(together)
    }
}
