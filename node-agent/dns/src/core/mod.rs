//! What is answered, as plain functions: from Services, EndpointSlices and namespaces to an index, and from a question to
//! records. Source: the Kubernetes DNS specification 1.1 and, where that leaves something open, what CoreDNS' `kubernetes`
//! plugin answers as clusters configure it (`pods insecure`, reverse zones that fall through).

pub mod answer;
pub mod cache;
pub mod name;
pub mod objects;
pub mod resolv;
pub mod zone;

pub use answer::{Answer, Domain, Reply, answer};
pub use objects::{Endpoint, Port, Protocol, Service, Slice};
pub use zone::{Snapshot, Zone};

#[cfg(test)]
mod tests;
