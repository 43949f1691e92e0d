//! A node's pod duties over the container runtime interface.
//!
//! [`core`] decides and is pure; everything beside it is a thin shell: the runtime, images, volumes, probes, the
//! node's HTTPS server, addresses of pods, and the node's own object in the API.

pub mod core;
