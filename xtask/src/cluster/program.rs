//! The programs that run on every node, and how one is started where its node is.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::config::{Config, Node};
use super::{agent, containerd, dns};
use crate::kernel;
use crate::layout::Layout;
use crate::proc::{self, Process};
use crate::run::{command, wrapped};

/// Longest wait for one part to come up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A program that every node runs once.
pub struct Program {
    /// Its file name.
    pub name: &'static str,
    /// Whether it comes out of this checkout: after a build a running one is ended, so that the new one takes over.
    pub built: bool,
    /// Prepares what it needs and gives its command line.
    pub command: fn(&Config, &Node, &Layout) -> Result<Command>,
    /// Whether it does its work already.
    pub ready: fn(&Config, &Node) -> bool,
}

/// The container runtime, which needs no server.
pub const CONTAINERD: Program = Program {
    name: "containerd",
    built: false,
    command: |config, node, _| containerd::prepare(config, node),
    ready: containerd::answers,
};

/// The node agent.
pub const AGENT: Program =
    Program { name: "skep-agent", built: true, command: agent::command_line, ready: |_, _| true };

/// The DNS server.
pub const DNS: Program =
    Program { name: "skep-dns", built: true, command: dns::command_line, ready: dns::ready };

/// What is started once the server answers, in this order.
pub const AFTER_SERVER: &[&Program] = &[&DNS, &AGENT];

/// Every program of a node, in the order they start.
pub fn programs() -> impl Iterator<Item = &'static Program> {
    [&CONTAINERD].into_iter().chain(AFTER_SERVER.iter().copied())
}

/// The name under which a node's process is recorded and logs.
#[must_use]
pub fn process_name(program: &str, node: &Node) -> String {
    format!("{program}-{}", node.name)
}

/// Starts a program on a node, whether or not one runs, and waits until it is ready.
///
/// # Errors
/// When it cannot be started, ends, or does not become ready; the message quotes its log.
pub fn start(program: &Program, config: &Config, node: &Node, layout: &Layout) -> Result<Process> {
    let name = process_name(program.name, node);
    let inner = (program.command)(config, node, layout)?;
    let process = proc::daemon(&on_node(config, node, &inner), &config.log(&name))?;
    process.write(&config.pid_file(&name))?;
    await_process(&name, config, process, || (program.ready)(config, node))?;
    Ok(process)
}

/// Waits until a process is ready.
///
/// # Errors
/// When it ends or does not become so; the message quotes its log.
pub fn await_process(
    name: &str,
    config: &Config,
    process: Process,
    mut ready: impl FnMut() -> bool,
) -> Result<()> {
    let mut ended = false;
    let came = proc::until(PATIENCE, || {
        ended = !process.alive();
        ended || ready()
    });
    if ended || !came {
        let what = if ended { "ended" } else { "did not become ready" };
        let log = config.log(name);
        bail!("{name} {what}; its log {} ends with:\n{}", log.display(), proc::tail(&log, 40));
    }
    Ok(())
}

/// Names the node's host, enters the cgroups and becomes the program: the process id stays throughout.
const ENTER: &str = r#"echo "$1" > /proc/sys/kernel/hostname; shift
while [ "$1" != -- ]; do echo 0 > "$1" || exit 1; shift; done
shift; exec "$@""#;

/// The command as one that runs where a node is: in its network namespace and its cgroup, under its name. As it is where
/// the node is the machine.
#[must_use]
pub fn on_node(config: &Config, node: &Node, inner: &Command) -> Command {
    let (Some(netns), Some(cgroup)) = (config.netns(node), host_cgroup(config, node)) else {
        return wrapped(command(inner.get_program()), inner.get_args(), inner);
    };
    let mut outer = command("nsenter");
    outer.arg(format!("--net={}", netns.display())).args(["unshare", "--uts", "sh", "-c", ENTER, "sh"]);
    outer.arg(&node.name);
    for root in kernel::cgroup_roots() {
        outer.arg(root.join(&cgroup).join("cgroup.procs"));
    }
    outer.arg("--").arg(inner.get_program());
    wrapped(outer, inner.get_args(), inner)
}

/// The cgroup of a node's own processes, beside those of its pods: cgroup2 has no processes in inner cgroups.
fn host_cgroup(config: &Config, node: &Node) -> Option<std::path::PathBuf> {
    config.cgroup(node).map(|cgroup| cgroup.join("host"))
}

/// Makes the cgroup of a node.
///
/// # Errors
/// When the kernel refuses.
pub fn make_cgroup(config: &Config, node: &Node) -> Result<()> {
    match host_cgroup(config, node) {
        Some(cgroup) => kernel::make_cgroup(&cgroup),
        None => Ok(()),
    }
}

/// Where a node's part of the cgroup2 hierarchy begins; `None` where it is all of it.
///
/// # Errors
/// When cgroup2 is not mounted.
pub fn cgroup_root(config: &Config, node: &Node) -> Result<Option<std::path::PathBuf>> {
    let Some(cgroup) = config.cgroup(node) else { return Ok(None) };
    let mount = kernel::mounted("cgroup2").context("cgroup2 is not mounted")?;
    Ok(Some(mount.join(cgroup)))
}

/// Whether a process runs from a program file as it is now, not from one that was replaced.
#[must_use]
pub fn runs_from(process: Process, program: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let running = inode(Path::new(&format!("/proc/{}/exe", process.pid)));
    running.is_some() && running == inode(program)
}
