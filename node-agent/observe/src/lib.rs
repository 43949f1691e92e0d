//! Flows out of the kernel: what each pod of this node sent, received and lost, by the eBPF programs' count.
//!
//! [`skep_dataplane::Dataplane::counters`] reads; this crate turns a reading into rows for people
//! ([`PodRow`]) and into the Prometheus text format ([`prometheus`]). Both are plain functions.

mod prometheus;
mod rows;

pub use prometheus::{CONTENT_TYPE, prometheus};
pub use rows::{PodRow, rows};
