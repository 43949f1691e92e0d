//! A node's pod duties over the container runtime interface.
//!
//! [`core`] decides and is pure; everything beside it is a thin shell: the runtime, images, volumes, probes, the
//! node's HTTPS server, addresses of pods, and the node's own object in the API.

mod admission;
pub mod allotments;
pub mod api;
pub mod cgroup;
pub mod context;
pub mod core;
pub mod cri;
pub mod garbage;
pub mod images;
pub mod manager;
pub mod network;
pub mod node;
pub mod ops;
pub mod prober;
pub mod server;
pub mod usage;
pub mod volumes;
pub mod worker;
