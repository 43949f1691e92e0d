//! The one entry for people: `cargo xtask` builds Skep, brings a cluster up and down, and tests it.
//!
//! The end-to-end tests use the same parts, so a cluster of a test is brought up the way a user's is.

pub mod api;
pub mod apt;
pub mod bench;
pub mod builder;
pub mod cli;
pub mod cluster;
pub mod conformance;
pub mod ebpf;
pub mod fuzz;
pub mod gate;
pub mod kernel;
pub mod kernels;
pub mod kubectl;
pub mod layout;
pub mod load;
pub mod oci;
pub mod prereq;
pub mod proc;
pub mod python;
pub mod run;
pub mod tidy;
pub mod tools;
pub mod ui;
