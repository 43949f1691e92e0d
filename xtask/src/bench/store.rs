//! The store by itself, on this disk: a program of its own, for it needs a release build of the store.

use anyhow::{Context, Result};

use super::{Figure, Place};
use crate::layout::Layout;
use crate::run::{cargo, passthrough, text};
use crate::ui::Step;

/// Builds the programs that measure.
pub(super) fn build(layout: &Layout) -> Result<()> {
    let mut build = cargo();
    build.current_dir(&layout.root).args(["build", "--release", "--locked", "--package", "skep-bench"]);
    passthrough(build.arg("--target-dir").arg(&layout.target))
}

pub(super) fn run(place: &Place<'_>) -> Result<Vec<Figure>> {
    build(place.layout)?;
    let step = Step::begin("writing to a store in the target directory");
    let mut bench = crate::run::command(place.layout.target.join("release/skep-bench-store"));
    let lines = text(bench.arg(place.layout.target.join(format!("bench-store-{}", std::process::id()))))?;
    step.done("");
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
