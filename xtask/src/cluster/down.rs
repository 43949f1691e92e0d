//! `cargo xtask down`: nothing of the cluster stays, whatever state it is in.
//!
//! It asks no part of the cluster for help, for any of them may be dead: processes are found by the paths on their
//! command lines, which carry the cluster's directories, and ended by pid; the rest by name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::config::{Config, Node};
use super::program::{CONTAINERD, programs};
use super::undo::Undo;
use super::{Part, lan, up};
use crate::kernel;
use crate::proc::{self, Process};

const BPFFS: &str = "/sys/fs/bpf";

/// Takes the cluster down; gives what stayed, one sentence each.
#[must_use]
pub fn down(config: &Config, keep_data: bool) -> Vec<String> {
    let mut left = Vec::new();
    let pods = end_processes(config, &mut left);
    for dir in config.nodes.iter().map(|node| config.node_run(node)).chain([config.dir.clone()]) {
        kernel::unmount_below(&dir);
    }
    for node in &config.nodes {
        let done = kernel::in_netns(config.netns(node).as_deref(), || remove_from_kernel(config, node));
        left.extend(done.unwrap_or_else(|error| vec![format!("{error:#}")]));
    }
    remove_dir(&config.pins(), &mut left);
    if let Some(parent) = config.pins().parent() {
        let _ = fs::remove_dir(parent);
    }
    // The namespaces of nodes: nothing holds them now.
    kernel::unmount_below(&config.run_dir());
    if let Err(error) = lan::remove(config) {
        left.push(format!("{error:#}"));
    }
    remove_cgroups(config, &pods, &mut left);
    left.extend(Undo::revert(config));
    remove_dir(&config.run_dir(), &mut left);
    let _ = fs::remove_dir("/run/skep");
    let data: Vec<PathBuf> = if keep_data {
        let of_nodes = config.nodes.iter().map(|node| config.node_dir(node));
        let of_nodes = of_nodes.flat_map(|dir| ["cni", "containerd.toml"].map(|name| dir.join(name)));
        [config.dir.join("pids")].into_iter().chain(of_nodes).collect()
    } else {
        vec![config.dir.clone()]
    };
    for path in data {
        remove_dir(&path, &mut left);
    }
    left
}

fn remove_dir(path: &Path, left: &mut Vec<String>) {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            left.push(format!("cannot remove {}: {error}", path.display()));
        }
        _ => {}
    }
}

/// Processes whose command line names this cluster: its daemons and containerd's shims.
fn roots(config: &Config) -> BTreeSet<i32> {
    let of_nodes = config.nodes.iter().flat_map(|node| {
        let toml = config.node_dir(node).join("containerd.toml");
        [
            config.agent_data(node),
            config.dns_data(node),
            config.cni_socket(node),
            config.containerd_socket(node),
            toml,
        ]
    });
    let marks: BTreeSet<String> =
        [config.server_data()].into_iter().chain(of_nodes).map(|path| path.display().to_string()).collect();
    let recorded = super::parts(config)
        .into_iter()
        .filter_map(|part| Process::read(&config.pid_file(&part.name)).ok().flatten())
        .filter(Process::alive)
        .map(|process| process.pid);
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    proc::all()
        .into_keys()
        .filter(|&pid| pid != me && is_ours(&proc::words(pid), &marks))
        .chain(recorded)
        .collect()
}

/// Whether a command line is that of one of our programs and names one of the marks.
fn is_ours(words: &[String], marks: &BTreeSet<String>) -> bool {
    let program = words.first().map(|word| word.rsplit('/').next().unwrap_or(word)).unwrap_or_default();
    let known = program == up::SERVER
        || programs().any(|ours| ours.name == program)
        || program.starts_with("containerd-shim")
        || program == "skep-cni";
    known && words.iter().skip(1).any(|word| marks.contains(word.strip_prefix("unix://").unwrap_or(word)))
}

/// Ends every process of the cluster; gives the cgroups that its pods were in.
fn end_processes(config: &Config, left: &mut Vec<String>) -> PodCgroups {
    // Agent and server may end in their own way first: nobody restarts a container meanwhile, and logs close well.
    let mut parts = super::parts(config);
    parts.retain(|part| part.program != CONTAINERD.name);
    let recorded = |part: &Part| Process::read(&config.pid_file(&part.name)).ok().flatten();
    // The server, which stands first, last.
    for process in parts.iter().rev().filter_map(recorded) {
        process.signal(Signal::SIGTERM);
        let _ = process.wait_gone(Duration::from_secs(5));
    }
    let sockets = shim_sockets(config);
    let mut pods = PodCgroups::find(config, &proc::with_descendants(&roots(config), &proc::all()));
    // A shim that starts while we look would be missed by one pass.
    for _ in 0..5 {
        let mut pids = proc::with_descendants(&roots(config), &proc::all());
        pids.extend(cgroups(config).iter().flat_map(|dir| kernel::cgroup_pids(dir)));
        pods.0.append(&mut PodCgroups::find(config, &pids).0);
        let ours: Vec<Process> = pids.into_iter().filter_map(Process::now).collect();
        if ours.is_empty() {
            break;
        }
        for process in &ours {
            process.signal(Signal::SIGKILL);
        }
        for process in &ours {
            if !process.wait_gone(Duration::from_secs(10)) {
                left.push(format!("process {} does not end", process.pid));
            }
        }
    }
    for socket in sockets {
        let _ = fs::remove_file(socket);
    }
    pods
}

/// Shims keep their sockets outside containerd's state directory; each bundle says where.
fn shim_sockets(config: &Config) -> Vec<PathBuf> {
    let tasks = "containerd/io.containerd.runtime.v2.task/k8s.io";
    let bundles =
        config.nodes.iter().flat_map(|node| kernel::subdirectories(&config.node_run(node).join(tasks)));
    bundles
        .filter_map(|bundle| fs::read_to_string(bundle.join("address")).ok())
        .filter_map(|address| Some(PathBuf::from(address.trim().strip_prefix("unix://")?)))
        .filter(|socket| socket.starts_with("/run/containerd/s"))
        .collect()
}

/// Interfaces of pods go with their network namespaces, but the kernel takes its time: wait for it.
fn await_interfaces(indexes: &BTreeSet<u32>, left: &mut Vec<String>) {
    let still = || -> Vec<String> {
        let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
        let index = |dir: &Path| fs::read_to_string(dir.join("ifindex")).ok()?.trim().parse::<u32>().ok();
        entries
            .flatten()
            .filter(|entry| index(&entry.path()).is_some_and(|index| indexes.contains(&index)))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    };
    if !proc::until(Duration::from_secs(20), || still().is_empty()) {
        left.push(format!("network interfaces {}", still().join(", ")));
    }
}

/// Removes what the kernel holds for a node, in whose network namespace it is called; gives what stayed.
fn remove_from_kernel(config: &Config, node: &Node) -> Vec<String> {
    let mut left = Vec::new();
    // The pins know the pods' interfaces: ask them before they go.
    let known = skep_dataplane::status_from_pins(Path::new(BPFFS), &config.name, &node.name);
    let indexes =
        known.map(|status| status.pods.iter().map(|pod| pod.pod.ifindex).collect()).unwrap_or_default();
    // Those in a namespace of the node's own go with that.
    if config.lan.is_none() {
        await_interfaces(&indexes, &mut left);
    }
    if let Err(error) = skep_dataplane::remove_all(Path::new(BPFFS), &config.name, &node.name) {
        left.push(format!("{error}"));
    }
    left
}

/// Cgroups of pods, as paths below each hierarchy's root.
#[derive(Debug, Default, PartialEq, Eq)]
struct PodCgroups(BTreeSet<PathBuf>);

impl PodCgroups {
    /// Those the agent's data directory knows pods of, and those that processes about to end are in.
    fn find(config: &Config, pids: &BTreeSet<i32>) -> Self {
        let mut found = PodCgroups::default();
        let pods = config.nodes.iter().map(|node| config.agent_data(node).join("pods"));
        for pod in pods.flat_map(|dir| kernel::subdirectories(&dir)) {
            let Some(uid) = pod.file_name().and_then(|name| name.to_str()) else { continue };
            for class in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
                found.0.insert(Path::new(class).join(format!("pod{uid}")));
            }
        }
        for pid in pids {
            found.read(&fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default());
        }
        found
    }

    /// Adds what one `/proc/PID/cgroup` says.
    fn read(&mut self, text: &str) {
        for line in text.lines() {
            let Some(path) = line.splitn(3, ':').nth(2) else { continue };
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            let Some(pod) = parts.iter().position(|part| part.starts_with("pod")) else { continue };
            if parts[..pod].contains(&"kubepods") {
                self.0.insert(parts[..=pod].iter().collect());
            }
        }
    }
}

/// The cluster's own cgroup in every hierarchy; those of nodes with namespaces are below it.
fn cgroups(config: &Config) -> Vec<PathBuf> {
    let own = Path::new("skep").join(&config.name);
    kernel::cgroup_roots().into_iter().map(|root| root.join(&own)).filter(|dir| dir.is_dir()).collect()
}

fn remove_cgroups(config: &Config, pods: &PodCgroups, left: &mut Vec<String>) {
    let roots = kernel::cgroup_roots();
    let pods = pods.0.iter().flat_map(|pod| roots.iter().map(move |root| root.join(pod)));
    for dir in pods.filter(|dir| dir.is_dir()).chain(cgroups(config)) {
        // A process that was just killed may hold its cgroup for a moment.
        if !proc::until(Duration::from_secs(10), || kernel::remove_cgroup(&dir)) {
            left.push(format!("cgroup {}", dir.display()));
        }
    }
    // Parents that pods of others may still be in: rmdir takes only empty ones.
    for root in &roots {
        for parent in ["kubepods/burstable", "kubepods/besteffort", "kubepods", "skep"] {
            let _ = fs::remove_dir(root.join(parent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn only_our_programs_with_our_paths_are_ours() {
        let marks = BTreeSet::from(["/run/skep/skep/containerd.sock".to_owned(), "/c/server".to_owned()]);
        let ours = |line: &str| is_ours(&words(line), &marks);
        assert!(ours(
            "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -address /run/skep/skep/containerd.sock"
        ));
        assert!(ours("/x/skep-server --data-dir /c/server"));
        assert!(ours("skep-agent --container-runtime-endpoint unix:///run/skep/skep/containerd.sock"));
        assert!(!ours("containerd-shim-runc-v2 -address /run/containerd/containerd.sock"));
        assert!(!ours("/x/skep-server --data-dir /c/server2"));
        assert!(!ours("tail -f /c/server"));
    }

    #[test]
    fn a_process_tells_its_pod_in_every_hierarchy() {
        let mut found = PodCgroups::default();
        found.read("8:pids:/kubepods/besteffort/podabc/def\n0::/node-1/kubepods/podabc\n4:memory:/user/pod1\nnonsense\n");
        let expected = ["kubepods/besteffort/podabc", "node-1/kubepods/podabc"].map(PathBuf::from);
        assert_eq!(found, PodCgroups(BTreeSet::from(expected)));
    }
}
