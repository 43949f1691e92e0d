//! `cargo xtask up`: from nothing to nodes that are Ready.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::config::{Config, Node};
use super::program::{
    AFTER_SERVER, AGENT, CONTAINERD, Program, await_process, make_cgroup, process_name, runs_from, start,
};
use super::undo::Undo;
use super::{containerd, lan};
use crate::api::{Api, condition};
use crate::layout::Layout;
use crate::proc::{self, Process, side_by_side};
use crate::run::command;
use crate::ui::Step;

/// Name of the one process that belongs to no node.
pub const SERVER: &str = "skep-server";

/// Brings the cluster up, or what is missing of it. Binaries must have been built.
///
/// # Errors
/// When a part does not come up; the message names its log and quotes its end.
pub fn up(config: &Config, layout: &Layout) -> Result<Api> {
    prepare(config)?;
    on_every_node(&CONTAINERD, config, layout)?;
    let step = Step::begin("putting the pause and demo images into containerd");
    containerd::import_images(config, layout)?;
    step.done("");
    let step = Step::begin(format!("starting {SERVER}"));
    step.done(&match running(SERVER, Some(SERVER), config, layout)? {
        Some(process) => format!("runs already, pid {}", process.pid),
        None => format!("pid {}", start_server(config, layout)?.pid),
    });
    let api = Api::open(&config.kubeconfig())?;
    for program in AFTER_SERVER {
        on_every_node(program, config, layout)?;
    }
    wait_ready(config, &api)?;
    Ok(api)
}

/// Makes what the processes need of the machine: directories, settings, namespaces, the network between nodes, cgroups.
/// What is done is recorded first, so that [`super::down`] finds it.
///
/// # Errors
/// When the machine refuses.
pub fn prepare(config: &Config) -> Result<()> {
    fs::create_dir_all(config.dir.join("logs"))?;
    fs::create_dir_all(config.dir.join("pids"))?;
    config.save()?;
    fs::create_dir_all(config.run_dir())?;
    fs::copy(config.dir.join("cluster.json"), config.run_dir().join("cluster.json"))?;
    Undo::prepare(config)?;
    if let Some(lan) = config.lan {
        let step = Step::begin(format!("making the network of {} nodes", config.nodes.len()));
        lan::make(config)?;
        step.done(&lan.to_string());
    }
    config.nodes.iter().try_for_each(|node| make_cgroup(config, node))
}

/// Starts a program on the nodes where it does not run, side by side.
fn on_every_node(program: &Program, config: &Config, layout: &Layout) -> Result<()> {
    let step = Step::begin(format!("starting {}", program.name));
    side_by_side(&config.nodes, |node| {
        let name = process_name(program.name, node);
        if running(&name, program.built.then_some(program.name), config, layout)?.is_none() {
            start(program, config, node, layout)?;
        }
        Ok(())
    })?;
    let all = config.nodes.iter().filter_map(|node| {
        let process = Process::read(&config.pid_file(&process_name(program.name, node))).ok()??;
        Some(format!("pid {} on {}", process.pid, node.name))
    });
    step.done(&all.collect::<Vec<_>>().join(", "));
    Ok(())
}

/// The process of this name, if it runs. Where it comes `from` a program of this checkout that was built anew since, it is
/// ended, so that the new one takes over.
fn running(name: &str, from: Option<&str>, config: &Config, layout: &Layout) -> Result<Option<Process>> {
    let Some(process) = Process::read(&config.pid_file(name))?.filter(Process::alive) else {
        return Ok(None);
    };
    if from.is_none_or(|from| runs_from(process, &layout.bin().join(from))) {
        return Ok(Some(process));
    }
    end(process);
    Ok(None)
}

/// Asks a process to end, and makes it when it does not.
pub fn end(process: Process) {
    process.signal(Signal::SIGTERM);
    if !process.wait_gone(Duration::from_secs(10)) {
        process.signal(Signal::SIGKILL);
        let _ = process.wait_gone(Duration::from_secs(10));
    }
}

/// The server's command line.
#[must_use]
pub fn server_command(config: &Config, layout: &Layout) -> Command {
    let mut server = command(layout.bin().join("skep-server"));
    server.arg("--data-dir").arg(config.server_data());
    server.arg("--secure-port").arg(config.secure_port.to_string());
    server.arg("--advertise-address").arg(config.server_ip.to_string());
    server.arg("--tls-san").arg("127.0.0.1").arg("--tls-san").arg("localhost");
    server.arg("--service-cluster-ip-range").arg(config.service_cidrs());
    server.arg("--cluster-cidr").arg(config.cluster_cidrs());
    server.arg("--cluster-dns-port").arg(config.dns_port.to_string());
    server
}

/// Starts the server and waits until it answers as ready.
///
/// # Errors
/// When it ends or does not become ready.
pub fn start_server(config: &Config, layout: &Layout) -> Result<Process> {
    let data = config.server_data();
    fs::create_dir_all(&data)?;
    let server = server_command(config, layout);
    let process = proc::daemon(&server, &config.log(SERVER))?;
    process.write(&config.pid_file(SERVER))?;
    let written = data.join("admin.kubeconfig");
    await_process(SERVER, config, process, || {
        if !written.exists() {
            return false;
        }
        let ready = || -> Result<bool> {
            fs::copy(&written, config.kubeconfig())?;
            fs::set_permissions(config.kubeconfig(), fs::Permissions::from_mode(0o600))?;
            Ok(Api::open(&config.kubeconfig())?.get("/readyz")?.status == 200)
        };
        ready().unwrap_or(false)
    })?;
    Ok(process)
}

/// Waits until every node is Ready, and leads this machine's packets to its pods.
fn wait_ready(config: &Config, api: &Api) -> Result<()> {
    let names: Vec<&str> = config.nodes.iter().map(|node| node.name.as_str()).collect();
    let step = Step::begin(format!("waiting until {} is Ready", names.join(", ")));
    for node in &config.nodes {
        let name = process_name(AGENT.name, node);
        let agent = Process::read(&config.pid_file(&name))?.context("the agent has no pid file")?;
        let mut pods = None;
        await_process(&name, config, agent, || {
            pods = ready(api, node);
            pods.is_some()
        })?;
        for range in pods.unwrap_or_default() {
            lan::route(config, node, &range)?;
        }
    }
    step.done("");
    Ok(())
}

/// The pod addresses of a node that is Ready.
fn ready(api: &Api, node: &Node) -> Option<Vec<String>> {
    let object = api.get(&format!("/api/v1/nodes/{}", node.name)).and_then(|answer| answer.success()).ok()?;
    let pods =
        object["spec"]["podCIDRs"].as_array()?.iter().filter_map(|range| Some(range.as_str()?.to_owned()));
    (condition(&object, "Ready") == Some("True")).then(|| pods.collect())
}
