//! `cargo xtask conformance`: Kubernetes' own conformance suite against a fresh cluster, and the ledger of what passes.

pub mod images;
pub mod ledger;
pub mod report;
pub mod suite;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::cluster::lan::Lan;
use crate::cluster::{Config, down, up};
use crate::layout::Layout;
use crate::ui::Step;
use crate::{builder, prereq};
use ledger::Ledger;
use report::Report;
use suite::{Selection, Suite};

/// What to run, and with what.
#[derive(Args)]
pub struct ConformanceArgs {
    /// The suite: an `e2e.test` of Kubernetes 1.36. `ginkgo` (for several processes) and `kubectl` are taken from beside
    /// it or from PATH.
    #[arg(long)]
    suite: PathBuf,
    /// Folder with the programs of the suite's images (`agnhost`, `pause`, `etcd`, `images/…`), from which and from the
    /// distribution's packages the images are built.
    #[arg(long, conflicts_with = "images")]
    programs: Option<PathBuf>,
    /// Folder with images as OCI archives (`*.tar`), loaded into the nodes as they are.
    #[arg(long)]
    images: Option<PathBuf>,
    /// Only the conformance tests whose name matches this regular expression.
    #[arg(long)]
    focus: Option<String>,
    /// Not the tests whose name matches this one.
    #[arg(long)]
    skip: Option<String>,
    /// Only the tests named in this file, one a line.
    #[arg(long)]
    tests: Option<PathBuf>,
    /// Processes that run tests side by side; those marked [Serial] run alone after the others.
    #[arg(long, default_value_t = 3)]
    procs: u32,
    /// Number of nodes, each in a network namespace of its own.
    #[arg(long, default_value_t = 2)]
    agents: u8,
    /// Longest time for all tests, in minutes.
    #[arg(long, default_value_t = 60)]
    timeout: u32,
    /// Directory of the cluster, and of the reports in its folder `conformance` [default: target/conformance].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Leave the cluster up afterwards, to be looked at (`cargo xtask down --dir …`).
    #[arg(long)]
    keep: bool,
    /// Take the binaries of the last build as they are.
    #[arg(long)]
    no_build: bool,
    /// Run, and leave the ledger `docs/conformance.json` as it is.
    #[arg(long)]
    no_ledger: bool,
}

/// Runs the suite; exits 1 when a selected test fails.
///
/// # Errors
/// When the suite cannot be run, or the cluster does not come up.
pub fn run(layout: &Layout, args: &ConformanceArgs) -> Result<ExitCode> {
    let suite = Suite::find(&args.suite)?;
    prereq::kernel_ready()?;
    prereq::ensure(&[prereq::BUILD, prereq::RUN])?;
    if !args.no_build {
        builder::build(layout)?;
    }
    let dir = args.dir.clone().unwrap_or_else(|| layout.target.join("conformance"));
    ensure!(
        Config::load(&dir)?.is_none(),
        "there is a cluster in {}: take it down with `cargo xtask down --dir {}`",
        dir.display(),
        dir.display()
    );
    let reports = std::path::absolute(dir.with_extension("reports"))?;
    fs::create_dir_all(&reports).with_context(|| format!("{}", reports.display()))?;

    let step = Step::begin("asking the suite for its tests");
    let known = suite.names(&reports)?;
    let listed = args.tests.as_deref().map(read_names).transpose()?;
    if let Some(unknown) = listed.iter().flatten().find(|name| !known.contains(*name)) {
        bail!("the suite has no conformance test named {unknown:?}");
    }
    step.done(&format!("{} conformance tests", known.len()));

    let config = Config { name: "conformance".to_owned(), ..Config::new(&dir)? };
    let config = config.with_agents(args.agents, Lan::free(1)?, 1)?;
    let outcome = on_cluster(layout, args, &config, || {
        let selection =
            Selection { focus: args.focus.as_deref(), skip: args.skip.as_deref(), names: listed.as_ref() };
        suite.run(&config.kubeconfig(), &reports, &selection, args.procs, args.timeout)
    });
    if args.keep {
        eprintln!("the cluster stays: KUBECONFIG={}", config.kubeconfig().display());
    } else {
        let step = Step::begin("taking the cluster down");
        let left = down::down(&config, false);
        step.done(&if left.is_empty() { "nothing is left".to_owned() } else { left.join("; ") });
    }
    let report = outcome?;
    print!("{}", report.render());
    println!("\nWhat each test said is in {}", reports.display());
    let mut lost = BTreeSet::new();
    if !args.no_ledger {
        let file = layout.root.join(ledger::FILE);
        let mut ledger = Ledger::read(&file)?;
        lost = ledger.record(&suite.version()?, &known, &report);
        ledger.write(&file)?;
        println!(
            "{} of {} conformance tests stand as passed in {}",
            ledger.passed(),
            known.len(),
            ledger::FILE
        );
        for name in &lost {
            println!("passed before and does not now: {name}");
        }
    }
    let well = report.failed() == 0 && lost.is_empty();
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Brings a cluster up with the suite's images on its nodes, and does the work on it.
fn on_cluster(
    layout: &Layout,
    args: &ConformanceArgs,
    config: &Config,
    work: impl FnOnce() -> Result<Report>,
) -> Result<Report> {
    let archives = match (&args.programs, &args.images) {
        (_, Some(folder)) => images::archives(folder)?,
        (Some(programs), None) => images::build(programs, &layout.target.join("conformance-images"))?,
        (None, None) => {
            eprintln!("neither --programs nor --images: tests whose pods need an image will fail");
            Vec::new()
        }
    };
    up::up(config, layout)?;
    images::load(config, &archives)?;
    work()
}

fn read_names(file: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}
