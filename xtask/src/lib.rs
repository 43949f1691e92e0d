//! The one entry for people: `cargo xtask` builds Skep, brings a cluster up and down, and tests it.

pub mod kernel;
pub mod layout;
pub mod oci;
pub mod proc;
pub mod run;
pub mod ui;
