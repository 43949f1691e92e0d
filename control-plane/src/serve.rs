//! Starts the rooms in their order, and stops them together.

use crate::authority::Keyring;
use crate::flags::Serve;
use anyhow::Context;
use serde_json::Value;
use skep_api::kinds::ResourceTable;
use skep_api::kinds::component::component;
use skep_apiserver::admission::BuiltIn;
use skep_apiserver::alloc::{Ranges, Services};
use skep_apiserver::auth::{Authn, jwt::Keys, token::TokenRequests};
use skep_apiserver::authz::{self, Rbac};
use skep_apiserver::cache::Caches;
use skep_apiserver::dial::Dialer;
use skep_apiserver::endpoints::{Check, Endpoints};
use skep_apiserver::hooks::Source;
use skep_apiserver::pki::{self, Pki, ServingNames};
use skep_apiserver::{ApiServer, Handlers, Limits, Parts, UserInfo, bootstrap, custom, discovery, tls};
use skep_client::{Client, Collection};
use skep_controllers::{ClusterDns, ManagedResource};
use skep_store::Store;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the store is asked whether it still takes writes.
const STORE_CHECK: Duration = Duration::from_secs(10);
/// How long a failed bootstrap waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs the server until it is told to stop.
pub(crate) async fn run(flags: Serve) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let service_ranges: Ranges =
        flags.service_cluster_ip_range.parse().context("--service-cluster-ip-range")?;
    let cluster_dns = cluster_dns(&flags, &service_ranges)?;
    let listener = TcpListener::bind(SocketAddr::new(flags.bind_address, flags.secure_port))
        .await
        .with_context(|| format!("cannot listen on {}:{}", flags.bind_address, flags.secure_port))?;
    let port = listener.local_addr()?.port();
    let advertise = flags.advertise_address.unwrap_or_else(|| own_address(flags.bind_address));
    let service_ip = service_ranges.first.first();
    anyhow::ensure!(
        advertise.is_ipv4() == service_ip.is_ipv4(),
        "the address {advertise} of this server and the first range of --service-cluster-ip-range, {}, are of different families",
        service_ranges.first
    );

    let now = jiff::Timestamp::now();
    let pki = Arc::new(Pki::open_or_create(&flags.data_dir.join("pki"), now)?);
    let identity = pki.serving(&serving_names(&flags, advertise, service_ip), now)?;
    let tls = tls::server(&identity, pki.ca_pem())?;
    let keys = Arc::new(Keys::from_pkcs8(&pki.service_account_key()?)?);
    let address = SocketAddr::new(advertise, port).to_string();
    pki::admin_kubeconfig(
        &pki,
        &format!("https://{address}"),
        &flags.data_dir.join("admin.kubeconfig"),
        now,
    )?;

    let store = Store::open(skep_store::Config::new(flags.data_dir.join("store"))).await?;
    let caches = Caches::start(store.clone(), ResourceTable::builtin()).await?;
    let rbac = Arc::new(Rbac::new(caches.clone()));
    let authn = Arc::new(Authn::new(keys.clone(), caches.clone(), rbac.clone()));
    let health = Health::default();
    let mut handlers = Handlers::default();
    handlers.companion("", "services", Arc::new(Services::new(caches.clone(), service_ranges)));
    handlers.action(
        "",
        "serviceaccounts",
        "token",
        Arc::new(TokenRequests { keys: keys.clone(), caches: caches.clone() }),
    );
    handlers.source("", "componentstatuses", Arc::new(health.clone()));
    skep_apiserver::reviews::register(&mut handlers, &authn, &rbac);
    skep_apiserver::nodes::register(
        &mut handlers,
        rbac.clone(),
        caches.clone(),
        Dialer::new(tls::agent_client(&pki.kubelet_client(now)?, pki.ca_pem())?)?,
    );
    Endpoints {
        caches: caches.clone(),
        address,
        keys: keys.clone(),
        live: health.live(),
        ready: health.ready(),
    }
    .register(&mut handlers);

    let server = ApiServer::new(Parts {
        caches: caches.clone(),
        authenticator: authn,
        authorizer: rbac.clone(),
        admission: Arc::new(BuiltIn::new(caches, rbac)),
        handlers,
        limits: Limits::default(),
    });
    custom::start(&server, Arc::new(skep_cel::Rules)).await?;
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.clone().serve(listener, tls, until(stopped.clone())));
    tracing::info!(%advertise, port, "serving");
    if advertise.is_loopback() {
        tracing::warn!(
            "pods cannot reach a loopback address; the kubernetes Service gets no endpoints (--advertise-address)"
        );
    }

    let ours = bootstrap::Config {
        advertise,
        port,
        service_ip,
        service_ranges: service_ranges.iter().map(|range| range.to_string()).collect(),
        ca_pem: pki.ca_pem().to_owned(),
    };
    let keyring = Arc::new(Keyring { pki: pki.clone(), keys });
    let controllers =
        controllers_config(&flags, cluster_dns, keyring, managed(server.registry().caches().clone()));
    let rooms = tokio::spawn(start_rooms(server, ours, controllers, health.clone()));
    let watching = tokio::spawn(health.clone().watch(store.clone()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    health.stopping.store(true, Ordering::Relaxed);
    rooms.abort();
    watching.abort();
    let _ = stop.send(true);
    let _ = serving.await;
    store.shutdown().await;
    Ok(())
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which also ends the server.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Brings up the objects a cluster has from the start, then whoever works on objects.
async fn start_rooms(
    server: Arc<ApiServer>,
    ours: bootstrap::Config,
    controllers: skep_controllers::Config,
    health: Health,
) {
    let client: Arc<dyn Client> = server.local_client(UserInfo::new("system:apiserver", &["system:masters"]));
    tokio::spawn(authz::keep_aggregated(client.clone()));
    while let Err(status) = bootstrap::run(&client, &ours).await {
        tracing::warn!(%status, "cannot make the objects that a cluster starts with; trying again");
        tokio::time::sleep(RETRY).await;
    }
    health.bootstrapped.store(true, Ordering::Relaxed);
    tokio::spawn(skep_apiserver::flows::keep(client.clone()));
    tokio::spawn(skep_apiserver::apiservices::keep(client, server.registry().caches().clone()));
    let clients = server.clone();
    let client_for = move |name: &'static str| -> Arc<dyn Client> { clients.local_client(controller(name)) };
    tokio::spawn(skep_scheduler::run(server.local_client(UserInfo::new("system:kube-scheduler", &[]))));
    skep_controllers::start(Arc::new(client_for), controllers).await;
    tracing::info!("controllers run");
}

/// The user a controller acts as.
fn controller(name: &str) -> UserInfo {
    if name == "kube-controller-manager" {
        return UserInfo::new("system:kube-controller-manager", &[]);
    }
    let user = format!("system:serviceaccount:kube-system:{name}");
    UserInfo::new(user, &["system:serviceaccounts", "system:serviceaccounts:kube-system"])
}

/// What can be listed, watched and deleted, as it is now and with every change of the resource table.
fn managed(caches: Arc<Caches>) -> watch::Receiver<Vec<ManagedResource>> {
    let now = |caches: &Caches| {
        let table = caches.table();
        let managed = discovery::distinct(&table)
            .filter(|row| ["list", "watch", "delete"].iter().all(|verb| row.verbs.contains(verb)));
        managed
            .map(|row| ManagedResource {
                collection: Collection {
                    group_version: row.gvk.group_version(),
                    resource: row.plural.clone(),
                    namespace: None,
                },
                kind: row.gvk.clone(),
                namespaced: row.namespaced(),
            })
            .collect()
    };
    let mut changes = caches.table_changes();
    let (sender, receiver) = watch::channel(now(&caches));
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            sender.send_replace(now(&caches));
        }
    });
    receiver
}

/// The tenth address of the range, where nothing else is asked for.
const CLUSTER_DNS: u64 = 9;

fn cluster_dns(flags: &Serve, ranges: &Ranges) -> anyhow::Result<Option<ClusterDns>> {
    let port = flags.cluster_dns_port;
    let address = match flags.cluster_dns.as_deref() {
        None => ranges.first.nth(CLUSTER_DNS),
        Some("") => return Ok(None),
        Some(text) => text.parse().with_context(|| format!("--cluster-dns {text:?}"))?,
    };
    anyhow::ensure!(
        ranges.iter().any(|range| range.contains(address)),
        "--cluster-dns {address} is not within --service-cluster-ip-range {}; without the flag it is {}",
        flags.service_cluster_ip_range,
        ranges.first.nth(CLUSTER_DNS)
    );
    Ok(Some(ClusterDns { address, port }))
}

fn controllers_config(
    flags: &Serve,
    cluster_dns: Option<ClusterDns>,
    keyring: Arc<Keyring>,
    resources: watch::Receiver<Vec<ManagedResource>>,
) -> skep_controllers::Config {
    skep_controllers::Config {
        cluster_cidr: flags.cluster_cidr.clone(),
        node_cidr_masks: (flags.node_cidr_mask_size_ipv4, flags.node_cidr_mask_size_ipv6),
        cluster_dns,
        root_ca: keyring.pki.ca_pem().to_owned(),
        authority: keyring,
        resources,
    }
}

/// The address that others reach this machine by: the one it listens on, or that of its default route.
fn own_address(bind: IpAddr) -> IpAddr {
    if !bind.is_unspecified() {
        return bind;
    }
    // Connecting a datagram socket sends nothing; it only asks the routing table (192.0.2.0/24 is for documentation).
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).and_then(|()| socket.local_addr())
    });
    routed.map_or_else(
        |_| {
            tracing::warn!(
                "there is no default route; pods will not reach this server without --advertise-address"
            );
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        },
        |address| address.ip(),
    )
}

fn serving_names(flags: &Serve, advertise: IpAddr, service_ip: IpAddr) -> ServingNames {
    let mut names = ServingNames::default();
    for name in [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
    ] {
        names.add(name);
    }
    names.add_ip(advertise).add_ip(service_ip);
    if !flags.bind_address.is_unspecified() {
        names.add_ip(flags.bind_address);
    }
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        // A host name that cannot stand in a certificate is no name that a client could ask for.
        let host = host.trim();
        if skep_api::names::dns1123_subdomain(&host.to_ascii_lowercase(), false).is_empty() {
            names.add(host);
        }
    }
    for name in &flags.tls_sans {
        names.add(name);
    }
    names
}

/// What health checks look at.
#[derive(Clone)]
struct Health {
    store: Arc<AtomicBool>,
    bootstrapped: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
}

impl Default for Health {
    fn default() -> Self {
        let flag = |value| Arc::new(AtomicBool::new(value));
        Health { store: flag(true), bootstrapped: flag(false), stopping: flag(false) }
    }
}

fn check(name: &'static str, flag: &Arc<AtomicBool>, good: bool, why: &'static str) -> Check {
    let flag = flag.clone();
    (name, Arc::new(move || (flag.load(Ordering::Relaxed) != good).then(|| why.to_owned())))
}

impl Source for Health {
    /// The parts that run in this process, under the names of upstream's.
    fn objects(&self) -> Vec<Value> {
        let trouble = |flag: &AtomicBool, why: &'static str| (!flag.load(Ordering::Relaxed)).then_some(why);
        let running = || trouble(&self.bootstrapped, "it waits for the objects that a cluster starts with");
        vec![
            component("controller-manager", running()),
            component("etcd-0", trouble(&self.store, "the store does not answer")),
            component("scheduler", running()),
        ]
    }
}

impl Health {
    fn live(&self) -> Vec<Check> {
        vec![
            ("ping", Arc::new(|| None)),
            check("etcd", &self.store, true, "the store does not answer"),
            check("poststarthook/rbac/bootstrap-roles", &self.bootstrapped, true, "not finished"),
        ]
    }

    fn ready(&self) -> Vec<Check> {
        vec![check("shutdown", &self.stopping, false, "process is shutting down")]
    }

    async fn watch(self, store: Store) {
        loop {
            tokio::time::sleep(STORE_CHECK).await;
            let answer = tokio::time::timeout(STORE_CHECK, store.barrier()).await;
            let well = matches!(answer, Ok(Ok(_)));
            if self.store.swap(well, Ordering::Relaxed) != well {
                tracing::warn!(well, "the store's health has changed");
            }
        }
    }
}
