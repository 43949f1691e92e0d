//! `cargo xtask up`: from nothing to a node that is Ready.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::config::Config;
use super::containerd;
use super::undo::Undo;
use crate::api::{Api, condition};
use crate::layout::Layout;
use crate::proc::{self, Process};
use crate::run::{captured, command};
use crate::ui::Step;

/// Longest wait for one part to come up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Brings the cluster up, or what is missing of it. Binaries must have been built.
///
/// # Errors
/// When a part does not come up; the message names its log and quotes its end.
pub fn up(config: &Config, layout: &Layout) -> Result<Api> {
    fs::create_dir_all(config.dir.join("logs"))?;
    fs::create_dir_all(config.dir.join("pids"))?;
    config.save()?;
    fs::create_dir_all(config.run_dir())?;
    fs::copy(config.dir.join("cluster.json"), config.run_dir().join("cluster.json"))?;
    Undo::prepare(config)?;
    part("containerd", config, None, || {
        containerd::prepare(config)?;
        containerd::start(config)
    })?;
    let step = Step::begin("putting the pause and demo images into containerd");
    containerd::import_images(config, layout)?;
    step.done("");
    part("skep-server", config, Some(layout), || start_server(config, layout))?;
    let api = Api::open(&config.kubeconfig())?;
    part("skep-agent", config, Some(layout), || start_agent(config, layout))?;
    wait_ready(config, &api)?;
    Ok(api)
}

/// Adopts a process that runs from the program as it is now; starts it otherwise.
fn part(
    name: &str,
    config: &Config,
    layout: Option<&Layout>,
    start: impl FnOnce() -> Result<Process>,
) -> Result<()> {
    let step = Step::begin(format!("starting {name}"));
    if let Some(running) = Process::read(&config.pid_file(name))?.filter(Process::alive) {
        let program = layout.map(|layout| layout.bin().join(name));
        if program.is_none_or(|program| runs_from(running, &program)) {
            step.done(&format!("runs already, pid {}", running.pid));
            return Ok(());
        }
        step.note("the program was rebuilt: ending the old process");
        end(running);
    }
    let process = start()?;
    step.done(&format!("pid {}", process.pid));
    Ok(())
}

fn runs_from(process: Process, program: &Path) -> bool {
    let inode = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let running = inode(Path::new(&format!("/proc/{}/exe", process.pid)));
    running.is_some() && running == inode(program)
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
    server.arg("--advertise-address").arg(config.node_ip.to_string());
    server.arg("--tls-san").arg("127.0.0.1").arg("--tls-san").arg("localhost");
    server.arg("--service-cluster-ip-range").arg(&config.service_cidr);
    server.arg("--cluster-cidr").arg(&config.cluster_cidr);
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
    let process = spawn("skep-server", &server, config)?;
    let written = data.join("admin.kubeconfig");
    await_part("skep-server", config, process, || {
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

/// Starts the agent. Its node's credentials come from the cluster's own authority.
///
/// # Errors
/// When it ends at once or has no credentials.
pub fn start_agent(config: &Config, layout: &Layout) -> Result<Process> {
    let credentials = config.dir.join("node-credentials");
    if !credentials.join("kubeconfig").exists() {
        let mut issue = command(layout.bin().join("skep-server"));
        issue.arg("node-credentials").arg("--data-dir").arg(config.server_data());
        issue.args(["--node-name", &config.node, "--node-ip", &config.node_ip.to_string()]);
        issue.args(["--server", &config.server_url()]).arg("--out").arg(&credentials);
        captured(&mut issue)?;
    }
    let data = config.agent_data();
    fs::create_dir_all(&data)?;
    let bin = layout.bin();
    let mut agent = command(bin.join("skep-agent"));
    agent.arg("--kubeconfig").arg(credentials.join("kubeconfig"));
    agent.args(["--node-name", &config.node, "--node-ip", &config.node_ip.to_string()]);
    agent.arg("--data-dir").arg(&data);
    agent.arg("--container-runtime-endpoint").arg(format!("unix://{}", config.containerd_socket().display()));
    agent.arg("--bpf-object").arg(bin.join("skep-ebpf.o"));
    agent.args(["--bpffs", "/sys/fs/bpf", "--cluster-name", &config.name]);
    agent.args(["--cluster-cidr", &config.cluster_cidr, "--service-cluster-ip-range", &config.service_cidr]);
    agent.arg("--tls-cert-file").arg(credentials.join("tls.crt"));
    agent.arg("--tls-private-key-file").arg(credentials.join("tls.key"));
    agent.arg("--client-ca-file").arg(credentials.join("ca.crt"));
    agent.arg("--cni-socket").arg(config.cni_socket());
    agent
        .arg("--cni-conf-dir")
        .arg(config.dir.join("cni/net.d"))
        .arg("--cni-bin-dir")
        .arg(config.dir.join("cni/bin"));
    agent.args([
        "--port",
        &config.agent_port.to_string(),
        "--healthz-port",
        &config.healthz_port.to_string(),
    ]);
    spawn("skep-agent", &agent, config)
}

fn spawn(name: &str, command: &Command, config: &Config) -> Result<Process> {
    let process = proc::daemon(command, &config.log(name))?;
    process.write(&config.pid_file(name))?;
    Ok(process)
}

fn await_part(name: &str, config: &Config, process: Process, mut ready: impl FnMut() -> bool) -> Result<()> {
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

fn wait_ready(config: &Config, api: &Api) -> Result<()> {
    let step = Step::begin(format!("waiting until node {} is Ready", config.node));
    let agent = Process::read(&config.pid_file("skep-agent"))?.context("skep-agent has no pid file")?;
    let path = format!("/api/v1/nodes/{}", config.node);
    await_part("skep-agent", config, agent, || {
        let node = api.get(&path).and_then(|answer| answer.success());
        node.is_ok_and(|node| condition(&node, "Ready") == Some("True"))
    })?;
    step.done("");
    Ok(())
}
