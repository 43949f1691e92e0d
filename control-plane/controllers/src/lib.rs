//! The controllers: each watches, decides in a pure function, and acts through the API.
//!
//! They are API clients like any other. All of them look at the same informers; each writes as its own
//! service account (`system:serviceaccount:kube-system:<name>`), with the rights that upstream's default
//! roles give it.

mod accounts;
mod authority;
mod autoscaler;
mod bootstrap;
mod certificates;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod dns;
mod endpoints;
mod endpointslice;
mod garbage;
mod history;
mod job;
mod namespace;
mod nodes;
mod podwriter;
mod quota;
mod replicaset;
mod runtime;
mod services;
mod statefulset;
mod subsets;
mod tokens;
mod views;
mod volume;

pub use authority::{AccountToken, Authority};
pub use dns::ClusterDns;
use parking_lot::Mutex;
use skep_api::{GroupVersionKind, LabelSelector};
use skep_client::{Client, Collection, Informer};
use std::collections::HashMap;
use std::sync::Arc;
use views::Pod;

/// A resource that the namespace controller and the garbage collector look after: everything that can be
/// listed, watched and deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedResource {
    /// Where its objects are.
    pub collection: Collection,
    /// Their kind, as owner references name it.
    pub kind: GroupVersionKind,
    /// Whether they live in namespaces.
    pub namespaced: bool,
}

/// What the controllers need to know of the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pod addresses, from which each node gets its range: `10.244.0.0/16`, or one range of each family with a comma between.
    pub cluster_cidr: String,
    /// Length of a node's range, in IPv4 and in IPv6: 24 and 64.
    pub node_cidr_masks: (u8, u8),
    /// The cluster's authorities, PEM, published in every namespace.
    pub root_ca: String,
    /// The cluster's own DNS; none where others see to it.
    pub cluster_dns: Option<ClusterDns>,
    /// Signs tokens and certificates.
    pub authority: Arc<dyn Authority>,
    /// Everything that can be owned or lives in a namespace, as it is now and with every change: CustomResourceDefinitions
    /// come and go.
    pub resources: tokio::sync::watch::Receiver<Vec<ManagedResource>>,
}

/// Gives a client with the identity of a controller: `deployment-controller`, …
pub type ClientFor = Arc<dyn Fn(&'static str) -> Arc<dyn Client> + Send + Sync>;

/// The views that the controllers share, one a resource.
pub(crate) struct Informers {
    client: Arc<dyn Client>,
    by_collection: Mutex<HashMap<Collection, Informer>>,
    pub(crate) pods: Informer,
    pub(crate) nodes: Informer,
    pub(crate) namespaces: Informer,
    pub(crate) services: Informer,
    pub(crate) endpoints: Informer,
    pub(crate) endpoint_slices: Informer,
    pub(crate) replica_sets: Informer,
    pub(crate) deployments: Informer,
    pub(crate) service_accounts: Informer,
}

impl Informers {
    fn start(client: Arc<dyn Client>) -> Self {
        let all = |collection: Collection| (collection.clone(), Informer::all(client.clone(), collection));
        let core = |name| all(Collection::core(name));
        let apps = |name| all(Collection::of("apps", "v1", name));
        let (pods, nodes, namespaces) = (core("pods"), core("nodes"), core("namespaces"));
        let (services, endpoints) = (core("services"), core("endpoints"));
        let endpoint_slices = all(Collection::of("discovery.k8s.io", "v1", "endpointslices"));
        let (replica_sets, deployments) = (apps("replicasets"), apps("deployments"));
        let service_accounts = core("serviceaccounts");
        let shared = [
            &pods,
            &nodes,
            &namespaces,
            &services,
            &endpoints,
            &endpoint_slices,
            &replica_sets,
            &deployments,
            &service_accounts,
        ];
        let by_collection = shared.into_iter().cloned().collect();
        Informers {
            by_collection: Mutex::new(by_collection),
            client,
            pods: pods.1,
            nodes: nodes.1,
            namespaces: namespaces.1,
            services: services.1,
            endpoints: endpoints.1,
            endpoint_slices: endpoint_slices.1,
            replica_sets: replica_sets.1,
            deployments: deployments.1,
            service_accounts: service_accounts.1,
        }
    }

    /// The view of a collection, started on first demand.
    pub(crate) fn of(&self, collection: &Collection) -> Informer {
        let mut all = self.by_collection.lock();
        let start = || Informer::all(self.client.clone(), collection.clone());
        all.entry(collection.clone()).or_insert_with(start).clone()
    }

    async fn synced(&self) {
        let all: Vec<Informer> = self.by_collection.lock().values().cloned().collect();
        for informer in all {
            informer.synced().await;
        }
    }
}

pub(crate) struct Context {
    pub(crate) informers: Informers,
    pub(crate) config: Config,
    client_for: ClientFor,
}

impl Context {
    pub(crate) fn client(&self, controller: &'static str) -> Arc<dyn Client> {
        (self.client_for)(controller)
    }
}

/// Starts all controllers on the current runtime and returns once their views are complete. They run until
/// the runtime ends; stopping them at any instant loses nothing, since every decision starts from the API.
///
/// `client_for` gives a client with the identity of a controller by the name its service account has;
/// `kube-controller-manager` is asked for the client of the shared views.
pub async fn start(client_for: ClientFor, config: Config) {
    let informers = Informers::start(client_for("kube-controller-manager"));
    informers.synced().await;
    let context = Context { informers, config, client_for };
    accounts::start(&context);
    tokens::start(&context);
    bootstrap::start(&context);
    certificates::start(&context);
    replicaset::start(&context);
    deployment::start(&context);
    job::start(&context);
    volume::start(&context);
    cronjob::start(&context);
    statefulset::start(&context);
    quota::start(&context);
    daemonset::start(&context);
    disruption::start(&context);
    autoscaler::start(&context);
    dns::start(&context);
    endpointslice::start(&context);
    endpoints::start(&context);
    endpointslice::mirroring::start(&context);
    namespace::start(&context);
    nodes::ipam::start(&context);
    nodes::health::start(&context);
    nodes::eviction::start(&context);
    nodes::podgc::start(&context);
    garbage::start(&context).await;
}

/// The pods of a namespace that an owner manages, or might take over.
pub(crate) fn pods_of(pods: &Informer, namespace: &str, uid: &str, selector: &LabelSelector) -> Vec<Pod> {
    let near = pods.namespace(namespace).into_iter().filter(|pod| match pod.meta().controller() {
        Some(owner) => &*owner.uid == uid,
        None => selector.matches(&pod.meta().labels),
    });
    views::pods(near)
}
