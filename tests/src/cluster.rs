//! A cluster that lives as long as a test.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use skep_images::load::Outcome;
use xtask::api::{Api, condition};
use xtask::cluster::{Config, down, up};
use xtask::layout::Layout;
use xtask::proc::{Process, until};

/// Longest wait for anything a cluster does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster with one node, with names, ports and addresses of its own.
pub struct TestCluster {
    /// What it is called and where it lies.
    pub config: Config,
    /// The checkout with the built binaries.
    pub layout: Layout,
    /// The API server, as administrator.
    pub api: Api,
    pub(crate) kubectl: PathBuf,
}

impl TestCluster {
    /// A cluster's names and addresses, with nothing started.
    ///
    /// # Errors
    /// When no free port is found.
    pub fn plan() -> Result<(Config, Layout)> {
        let layout = Layout::find();
        let id = std::process::id();
        // Two pods' networks must not meet, nor those of a cluster that somebody brought up by hand.
        let lane = id % 40;
        let [server, agent, health] = free_ports(id)?;
        let dir = layout.target.join("e2e").join(format!("t{id}"));
        let config = Config {
            name: format!("t{id}"),
            node: "node-1".to_owned(),
            secure_port: server,
            agent_port: agent,
            healthz_port: health,
            service_cidr: format!("10.{}.0.0/16", 100 + lane),
            cluster_cidr: format!("10.{}.0.0/16", 160 + lane),
            ..Config::new(&dir)?
        };
        Ok((config, layout))
    }

    /// Brings a cluster up; its node is Ready.
    ///
    /// # Errors
    /// When a part does not come up; the message quotes its log.
    pub fn start() -> Result<Self> {
        let (config, layout) = Self::plan()?;
        let kubectl = xtask::kubectl::recent(&layout)?;
        match up::up(&config, &layout) {
            Ok(api) => Ok(TestCluster { config, layout, api, kubectl }),
            Err(error) => {
                let _ = down::down(&config, false);
                Err(error)
            }
        }
    }

    /// Brings up a server alone: no node, no containers.
    ///
    /// # Errors
    /// When it does not become ready; the message quotes its log.
    pub fn start_control_plane() -> Result<Self> {
        let (config, layout) = Self::plan()?;
        let kubectl = xtask::kubectl::recent(&layout)?;
        for folder in ["logs", "pids"] {
            fs::create_dir_all(config.dir.join(folder))?;
        }
        config.save()?;
        match up::start_server(&config, &layout).and_then(|_| Api::open(&config.kubeconfig())) {
            Ok(api) => Ok(TestCluster { config, layout, api, kubectl }),
            Err(error) => {
                let _ = down::down(&config, false);
                Err(error)
            }
        }
    }

    /// Takes it down; gives what stayed behind.
    #[must_use]
    pub fn stop(self) -> Vec<String> {
        down::down(&self.config, false)
    }

    /// One of its processes.
    ///
    /// # Errors
    /// When it was never started.
    pub fn process(&self, name: &str) -> Result<Process> {
        Process::read(&self.config.pid_file(name))?.with_context(|| format!("{name} was never started"))
    }

    /// Kills a process as a crash would: at once, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&self, name: &str) -> Result<()> {
        let process = self.process(name)?;
        process.signal(Signal::SIGKILL);
        anyhow::ensure!(process.wait_gone(PATIENCE), "{name} survived SIGKILL");
        Ok(())
    }

    /// Starts the agent again.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_agent(&self) -> Result<()> {
        up::start_agent(&self.config, &self.layout).map(|_| ())
    }

    /// Starts the server again and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_server(&self) -> Result<()> {
        up::start_server(&self.config, &self.layout).map(|_| ())
    }

    /// Whether the agent answers that it is healthy.
    #[must_use]
    pub fn agent_healthy(&self) -> bool {
        let target = (Ipv4Addr::LOCALHOST, self.config.healthz_port).into();
        skep_images::load::get(target, "/healthz", Duration::from_secs(1))
            .is_ok_and(|answer| answer.status == 200)
    }

    /// Waits for something; fails with what was waited for and what the agent logged last.
    ///
    /// # Errors
    /// When it does not come to pass.
    pub fn wait(&self, what: &str, done: impl FnMut() -> bool) -> Result<()> {
        if until(PATIENCE, done) {
            return Ok(());
        }
        let logs = ["skep-server", "skep-agent"].map(|name| xtask::proc::tail(&self.config.log(name), 15));
        anyhow::bail!("waited in vain for {what}\n--- skep-server\n{}\n--- skep-agent\n{}", logs[0], logs[1])
    }

    /// Creates an object and gives it as the server has it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create(&self, collection: &str, object: &Value) -> Result<Value> {
        self.api.create(collection, object)?.success()
    }

    /// Waits until a pod of the namespace `default` is Ready.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn wait_pod_ready(&self, name: &str) -> Result<Value> {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        let mut pod = Value::Null;
        self.wait(&format!("pod {name} to be Ready"), || {
            pod = self.api.get(&path).and_then(|answer| answer.json()).unwrap_or_default();
            condition(&pod, "Ready") == Some("True")
        })?;
        Ok(pod)
    }

    /// Waits until a Service's EndpointSlices hold exactly `count` ready endpoints.
    ///
    /// # Errors
    /// When they do not come to.
    pub fn wait_endpoints(&self, service: &str, count: usize) -> Result<()> {
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let path = format!("{path}?labelSelector=kubernetes.io%2Fservice-name%3D{service}");
        self.wait(&format!("{count} ready endpoints of {service}"), || {
            let ready = |slice: &Value| {
                let all = slice["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
                all.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true).count()
            };
            self.api.list(&path).is_ok_and(|slices| slices.iter().map(ready).sum::<usize>() == count)
        })
    }

    /// Deploys `replicas` demo servers named `name` with a Service (TCP and UDP, port 80) and waits until all are ready.
    /// Gives the Service's address with its port.
    ///
    /// # Errors
    /// When they do not become ready.
    pub fn serve(&self, name: &str, replicas: usize) -> Result<String> {
        self.create(
            "/apis/apps/v1/namespaces/default/deployments",
            &crate::objects::deployment(name, replicas),
        )?;
        let service = self.create("/api/v1/namespaces/default/services", &crate::objects::service(name))?;
        self.wait_endpoints(name, replicas)?;
        let address = service["spec"]["clusterIP"].as_str().context("a Service without clusterIP")?;
        Ok(format!("{address}:80"))
    }

    /// Pods of the namespace `default` with this `app` label.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn pods_of(&self, app: &str) -> Result<Vec<Value>> {
        self.api.list(&format!("/api/v1/namespaces/default/pods?labelSelector=app%3D{app}"))
    }

    /// Starts a pod that sends load; [`TestCluster::outcome`] has its result.
    ///
    /// # Errors
    /// When the server refuses the pod.
    pub fn start_load(&self, pod: &str, arguments: &[&str]) -> Result<()> {
        let object = crate::objects::pod(pod, &[&["load"], arguments].concat(), "Never");
        self.create("/api/v1/namespaces/default/pods", &object).map(|_| ())
    }

    /// Waits for a load pod to finish and gives what it counted.
    ///
    /// # Errors
    /// When it gives no result.
    pub fn outcome(&self, pod: &str) -> Result<Outcome> {
        let path = format!("/api/v1/namespaces/default/pods/{pod}/log");
        let mut outcome = None;
        self.wait(&format!("the result of pod {pod}"), || {
            let log = self.api.get(&path).ok().filter(|answer| answer.status == 200);
            outcome = log.and_then(|log| serde_json::from_slice::<Outcome>(&log.body).ok());
            outcome.is_some()
        })?;
        outcome.context("no result")
    }

    /// The demo program, for use on the host.
    #[must_use]
    pub fn demo_program(&self) -> PathBuf {
        self.layout.bin().join("skep-demo")
    }

    /// Sends load from the host and gives what was counted.
    ///
    /// # Errors
    /// When the client cannot be started or tells nothing.
    pub fn load_from_host(&self, arguments: &[&str]) -> Result<Outcome> {
        let output = xtask::run::command(self.demo_program()).arg("load").args(arguments).output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Three free ports below those that the kernel gives to clients: while a killed server is away, a client that tries to
/// reach it would otherwise be given the server's own port and keep it.
fn free_ports(id: u32) -> Result<[u16; 3]> {
    let first = 12_000 + (id % 6_000) * 3;
    let mut free = (first..first + 900)
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|&port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok());
    let mut next = || free.next().context("no free port");
    Ok([next()?, next()?, next()?])
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The directory goes with the cluster: what the logs said last must be told before.
            for name in ["skep-server", "skep-agent"] {
                eprintln!("--- {name}\n{}", xtask::proc::tail(&self.config.log(name), 40));
            }
        }
        let _ = down::down(&self.config, false);
        let _ = fs::remove_dir(self.layout.target.join("e2e"));
    }
}
