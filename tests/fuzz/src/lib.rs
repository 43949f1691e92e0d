//! What reads bytes of strangers, fed with bytes: nothing may panic, hang or grow without bound.
//!
//! A target takes any bytes. [`libfuzzer/`](../libfuzzer) drives targets by coverage (`cargo xtask fuzz`); the tests
//! of this crate drive them a fixed number of times with mutations of the seeds, which are always the same.

mod dice;
mod targets;

pub use dice::Dice;
pub use targets::{TARGETS, Target};

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
