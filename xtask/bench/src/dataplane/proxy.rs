//! The real kube-proxy on a node of its own, and the API objects that it follows.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use skep_client::{Client as _, Collection, Config, HttpClient, WriteOptions};

use crate::node::Node;
use crate::rules::{Entry, PODS, PORT, SERVER, entry, measured};
use crate::worker::Metric;

/// The name under which it looks for its node.
const NODE: &str = "bench";
/// Longest wait for it to have written its rules.
const PATIENCE: Duration = Duration::from_secs(600);
/// Clients that write objects.
const WRITERS: usize = 16;

/// The API, with the Services of every size that is measured.
pub(crate) struct Api {
    runtime: tokio::runtime::Runtime,
    config: Config,
    server: SocketAddr,
    /// Numbers of the Services that lead to the server, whatever the size.
    served: BTreeSet<usize>,
    made: usize,
}

impl Api {
    /// Opens it and makes the node.
    pub(crate) fn open(kubeconfig: &Path, sizes: &[usize]) -> Result<Self> {
        let text = fs::read_to_string(kubeconfig)?;
        let server = text.split("https://").nth(1).and_then(|rest| rest.split(['"', '\n', ' ', '/']).next());
        let server =
            server.context("a kubeconfig without server")?.replace("localhost", "127.0.0.1").parse()?;
        let served = sizes.iter().flat_map(|&size| [measured(size), size.saturating_sub(1)]).collect();
        let runtime = tokio::runtime::Runtime::new()?;
        let api = Api { runtime, config: Config::from_file(kubeconfig)?, server, served, made: 0 };
        let node = json!({
            "metadata": {"name": NODE},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
        });
        let client = api.client()?;
        let made =
            api.runtime.block_on(client.create(&Collection::core("nodes"), node, &WriteOptions::default()));
        made.map_err(|status| anyhow!("{status}"))?;
        Ok(api)
    }

    fn client(&self) -> Result<HttpClient> {
        Ok(HttpClient::new(&self.config, "skep-bench")?)
    }

    /// Makes Services and their EndpointSlices until there are so many; the last one's comes last.
    pub(crate) fn fill(&mut self, count: usize) -> Result<()> {
        let last = count.saturating_sub(1);
        let next = Arc::new(AtomicUsize::new(self.made));
        let served = Arc::new(self.served.clone());
        let mut tasks = Vec::new();
        for _ in 0..WRITERS {
            let (client, next, served) = (self.client()?, next.clone(), served.clone());
            tasks.push(self.runtime.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= last {
                        return Ok::<_, anyhow::Error>(());
                    }
                    make(&client, number, served.contains(&number)).await?;
                }
            }));
        }
        for task in tasks {
            self.runtime.block_on(task)??;
        }
        if self.made < count {
            self.runtime.block_on(make(&self.client()?, last, true))?;
        }
        self.made = count;
        Ok(())
    }
}

async fn make(client: &HttpClient, number: usize, served: bool) -> Result<()> {
    // A number that is neither the last nor in the middle: addresses do not depend on the count otherwise.
    let Entry { vip, backend } = entry(number, usize::MAX);
    let backend = if served { SERVER } else { backend };
    let name = format!("service-{number}");
    let service = json!({
        "metadata": {"name": name},
        "spec": {"clusterIP": vip, "ports": [{"port": PORT, "targetPort": PORT}]},
    });
    let slice = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [backend], "conditions": {"ready": true}}],
        "ports": [{"name": "", "port": PORT, "protocol": "TCP"}],
    });
    let create = async |collection: Collection, body: Value| {
        let made = client.create(&collection.within("default"), body, &WriteOptions::default()).await;
        made.map(drop).map_err(|status| anyhow!("{status}"))
    };
    create(Collection::core("services"), service).await?;
    create(Collection::of("discovery.k8s.io", "v1", "endpointslices"), slice).await
}

/// A kube-proxy at work on a node, ended when dropped.
pub(crate) struct Proxy {
    process: Child,
    /// Its node.
    pub(crate) node: Node,
}

impl Proxy {
    /// Starts it in this mode (`iptables` or `nftables`).
    pub(crate) fn start(program: &Path, mode: &str, api: &Api, kubeconfig: &Path) -> Result<Self> {
        let node = Node::new(None)?;
        node.netns.ip(&["addr add 192.0.2.1/32 dev lo"])?;
        relay(&node, api.server)?;
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(kubeconfig).args([
            &format!("--proxy-mode={mode}"),
            &format!("--hostname-override={NODE}"),
            &format!("--cluster-cidr={PODS}"),
            "--healthz-bind-address=127.0.0.1:10256",
            "--metrics-bind-address=127.0.0.1:10249",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = node.netns.spawn(&mut command)?;
        Ok(Proxy { process, node })
    }

    /// Waits until the last Service answers and it has come to rest.
    pub(crate) fn settled(&mut self, count: usize) -> Result<()> {
        let begun = Instant::now();
        let last = entry(count - 1, count).vip;
        let (mut quiet, mut before) = (0, 0);
        while quiet < 4 {
            if let Some(status) = self.process.try_wait()? {
                bail!("kube-proxy ended: {status}");
            }
            if begun.elapsed() > PATIENCE {
                bail!("kube-proxy did not come to rest in {} s", PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(500));
            let ticks = ticks(self.process.id())?;
            quiet = if ticks <= before + 2 { quiet + 1 } else { 0 };
            before = ticks;
            let answered =
                |node: &mut Node| node.sample(Metric::Connect, last, Duration::from_millis(1)).is_ok();
            if quiet == 4 && !answered(&mut self.node) {
                quiet = 0;
            }
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Processor time of a process in clock ticks.
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything.
    let rest = stat.rsplit_once(')').context("a stat line")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number).and_then(|field| field.parse::<u64>().ok());
    Ok(field(11).unwrap_or(0) + field(12).unwrap_or(0))
}

/// Leads connections to the server's address from a node's namespace to this one, where the server is.
fn relay(node: &Node, server: SocketAddr) -> Result<()> {
    let listener = node.netns.run(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, server.port()))?))?;
    thread::spawn(move || {
        for inside in listener.incoming().flatten() {
            let Ok(outside) = TcpStream::connect(server) else { continue };
            for (from, to) in [(&inside, &outside), (&outside, &inside)] {
                let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { continue };
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    Ok(())
}
