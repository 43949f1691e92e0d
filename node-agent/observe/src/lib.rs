//! What a node's dataplane tells: what each pod of this node sent, received and lost, by the eBPF programs' count, and what is
//! loaded and in force.
//!
//! [`skep_dataplane::Dataplane::counters`] reads; this crate turns a reading into rows for people
//! ([`PodRow`]) and into the Prometheus text format ([`prometheus`]). [`NodeReport`] is what an agent says of its node; it alone is
//! there without the feature `kernel`, for who reads it elsewhere. All are plain functions and values.

#[cfg(feature = "kernel")]
mod node_metrics;
#[cfg(feature = "kernel")]
mod prometheus;
mod report;
#[cfg(feature = "kernel")]
mod rows;

#[cfg(feature = "kernel")]
pub use node_metrics::{Histogram, ProxyFigures, node_metrics};
#[cfg(feature = "kernel")]
pub use prometheus::{CONTENT_TYPE, prometheus};
pub use report::{MapReport, NodeReport, Problem, ProgramReport, SyncReport};
#[cfg(feature = "kernel")]
pub use rows::{PodRow, rows};
