//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{CommandFactory, Parser, Subcommand};

use crate::bench;
use crate::cluster::lan::Lan;
use crate::cluster::{self, Config, containerd, demo, down, node_exec, status, up};
use crate::conformance::{self, ConformanceArgs};
use crate::fuzz::{self, FuzzArgs};
use crate::layout::Layout;
use crate::load::{self, LoadArgs};
use crate::{builder, gate, kubectl, prereq, tidy};

/// The one entry to Skep's checkout: build it, run it, test it.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", help_template = HELP, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

const HELP: &str = "\
{about}

A cluster on this machine (as root):
  up           build all, start a cluster, wait until its nodes are Ready, run the demo
  status       nodes, pods, processes, loaded eBPF programs with where they are attached
  node-exec    run a command where a node is: its network namespace and its cgroup
  down         remove everything that up made

Building:
  build        release binaries, images' programs and the eBPF object, into target/skep/bin
  load         load the eBPF programs: verifier statistics, log records

Testing:
  test         the gate: format, lints, walls, unit tests, eBPF tests, whole clusters
  tidy         the walls between the rooms alone
  conformance  Kubernetes' own suite against a fresh cluster
  fuzz         libFuzzer over everything that reads bytes of strangers
  bench        measure, and compare with the goals

{usage-heading} {usage}
`cargo xtask COMMAND --help` says more.
";

#[derive(Subcommand)]
enum Task {
    /// Build all, start a cluster, wait until its nodes are Ready, run the demo. A second time it adopts what runs.
    Up {
        /// Directory of the cluster [default: target/cluster].
        #[arg(long)]
        dir: Option<PathBuf>,
        /// So many nodes, each in a network namespace of its own, instead of the machine itself as the only one. Nothing
        /// such nodes send leaves the machine: they cannot pull images.
        #[arg(long, value_name = "N")]
        agents: Option<u8>,
        /// On so many networks, with a router between them that knows of no pods.
        #[arg(long, value_name = "N", requires = "agents", default_value_t = 1)]
        networks: u8,
        /// Start the cluster and stop there.
        #[arg(long)]
        no_demo: bool,
        /// Take the binaries of the last build as they are.
        #[arg(long)]
        no_build: bool,
    },
    /// Remove everything that `up` made: processes, pods, namespaces, interfaces, pins, cgroups, mounts.
    Down {
        /// Directory of the cluster [default: target/cluster].
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Leave the data directory, so that the next `up` continues with it.
        #[arg(long)]
        keep_data: bool,
    },
    /// Nodes, pods, processes, loaded eBPF programs with where they are attached.
    Status {
        /// Directory of the cluster [default: target/cluster].
        #[arg(long)]
        dir: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a command where a node is: in its network namespace and its cgroup.
    NodeExec {
        /// Directory of the cluster [default: target/cluster].
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Name of the node, or its number counted from 1.
        node: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Release binaries, the programs of the images and the eBPF object, into target/skep/bin.
    Build,
    /// Load the eBPF programs, print what the verifier says, attach them to an interface or a cgroup until Ctrl-C.
    Load(LoadArgs),
    /// The gate. Without names every group runs: fmt, tidy, clippy, deny, unit, bpf, e2e, and with --long also kernels.
    Test {
        /// Groups to run.
        groups: Vec<String>,
        /// Large samples instead of seeded small ones.
        #[arg(long)]
        long: bool,
        /// With the group `kernels`: fetch them anew, and record what their verifiers and this machine's say of the
        /// programs in ebpf/verifier.tsv.
        #[arg(long)]
        record: bool,
    },
    /// The walls between the rooms: forbidden crate edges, clocks in pure code, kind names in generic code, long files, dead links.
    Tidy,
    /// Kubernetes' own conformance suite against a fresh cluster; keeps `docs/conformance.json`. Exits 1 when a test fails.
    Conformance(ConformanceArgs),
    /// libFuzzer over everything that reads bytes of strangers (`tests/fuzz`), each target for a while. Exits 1 when one fails.
    Fuzz(FuzzArgs),
    /// Measure, and compare with the goals; exits 1 when one is missed. Without a name it lists what can be measured.
    Bench {
        /// What to measure.
        target: Option<String>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        /// Directory of the cluster [default: target/cluster].
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Folder with another implementation's programs (for `api`: kube-apiserver and etcd), measured in the same run.
        #[arg(long)]
        against: Option<PathBuf>,
    },
}

/// Runs the command line and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line's definition, for tests.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

fn run(task: Task) -> Result<ExitCode> {
    let layout = Layout::find();
    let at = |dir: Option<PathBuf>| dir.unwrap_or_else(|| layout.cluster());
    match task {
        Task::Up { dir, agents, networks, no_demo, no_build } => {
            let agents = agents.map(|agents| (agents, networks));
            return bring_up(&layout, &at(dir), agents, no_demo, no_build);
        }
        Task::Down { dir, keep_data } => return take_down(&at(dir), keep_data),
        Task::Status { dir, json } => {
            let status = status::status(&Config::existing(&at(dir))?)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                print!("{}", status.render());
            }
        }
        Task::NodeExec { dir, node, command } => {
            return node_exec::node_exec(&Config::existing(&at(dir))?, &node, &command);
        }
        Task::Build => {
            builder::build(&layout)?;
            eprintln!("ok  everything is in {}", layout.bin().display());
        }
        Task::Load(args) => load::load(args)?,
        Task::Test { groups, long, record } => gate::test(&layout, &groups, long, record)?,
        Task::Tidy => {
            let faults = tidy::check(&layout)?;
            for fault in &faults {
                println!("{}: {}", fault.at, fault.what);
            }
            if !faults.is_empty() {
                bail!("{} faults", faults.len());
            }
            println!("tidy");
        }
        Task::Conformance(args) => return conformance::run(&layout, &args),
        Task::Fuzz(args) => return fuzz::run(&layout, &args),
        Task::Bench { target, json, dir, against } => {
            return bench::run(&layout, &at(dir), target.as_deref(), against.as_deref(), json);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn bring_up(
    layout: &Layout,
    dir: &std::path::Path,
    agents: Option<(u8, u8)>,
    no_demo: bool,
    no_build: bool,
) -> Result<ExitCode> {
    prereq::kernel_ready()?;
    prereq::ensure(&[prereq::BUILD, prereq::RUN])?;
    if !no_build {
        builder::build(layout)?;
    }
    let config = match (Config::load(dir)?, agents) {
        (Some(config), Some((agents, networks)))
            if config.lan.is_none()
                || config.nodes.len() != usize::from(agents)
                || config.networks != networks =>
        {
            bail!(
                "the cluster in {} is not one of {agents} nodes in namespaces on {networks} networks: take it down first",
                dir.display()
            );
        }
        (Some(config), _) => config,
        (None, Some((agents, networks))) => {
            Config::new(dir)?.with_agents(agents, Lan::free(networks)?, networks)?
        }
        (None, None) => Config::new(dir)?,
    };
    let api = up::up(&config, layout)?;
    if !no_demo {
        let shown = demo::demo(&config, layout, &api)?;
        println!("\n{}", shown.render());
    }
    println!(
        "\nThe cluster is up. Use it:\n\n  export KUBECONFIG={}\n  kubectl get nodes",
        config.kubeconfig().display()
    );
    println!(
        "\nImages on every node without a registry: {}, {}",
        containerd::DEMO_IMAGE,
        containerd::PAUSE_IMAGE
    );
    println!("Take it down with `cargo xtask down`.");
    if kubectl::own().is_none() {
        println!("\nThere is no kubectl on PATH: {}.", kubectl::HINT);
    }
    Ok(ExitCode::SUCCESS)
}

fn take_down(dir: &std::path::Path, keep_data: bool) -> Result<ExitCode> {
    let Some(config) = cluster::find(dir)? else {
        println!("no cluster in {}", dir.display());
        return Ok(ExitCode::SUCCESS);
    };
    if !nix::unistd::geteuid().is_root() {
        bail!("taking a cluster down needs root: run `sudo -E env PATH=\"$PATH\" cargo xtask down`");
    }
    let step = crate::ui::Step::begin(format!("taking cluster {} down", config.name));
    let left = down::down(&config, keep_data);
    if left.is_empty() {
        step.done("nothing is left");
        return Ok(ExitCode::SUCCESS);
    }
    drop(step);
    for sentence in &left {
        eprintln!("left behind: {sentence}");
    }
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_names_every_command_and_no_other() {
        let definition = definition();
        definition.clone().debug_assert();
        for command in definition.get_subcommands() {
            assert!(HELP.contains(&format!("\n  {} ", command.get_name())), "{}", command.get_name());
        }
        let listed = HELP.lines().filter(|line| line.starts_with("  ")).count();
        assert_eq!(listed, definition.get_subcommands().count());
    }
}
