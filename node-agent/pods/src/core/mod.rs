//! The deciding part of a node's pod duties: plain functions of their inputs, without clock, I/O or tokio.

pub mod admit;
pub mod allot;
pub mod backoff;
pub mod dns;
pub mod env;
pub mod garbage;
pub mod image_volume;
pub mod observed;
pub mod plan;
pub mod preempt;
pub mod probe;
pub mod resize;
pub mod resources;
pub mod rules;
pub mod sandbox;
pub mod spec;
pub mod status;
#[cfg(test)]
mod tests;
