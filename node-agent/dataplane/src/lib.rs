//! User side of the eBPF dataplane of one node: loads, pins and adopts the programs, and fills their maps.
//!
//! Programs, links and maps are pinned under `<bpffs>/skep/<cluster>/<node>/v<layout>/` and outlive the
//! agent. [`Dataplane::open`] takes over what it finds: maps with their contents, links with whatever
//! program; only programs of another object are exchanged, each in one atomic step. Pins of an older layout are taken over with
//! their maps' entries and their links. Maps are brought to the wanted state by difference, never by flushing.
//!
//! All methods block for a system call or a few; none sleeps. Call them from an async task directly or, for
//! [`Dataplane::open`] (tens of milliseconds), from a blocking one. `Dataplane` is `Send + Sync`.

mod attach;
mod batch;
mod carry;
mod config;
mod connections;
mod dataplane;
mod error;
mod farewell;
mod handover;
pub mod hostports;
pub mod k8s;
mod layouts;
mod load;
mod maglev;
mod maps;
mod model;
mod namespaces;
mod net;
mod orphans;
mod pins;
mod pods;
mod raw_map;
mod report;
pub mod rows;
mod sock_diag;
mod status;
mod sweep;
mod sys;
pub mod tables;
#[cfg(feature = "trial")]
pub mod trial;

pub use config::{Config, Ipv4Cidr, Ipv6Cidr, TcMode};
pub use connections::Swept;
pub use dataplane::{Dataplane, counters_from_pins, remove_all, status_from_pins};
pub use error::{Error, Result};
pub use farewell::Farewell;
pub use model::{Endpoint, Hint, HostPort, Network, PortSpec, Protocol, ServiceSpec, ServiceView};
pub use report::{
    AttachedPod, Counters, Drops, MapStatus, OpenReport, PodAttachment, PodTraffic, ProgramStatus, Status,
    SyncReport,
};
pub use skep_abi::{DropReason, Traffic};
