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
use xtask::cluster::lan::Lan;
use xtask::cluster::program::{self, AGENT, DNS, on_node, process_name};
use xtask::cluster::{Config, Node, Part, down, parts, up};
use xtask::kernel;
use xtask::layout::Layout;
use xtask::proc::{Process, until};

/// Longest wait for anything a cluster does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster with names, ports and addresses of its own. Nodes are counted from 1; what is not asked of a certain node is
/// asked of the first.
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
        let [server, agent, health, dns_port, dns_http, proxy_health] = free_ports(id)?;
        let dir = layout.target.join("e2e").join(format!("t{id}"));
        let mut config = Config {
            name: format!("t{id}"),
            secure_port: server,
            dns_port,
            service_cidr: format!("10.{}.0.0/16", 100 + lane),
            cluster_cidr: format!("10.{}.0.0/16", 160 + lane),
            ..Config::new(&dir)?
        };
        if let Some(ipv6) = &mut config.ipv6 {
            ipv6.service_cidr = format!("fd00:10:{}::/112", 100 + lane);
            ipv6.cluster_cidr = format!("fd00:10:{}::/56", 160 + lane);
        }
        for node in &mut config.nodes {
            (node.agent_port, node.healthz_port, node.dns_http_port) = (agent, health, dns_http);
            node.proxy_healthz_port = proxy_health;
        }
        Ok((config, layout))
    }

    /// Brings a cluster up whose one node is the machine; it is Ready.
    ///
    /// # Errors
    /// When a part does not come up; the message quotes its log.
    pub fn start() -> Result<Self> {
        let (config, layout) = Self::plan()?;
        Self::start_planned(config, layout)
    }

    /// Brings a cluster up with this many nodes, each in a network namespace of its own; they are Ready.
    ///
    /// # Errors
    /// When a part does not come up; the message quotes its log.
    pub fn start_nodes(agents: u8) -> Result<Self> {
        Self::start_nodes_apart(agents, 1)
    }

    /// The same with the nodes on so many networks, with a router between them that knows of no pods.
    ///
    /// # Errors
    /// When a part does not come up; the message quotes its log.
    pub fn start_nodes_apart(agents: u8, networks: u8) -> Result<Self> {
        let (config, layout) = Self::plan()?;
        let lan: Lan = format!("10.210.{}.0/24", std::process::id() % 40 * 4).parse()?;
        Self::start_planned(config.with_agents(agents, lan, networks)?, layout)
    }

    fn start_planned(config: Config, layout: Layout) -> Result<Self> {
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

    /// The node of this number.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, number: usize) -> Result<&Node> {
        self.config.node(&number.to_string())
    }

    /// One of its processes, by its program.
    ///
    /// # Errors
    /// When it was never started.
    pub fn process(&self, program: &str) -> Result<Process> {
        self.process_on(1, program)
    }

    /// The process of a program on a node.
    ///
    /// # Errors
    /// When it was never started.
    pub fn process_on(&self, number: usize, program: &str) -> Result<Process> {
        let name = match program {
            up::SERVER => program.to_owned(),
            program => process_name(program, self.node(number)?),
        };
        Process::read(&self.config.pid_file(&name))?.with_context(|| format!("{name} was never started"))
    }

    /// Kills a process as a crash would: at once, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&self, program: &str) -> Result<()> {
        self.kill_on(1, program)
    }

    /// [`TestCluster::kill`] on a node.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill_on(&self, number: usize, program: &str) -> Result<()> {
        let process = self.process_on(number, program)?;
        process.signal(Signal::SIGKILL);
        anyhow::ensure!(process.wait_gone(PATIENCE), "{program} survived SIGKILL");
        Ok(())
    }

    /// Starts the agent again.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_agent(&self) -> Result<()> {
        self.start_agent_on(1)
    }

    /// Starts the DNS server again and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_dns(&self) -> Result<()> {
        program::start(&DNS, &self.config, self.node(1)?, &self.layout).map(|_| ())
    }

    /// Starts the agent of another build.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_agent_of(&self, build: &Layout) -> Result<()> {
        program::start(&AGENT, &self.config, self.node(1)?, build).map(|_| ())
    }

    /// Starts the agent of a node again.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_agent_on(&self, number: usize) -> Result<()> {
        program::start(&AGENT, &self.config, self.node(number)?, &self.layout).map(|_| ())
    }

    /// Starts the server again and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_server(&self) -> Result<()> {
        up::start_server(&self.config, &self.layout).map(|_| ())
    }

    /// The cluster's processes as they are recorded, none for a part that has no record.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn processes(&self) -> Result<Vec<Option<Process>>> {
        let read = |part: &Part| Process::read(&self.config.pid_file(&part.name));
        parts(&self.config).iter().map(read).collect()
    }

    /// Whether the agent answers that it is healthy.
    #[must_use]
    pub fn agent_healthy(&self) -> bool {
        self.node(1).is_ok_and(|node| {
            let target = (Ipv4Addr::LOCALHOST, node.healthz_port).into();
            let ask = || skep_images::load::get(target, "/healthz", Duration::from_secs(1));
            let answer = kernel::in_netns(self.config.netns(node).as_deref(), ask);
            matches!(answer, Ok(Ok(answer)) if answer.status == 200)
        })
    }

    /// Waits for something; fails with what was waited for and what server and agents logged last.
    ///
    /// # Errors
    /// When it does not come to pass.
    pub fn wait(&self, what: &str, done: impl FnMut() -> bool) -> Result<()> {
        if until(PATIENCE, done) {
            return Ok(());
        }
        anyhow::bail!("waited in vain for {what}\n{}", self.logs(15))
    }

    /// The last lines that server and agents logged.
    fn logs(&self, lines: usize) -> String {
        let own = parts(&self.config).into_iter().filter(|part| part.program.starts_with("skep-"));
        own.map(|part| {
            format!("--- {}\n{}\n", part.name, xtask::proc::tail(&self.config.log(&part.name), lines))
        })
        .collect()
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

    /// Sends load from the host that the first node is, and gives what was counted.
    ///
    /// # Errors
    /// When the client cannot be started or tells nothing.
    pub fn load_from_host(&self, arguments: &[&str]) -> Result<Outcome> {
        self.load_from_node(1, arguments)
    }

    /// Sends load from a node, outside of any pod, and gives what was counted.
    ///
    /// # Errors
    /// When the client cannot be started or tells nothing.
    pub fn load_from_node(&self, number: usize, arguments: &[&str]) -> Result<Outcome> {
        let mut client = xtask::run::command(self.demo_program());
        client.arg("load").args(arguments);
        let output = on_node(&self.config, self.node(number)?, &client).output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Free ports below those that the kernel gives to clients: while a killed server is away, a client that tries to
/// reach it would otherwise be given the server's own port and keep it.
fn free_ports(id: u32) -> Result<[u16; 6]> {
    let first = 12_000 + (id % 3_000) * 6;
    let mut free = (first..first + 900)
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|&port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok());
    let mut next = || free.next().context("no free port");
    Ok([next()?, next()?, next()?, next()?, next()?, next()?])
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The directory goes with the cluster: what the logs said last must be told before.
            eprintln!("{}", self.logs(40));
        }
        let _ = down::down(&self.config, false);
        let _ = fs::remove_dir(self.layout.target.join("e2e"));
    }
}
