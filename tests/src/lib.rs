//! What the end-to-end tests share: a cluster of their own with real parts, kubectl, and a look at the whole machine.
//!
//! A test's cluster is brought up by the same code as a user's and taken down when the test ends, however it ends. Tests
//! that cannot run here fail: `cargo xtask test` knows beforehand which groups a machine can run, and says so.

mod builds;
mod cluster;
pub mod differential;
mod kubectl;
mod machine;
pub mod matrix;
pub mod names;
pub mod objects;
pub mod reach;

pub use builds::another_build;
pub use cluster::TestCluster;
pub use kubectl::Output;
pub use machine::Snapshot;
pub use xtask::proc::until;

/// How large a sample is: the first number in the gate, the second with `cargo xtask test --long`.
pub fn sample((gate, long): (usize, usize)) -> usize {
    if std::env::var_os("SKEP_TEST_LONG").is_some() { long } else { gate }
}
