//! What is where: nodes with the pods on them, kept by difference.

use super::model::{Labels, Node, Pod};
use super::resources::Resources;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// A node with its pods.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// The node; none while only pods that name it are known.
    pub node: Option<Node>,
    /// Its pods, by uid; finished ones are left out.
    pub pods: HashMap<Box<str>, Arc<Pod>>,
    /// What they ask for.
    pub requested: Resources,
    /// What they count as in scores.
    pub scored: Resources,
}

impl NodeInfo {
    /// Counts a pod.
    pub(super) fn add(&mut self, pod: Arc<Pod>) {
        self.remove(&pod.meta.uid);
        self.requested.add(&pod.request);
        self.scored.add(&scored(&pod));
        self.pods.insert(pod.meta.uid.clone(), pod);
    }

    /// Counts a pod no more.
    pub(super) fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            self.requested.sub(&pod.request);
            self.scored.sub(&scored(&pod));
        }
    }
}

/// A pod's amounts as scores count them.
pub fn scored(pod: &Pod) -> Resources {
    let text = |name: &str, unit: &str| (name.to_owned(), format!("{}{unit}", pod.request.scored(name)));
    Resources::read(&BTreeMap::from([text("cpu", "m"), text("memory", "")]))
}

/// The cluster as the scheduler sees it.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    nodes: BTreeMap<String, NodeInfo>,
    /// Where each pod is counted.
    placed: HashMap<Box<str>, String>,
    /// Uids of the counted pods of each namespace.
    by_namespace: HashMap<Box<str>, HashSet<Box<str>>>,
    /// Uids of the counted pods that say which other pods they want near or away.
    particular: BTreeSet<Box<str>>,
    /// Pods that wait for room that was made for them, by node and uid.
    nominated: HashMap<String, BTreeMap<Box<str>, Arc<Pod>>>,
    /// The node of each of these.
    nominations: HashMap<Box<str>, String>,
    /// Labels of namespaces.
    namespaces: HashMap<Box<str>, Arc<Labels>>,
}

impl Cluster {
    /// Nodes that are known, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&Node, &NodeInfo)> {
        self.nodes.values().filter_map(|info| info.node.as_ref().map(|node| (node, info)))
    }

    /// All pods that are counted somewhere, with their nodes.
    pub fn pods(&self) -> impl Iterator<Item = (&Node, &Arc<Pod>)> {
        self.nodes().flat_map(|(node, info)| info.pods.values().map(move |pod| (node, pod)))
    }

    /// Those of a namespace, with the names of their nodes.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = (&str, &Arc<Pod>)> {
        self.by_namespace.get(namespace).into_iter().flatten().filter_map(|uid| {
            let node = self.placed.get(uid)?;
            Some((node.as_str(), self.nodes.get(node)?.pods.get(uid)?))
        })
    }

    /// Those of them that say which other pods they want near or away.
    pub fn particular(&self) -> impl Iterator<Item = (&Node, &Arc<Pod>)> {
        self.particular.iter().filter_map(|uid| {
            let info = self.nodes.get(self.placed.get(uid)?)?;
            Some((info.node.as_ref()?, info.pods.get(uid)?))
        })
    }

    /// A pod that is counted.
    pub fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.nodes.get(self.placed.get(uid)?)?.pods.get(uid)
    }

    /// One node with its pods.
    pub fn node(&self, name: &str) -> Option<(&Node, &NodeInfo)> {
        let info = self.nodes.get(name)?;
        Some((info.node.as_ref()?, info))
    }

    /// Takes note that room on a node was made for a pod.
    pub fn nominate(&mut self, pod: Arc<Pod>, node: &str) {
        let uid = pod.meta.uid.clone();
        self.forget_nomination(&uid);
        self.nominations.insert(uid.clone(), node.to_owned());
        self.nominated.entry(node.to_owned()).or_default().insert(uid, pod);
    }

    /// Takes note that a pod waits for no room any more.
    pub fn forget_nomination(&mut self, uid: &str) {
        let Some(node) = self.nominations.remove(uid) else { return };
        if let Some(pods) = self.nominated.get_mut(&node) {
            pods.remove(uid);
            if pods.is_empty() {
                self.nominated.remove(&node);
            }
        }
    }

    /// The node on which room was made for a pod.
    pub fn nomination(&self, uid: &str) -> Option<&str> {
        self.nominations.get(uid).map(String::as_str)
    }

    /// Pods for which room was made on a node.
    pub fn nominated(&self, node: &str) -> impl Iterator<Item = &Arc<Pod>> {
        self.nominated.get(node).into_iter().flat_map(BTreeMap::values)
    }

    /// Takes note of a namespace.
    pub fn put_namespace(&mut self, name: &str, labels: &Labels) {
        self.namespaces.insert(name.into(), Arc::new(labels.clone()));
    }

    /// Takes note that a namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Labels of all namespaces.
    pub fn namespaces(&self) -> &HashMap<Box<str>, Arc<Labels>> {
        &self.namespaces
    }

    /// Takes note of a node.
    pub fn put_node(&mut self, node: Node) {
        let name = node.name.clone();
        self.nodes.entry(name).or_default().node = Some(node);
    }

    /// Takes note that a node is gone; its pods stay counted until they are gone too.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.get_mut(name) {
            info.node = None;
            if info.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// Counts a pod on its node, or nowhere while it has none or has finished.
    pub fn put_pod(&mut self, pod: Arc<Pod>) {
        if pod.node.is_empty() || pod.finished {
            self.remove_pod(&pod.meta.uid);
            return;
        }
        if self.placed.get(&pod.meta.uid).is_some_and(|at| *at != pod.node) {
            self.remove_pod(&pod.meta.uid);
        }
        self.placed.insert(pod.meta.uid.clone(), pod.node.clone());
        self.by_namespace.entry(pod.meta.namespace.clone()).or_default().insert(pod.meta.uid.clone());
        if pod.is_particular() {
            self.particular.insert(pod.meta.uid.clone());
        } else {
            self.particular.remove(&pod.meta.uid);
        }
        self.nodes.entry(pod.node.clone()).or_default().add(pod);
    }

    /// Counts a pod no more.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(at) = self.placed.remove(uid) else { return };
        self.particular.remove(uid);
        let Some(info) = self.nodes.get_mut(&at) else { return };
        let namespace = info.pods.get(uid).map(|pod| pod.meta.namespace.clone()).unwrap_or_default();
        info.remove(uid);
        if info.pods.is_empty() && info.node.is_none() {
            self.nodes.remove(&at);
        }
        if let Some(pods) = self.by_namespace.get_mut(&namespace) {
            pods.remove(uid);
            if pods.is_empty() {
                self.by_namespace.remove(&namespace);
            }
        }
    }
}
