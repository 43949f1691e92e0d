//! Cluster DNS on every node: names of Services and pods from what the API server says.
//!
//! [`core`] decides and does no I/O.

pub mod core;
