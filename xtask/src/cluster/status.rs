//! `cargo xtask status`: processes, nodes, pods, and the eBPF programs with where they are attached.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use skep_dataplane::status_from_pins;

use super::config::Config;
use super::parts;
use crate::api::{Api, condition};
use crate::kernel;
use crate::proc::Process;
use crate::ui::Table;

/// What a cluster looks like at one moment.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Its name.
    pub cluster: String,
    /// Its directory.
    pub dir: String,
    /// Why the API server could not be asked, if it could not.
    pub api_error: Option<String>,
    /// Its processes.
    pub processes: Vec<ProcessStatus>,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
    /// Its pods.
    pub pods: Vec<PodStatus>,
    /// Loaded programs.
    pub programs: Vec<ProgramStatus>,
    /// Memory the kernel charges for eBPF maps, in bytes.
    pub map_bytes: u64,
}

/// One process.
#[derive(Debug, Serialize)]
pub struct ProcessStatus {
    /// Program.
    pub name: String,
    /// The node it belongs to; none for the server.
    pub node: Option<String>,
    /// Its pid while it runs.
    pub pid: Option<i32>,
    /// Resident memory in bytes while it runs.
    pub resident: Option<u64>,
}

/// One node.
#[derive(Debug, Serialize)]
pub struct NodeStatus {
    /// Name.
    pub name: String,
    /// Whether its `Ready` condition is true.
    pub ready: bool,
    /// Kubelet version it reports.
    pub version: String,
}

/// One pod.
#[derive(Debug, Serialize)]
pub struct PodStatus {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Phase.
    pub phase: String,
    /// Whether its `Ready` condition is true.
    pub ready: bool,
    /// Address.
    pub ip: String,
    /// Node.
    pub node: String,
}

/// One loaded program.
#[derive(Debug, Serialize)]
pub struct ProgramStatus {
    /// Name.
    pub name: String,
    /// The node it works for.
    pub node: String,
    /// The kernel's number for it.
    pub id: u32,
    /// Where it is attached.
    pub attached: Vec<String>,
}

/// Looks at every part; one that cannot be asked is left empty and named.
///
/// # Errors
/// When pins cannot be read.
pub fn status(config: &Config) -> Result<Status> {
    let processes = parts(config)
        .into_iter()
        .map(|part| {
            let process = Process::read(&config.pid_file(&part.name)).ok().flatten().filter(Process::alive);
            let pid = process.map(|process| process.pid);
            let (name, node) = (part.program.to_owned(), part.node);
            ProcessStatus { name, node, pid, resident: pid.and_then(resident) }
        })
        .collect();
    let (nodes, pods, api_error) = match objects(config) {
        Ok((nodes, pods)) => (nodes, pods, None),
        Err(error) => (Vec::new(), Vec::new(), Some(format!("{error:#}"))),
    };
    let (mut programs, mut map_bytes) = (Vec::new(), 0);
    for node in &config.nodes {
        // Interfaces have names in their own namespace.
        let netns = config.netns(node);
        let read = || status_from_pins(Path::new("/sys/fs/bpf"), &config.name, &node.name);
        let kernel = kernel::in_netns(netns.as_deref(), read)??;
        map_bytes += kernel.map_bytes();
        programs.extend(kernel.programs.into_iter().map(|program| ProgramStatus {
            name: program.name,
            node: node.name.clone(),
            id: program.id,
            attached: program.attach_points,
        }));
    }
    let (cluster, dir) = (config.name.clone(), config.dir.display().to_string());
    Ok(Status { cluster, dir, api_error, processes, nodes, pods, programs, map_bytes })
}

/// Resident memory of a process, in bytes.
#[must_use]
pub fn resident(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn objects(config: &Config) -> Result<(Vec<NodeStatus>, Vec<PodStatus>)> {
    let api = Api::open(&config.kubeconfig())?;
    let nodes = api.list("/api/v1/nodes")?;
    let nodes = nodes.iter().map(|node| NodeStatus {
        name: text(&node["metadata"]["name"]),
        ready: condition(node, "Ready") == Some("True"),
        version: text(&node["status"]["nodeInfo"]["kubeletVersion"]),
    });
    let pods = api
        .list("/api/v1/pods")?
        .iter()
        .map(|pod| PodStatus {
            namespace: text(&pod["metadata"]["namespace"]),
            name: text(&pod["metadata"]["name"]),
            phase: text(&pod["status"]["phase"]),
            ready: condition(pod, "Ready") == Some("True"),
            ip: text(&pod["status"]["podIP"]),
            node: text(&pod["spec"]["nodeName"]),
        })
        .collect();
    Ok((nodes.collect(), pods))
}

impl Status {
    /// As tables.
    #[must_use]
    pub fn render(&self) -> String {
        let yes = |ready: bool| if ready { "yes" } else { "no" }.to_owned();
        let mut processes = Table::new(&["PROCESS", "NODE", "PID", "RESIDENT MiB"]);
        for process in &self.processes {
            let pid = process.pid.map_or("not running".to_owned(), |pid| pid.to_string());
            let resident = process.resident.map(|bytes| format!("{:.1}", bytes as f64 / 1048576.0));
            let node = process.node.clone().unwrap_or_default();
            processes.row([process.name.clone(), node, pid, resident.unwrap_or_default()]);
        }
        let mut nodes = Table::new(&["NODE", "READY", "VERSION"]);
        for node in &self.nodes {
            nodes.row([node.name.clone(), yes(node.ready), node.version.clone()]);
        }
        let mut pods = Table::new(&["NAMESPACE", "POD", "PHASE", "READY", "IP", "NODE"]);
        for pod in &self.pods {
            let pod = [&pod.namespace, &pod.name, &pod.phase, &yes(pod.ready), &pod.ip, &pod.node];
            pods.row(pod.map(Clone::clone));
        }
        let mut programs = Table::new(&["PROGRAM", "NODE", "ID", "ATTACHED TO"]);
        for program in &self.programs {
            let (name, node) = (program.name.clone(), program.node.clone());
            programs.row([name, node, program.id.to_string(), program.attached.join(", ")]);
        }
        let api = match &self.api_error {
            Some(error) => format!("The API server cannot be asked: {error}\n"),
            None => format!("{}\n{}", nodes.render(), pods.render()),
        };
        format!(
            "Cluster {} in {}\n\n{}\n{api}\n{}\neBPF maps: {:.1} MiB of kernel memory\n",
            self.cluster,
            self.dir,
            processes.render(),
            programs.render(),
            self.map_bytes as f64 / 1048576.0
        )
    }
}
