//! Addresses and node ports of Services, held as claims: one key of the store each, written in the transaction that writes the
//! Service and removed in the one that removes it, so that no two Services ever hold the same. An IPAddress object stands
//! beside the claim of each address, for people to see; whoever makes one first keeps Services from the address.

mod plan;
#[cfg(test)]
mod tests;

pub use plan::{Claim, Plan, PortRange, plan};

use crate::cache::Caches;
use crate::hooks::{Companion, Together, WriteRequest};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use skep_api::{GroupResource, Object, Status};
use skep_store::{Compare, Op};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A range of IPv4 addresses, such as `10.96.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: u32,
    bits: u8,
}

/// Text is not a range that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 range such as 10.96.0.0/16, with a prefix of 8 to 28 bits")]
pub struct CidrError(String);

impl std::str::FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parsed = || {
            let (ip, bits) = text.split_once('/')?;
            let (ip, bits): (Ipv4Addr, u8) = (ip.parse().ok()?, bits.parse().ok()?);
            let base = u32::from(ip);
            let within = (8..=28).contains(&bits) && base & (u32::MAX >> bits) == 0;
            within.then_some(Cidr { base, bits })
        };
        parsed().ok_or_else(|| CidrError(text.to_owned()))
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.bits)
    }
}

impl Cidr {
    /// How many addresses can be given out: all but the network's own and the broadcast address.
    pub fn size(&self) -> u32 {
        (1 << (32 - u32::from(self.bits))) - 2
    }

    /// The `n`th address that can be given out, counting from 0.
    pub fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1 + n % self.size())
    }

    /// The first address: that of the `kubernetes` Service.
    pub fn first(&self) -> Ipv4Addr {
        self.nth(0)
    }

    /// Whether an address can be given out.
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        let ip = u32::from(ip);
        ip > self.base && ip - self.base <= self.size()
    }
}

/// Claims what Services need.
pub struct Services {
    caches: Arc<Caches>,
    range: Cidr,
    ports: PortRange,
}

impl Services {
    /// A companion that gives out addresses of `range` and node ports 30000 to 32767.
    pub fn new(caches: Arc<Caches>, range: Cidr) -> Self {
        Services { caches, range, ports: PortRange::default() }
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
fn address(ip: Ipv4Addr, request: &WriteRequest<'_>, now: jiff::Timestamp) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": ip.to_string(), "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": skep_api::kinds::rfc3339(now),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
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
            Some(new) => plan(new, old.as_ref(), &self.range, &self.ports, seed, taken)
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
