//! skep-agent: the node's agent. This file only wires: flags, the API client, informers, the dataplane, pods, the
//! server, and the end on SIGTERM, which leaves pods and programs as they are.

mod board;
mod connections;
mod flags;
mod health_checks;
mod host;
mod node_report;
mod plane;
mod proxy_health;
mod routes;
mod services;

use anyhow::Context as _;
use board::Board;
use clap::Parser;
use flags::Flags;
use node_report::Shown;
use plane::Plane;
use proxy_health::ProxyHealth;
use services::Seen;
use skep_client::{Client, Collection, Config, HttpClient, Informer};
use skep_dataplane::{Config as PlaneConfig, Dataplane, TcMode};
use skep_pods::allotments::Allotments;
use skep_pods::api::Api;
use skep_pods::cgroup::Cgroups;
use skep_pods::context::Context;
use skep_pods::core::admit::{self, NodeView};
use skep_pods::core::dns::Resolver;
use skep_pods::core::garbage::Policy;
use skep_pods::core::sandbox::Node;
use skep_pods::cri::Runtime;
use skep_pods::manager::Pods;
use skep_pods::network::{Config as NetworkConfig, Network, ipam::Ranges, veth::Sources};
use skep_pods::node::{Facts, NodeObject};
use skep_pods::server::{self, Server};
use skep_pods::volumes::Volumes;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let level = match flags.verbose {
        0 => "info",
        1 => "info,skep_agent=debug,skep_pods=debug,skep_client=debug,skep_dataplane=debug",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_keep_alive(Duration::from_secs(5))
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()?;
    let result = runtime.block_on(run(flags));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// The interface of the IPv4 default route.
fn default_uplink() -> Option<String> {
    let text = std::fs::read_to_string("/proc/net/route").ok()?;
    text.lines().skip(1).find_map(|l| {
        let mut f = l.split_whitespace();
        let (name, to) = (f.next()?, f.next()?);
        (to == "00000000").then(|| name.to_owned())
    })
}

/// The node's cgroup below the root of the hierarchies.
fn cgroup_of(flags: &Flags, cgroups: &Cgroups) -> anyhow::Result<(PathBuf, String)> {
    let mount = cgroups.unified().context("no cgroup2 hierarchy is mounted")?.to_path_buf();
    let root = flags.cgroup_root.clone().unwrap_or_else(|| mount.clone());
    let below = root
        .strip_prefix(&mount)
        .with_context(|| format!("--cgroup-root {} is not below {}", root.display(), mount.display()))?;
    let path = format!("/{}", below.display());
    Ok((root, path))
}

async fn run(flags: Flags) -> anyhow::Result<()> {
    let began = Instant::now();
    std::fs::create_dir_all(&flags.data_dir)?;
    let cgroups = Arc::new(Cgroups::discover());
    let (cgroup_root, cgroup) = cgroup_of(&flags, &cgroups)?;
    if cgroup != "/" {
        cgroups.ensure(&cgroup, None).context("the node's cgroup")?;
    }

    let config = Config::from_file(&flags.kubeconfig).context("--kubeconfig")?;
    let client: Arc<dyn Client> = Arc::new(HttpClient::new(&config, "skep-agent").context("API client")?);
    let uplink = flags.uplink.clone().or_else(default_uplink);
    let (pod_ranges, service_ranges) = (flags.cluster_cidr, flags.service_cluster_ip_range);
    host::forward(pod_ranges.v6.is_some(), uplink.as_deref())?;
    let plane_config = PlaneConfig {
        cluster: flags.cluster_name.clone(),
        node: flags.node_name.clone(),
        bpffs: flags.bpffs.clone(),
        cgroup_root,
        object: flags.bpf_object.clone(),
        cluster_cidr: pod_ranges.v4,
        service_cidr: service_ranges.v4,
        cluster_cidr6: pod_ranges.v6,
        service_cidr6: service_ranges.v6,
        uplink: uplink.clone(),
        node_addr: Some(flags.node_ip.v4),
        node_addr6: flags.node_ip.v6,
        tc: TcMode::Probe,
    };
    let dataplane = tokio::task::spawn_blocking(move || Dataplane::open(plane_config)).await?;
    let plane = Plane(Arc::new(dataplane.context("dataplane")?));
    tracing::info!(report = ?plane.0.opened(), "dataplane open");

    let network = Network::open(
        NetworkConfig {
            data_dir: flags.data_dir.clone(),
            socket: flags.cni_socket.clone(),
            conf_dir: flags.cni_conf_dir.clone(),
            bin_dir: flags.cni_bin_dir.clone(),
            node: Sources { v4: Some(flags.node_ip.v4), v6: flags.node_ip.v6 },
            uplink: uplink.clone(),
        },
        Arc::new(plane.clone()),
    )
    .context("pod addresses")?;
    network.adopt().await;
    tokio::spawn({
        let network = network.clone();
        async move {
            if let Err(error) = network.serve().await {
                tracing::error!(%error, "the network plugin's socket is lost");
            }
        }
    });

    let (memory, cores) = skep_pods::node::capacity();
    let node = Arc::new(Node {
        name: flags.node_name.clone(),
        ips: flags.node_ip.shown(),
        log_dir: flags.data_dir.join("logs"),
        data_dir: flags.data_dir.clone(),
        memory,
        cpu_milli: cores * 1000,
        cgroup,
        cluster_dns: flags.cluster_dns.clone(),
        cluster_domain: flags.cluster_domain.clone(),
        resolver: Resolver::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        hosts: std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
    });
    let rt = Runtime::new(&flags.container_runtime_endpoint)?;
    let api = Api::new(client.clone(), &flags.node_name);

    let listener = TcpListener::bind((host::any(), flags.port)).await.context("--port")?;
    let tls = server::tls(&flags.tls_cert_file, &flags.tls_private_key_file, &flags.client_ca_file)?;
    let health = TcpListener::bind(("127.0.0.1", flags.healthz_port)).await.context("--healthz-port")?;
    tokio::spawn(server::health(health));

    let services = Informer::all(client.clone(), Collection::core("services"));
    let slices = Informer::all(client.clone(), Collection::of("discovery.k8s.io", "v1", "endpointslices"));
    let nodes = Informer::all(client.clone(), Collection::core("nodes"));
    let own_pods = Informer::start(
        client.clone(),
        Collection::core("pods"),
        "",
        &format!("spec.nodeName={}", flags.node_name),
    );
    let seen = Seen { services: services.clone(), slices, nodes: nodes.clone(), pods: own_pods.clone() };
    let (board, synced) = (Board::default(), Arc::new(Notify::new()));
    let name = flags.node_name.clone();
    tokio::spawn(services::follow(plane.clone(), seen, name.clone(), board.clone(), synced.clone()));
    tokio::spawn(services::follow_addresses(plane.clone(), board.clone()));
    tokio::spawn(connections::sweep(plane.clone(), board.clone()));
    tokio::spawn(connections::tell_orphans(plane.clone(), board.clone(), synced));
    let health = ProxyHealth { board: board.clone(), nodes: nodes.clone(), node: name.clone() };
    tokio::spawn(health.serve(flags.proxy_healthz_port));

    let facts = Facts::gather(&rt, &flags.data_dir).await;
    let object = NodeObject::new(api.clone(), rt.clone(), node.clone(), facts, flags.port);
    let mut pause = Duration::from_millis(100);
    let first = loop {
        match object.register().await {
            Ok(first) => break NodeView::read(&first),
            Err(e) => tracing::warn!(error = %e.message, "node not registered yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    };
    let nets = [
        routes::Net::of(pod_ranges.v4.addr.into(), pod_ranges.v4.prefix),
        pod_ranges.v6.and_then(|range| routes::Net::of(range.addr.into(), range.prefix)),
    ];
    let pod_addresses = nets.into_iter().flatten().collect();
    tokio::spawn(follow_range(network.clone(), nodes.clone(), flags.node_name.clone()));
    tokio::spawn(routes::follow(
        nodes.clone(),
        flags.node_name.clone(),
        pod_addresses,
        uplink,
        board.clone(),
    ));
    tokio::spawn(object.clone().keep_lease());
    tokio::spawn(object.keep_status());

    let environment = services.clone();
    let (own, name) = (nodes.clone(), flags.node_name.clone());
    let context = Context {
        rt: rt.clone(),
        api: api.clone(),
        volumes: Volumes::new(api, node.clone()),
        allotments: Allotments::open(&node.data_dir.join("pods")),
        node,
        cgroups,
        services: Arc::new(move || services::environment(&environment)),
        own: Arc::new(move || {
            own.get("", &name).map_or_else(|| first.clone(), |o| NodeView::read(&o.value()))
        }),
        kernel: admit::kernel_version(
            &std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default(),
        ),
        probes: Arc::default(),
        began,
    };
    let pods = Pods::new(context);
    let shown = Shown { plane, board, node: flags.node_name.clone() };
    tokio::spawn(Server::new(pods.clone(), Arc::new(shown)).run(listener, tls));
    tokio::spawn(reconcile_network(network, rt));
    let marks = Policy {
        high: flags.image_gc_high_threshold,
        low: flags.image_gc_low_threshold,
        ..Policy::default()
    };
    tokio::spawn(skep_pods::garbage::run(pods.clone(), marks));

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let work = async {
        // Environments show Services, so no container is made before they are known; nor is a pod taken before the node.
        services.synced().await;
        nodes.synced().await;
        pods.run(own_pods).await;
    };
    tokio::select! {
        () = work => anyhow::bail!("the view of the node's pods has ended"),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending; pods and programs stay");
    Ok(())
}

/// Waits for the node's pod range, then makes the network ready for the runtime.
async fn follow_range(network: Network, nodes: Informer, name: String) {
    let mut changes = nodes.subscribe();
    nodes.synced().await;
    let plugin = std::env::current_exe()
        .ok()
        .and_then(|p| p.parent().map(|d| d.join("skep-cni")))
        .unwrap_or_else(|| Path::new("skep-cni").to_path_buf());
    loop {
        if let Some(ranges) = nodes.get("", &name).and_then(|node| pod_ranges(&node.value())) {
            network.set_ranges(ranges).await;
            match network.install(&plugin) {
                Ok(()) => {
                    tracing::info!(?ranges, "pod network ready");
                    return;
                }
                Err(error) => {
                    tracing::error!(plugin = %plugin.display(), %error, "network plugin not installed");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            }
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

/// The ranges of a Node object.
fn pod_ranges(node: &serde_json::Value) -> Option<Ranges> {
    let spec = &node["spec"];
    let listed = spec["podCIDRs"].as_array().into_iter().flatten().filter_map(|range| range.as_str());
    Ranges::of(listed).or_else(|| Ranges::of(spec["podCIDR"].as_str()))
}

/// Gives addresses back that no sandbox holds, now and every minute.
async fn reconcile_network(network: Network, rt: Runtime) {
    loop {
        if let Ok(all) = rt.list().await {
            let alive: HashSet<String> =
                all.values().flat_map(|(s, _)| s.iter().map(|s| s.id.clone())).collect();
            network.reconcile(&alive).await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}
