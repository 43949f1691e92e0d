//! `cargo xtask fuzz`: libFuzzer over everything that reads bytes of strangers.
//!
//! The targets are in `tests/fuzz`. The driver in `tests/fuzz/libfuzzer` is built by the usual compiler with the
//! coverage that libFuzzer reads: those are passes of LLVM, for which no nightly compiler is needed.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::layout::Layout;
use crate::run::{cargo, command, passthrough, shown, which};

/// What to fuzz and for how long.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// One target instead of all.
    #[arg(long)]
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// The driver: a workspace of its own.
pub(crate) const DRIVER: &str = "tests/fuzz/libfuzzer/Cargo.toml";

/// Where the targets are, one row `name: "…"` each.
const TARGETS: &str = "tests/fuzz/src/targets.rs";

/// Counters at every edge, and what is compared with what.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Builds the driver and runs the targets one after the other. What made one fail lies in `target/fuzz/found`, what
/// led to new places in `target/fuzz/corpus`, from where the next run goes on.
///
/// # Errors
/// When the driver cannot be built.
pub fn run(layout: &Layout, args: &FuzzArgs) -> Result<ExitCode> {
    if which("c++").is_none() {
        bail!("libFuzzer is C++: install a compiler for it (`apt-get install g++`)");
    }
    let known = targets(&fs::read_to_string(layout.root.join(TARGETS)).context(TARGETS)?);
    let chosen: Vec<&String> =
        known.iter().filter(|name| args.target.as_ref().is_none_or(|one| one == *name)).collect();
    if chosen.is_empty() {
        bail!("there is no such target; there are {}", known.join(", "));
    }
    let folder = layout.target.join("fuzz");
    // The machine is named, so that build scripts are built without coverage.
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = cargo();
    build.current_dir(&layout.root).args([
        "build",
        "--release",
        "--manifest-path",
        DRIVER,
        "--target",
        &host,
    ]);
    build.arg("--target-dir").arg(folder.join("build")).env("RUSTFLAGS", COVERAGE.join(" "));
    passthrough(&mut build)?;
    let driver = folder.join("build").join(&host).join("release/skep-libfuzzer");
    let mut failed = Vec::new();
    for name in chosen {
        let (corpus, found) = (folder.join("corpus").join(name), folder.join("found").join(name));
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
        let mut run = command(&driver);
        run.env("SKEP_FUZZ_TARGET", name).env("SKEP_FUZZ_SEEDS", &corpus).arg(&corpus);
        run.arg(format!("-max_total_time={}", args.seconds))
            .arg(format!("-artifact_prefix={}/", found.display()));
        // Slow is what takes seconds, much is what takes 2 GiB; both are failures.
        run.args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=4096", "-print_final_stats=1"]);
        eprintln!("{name}: {:?}", Duration::from_secs(args.seconds));
        if !run.status().with_context(|| shown(&run))?.success() {
            failed.push(name.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("failed: {}; what made them fail is in {}", failed.join(", "), folder.join("found").display());
    Ok(ExitCode::FAILURE)
}

/// The names in the table of targets.
fn targets(table: &str) -> Vec<String> {
    let names = table.lines().filter_map(|line| line.trim().strip_prefix("name: \"")?.strip_suffix("\","));
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_in_their_table() {
        let table = fs::read_to_string(Layout::find().root.join(TARGETS)).expect("the table");
        let names = targets(&table);
        assert!(names.len() > 8 && names.contains(&"cel".to_owned()), "{names:?}");
        assert_eq!(names.len(), table.matches("Target {\n        name").count());
    }
}
