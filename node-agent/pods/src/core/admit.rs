//! Whether a pod bound to this node can be taken by it.
//! Source: kubelet `lifecycle/predicate.go`, `sysctl/allowlist.go`, the scheduler's `AdmissionCheck`.

use super::rules;
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodSpec};
use serde_json::{Value, json};
use skep_api::kinds::pod::amounts::{self, Part};
use skep_api::selector::NodeTerm;
use skep_api::taint::{Taint, Toleration};
use std::collections::BTreeMap;

/// Amounts by resource: `cpu` in thousandths of a core, all else in whole units.
pub type Amounts = BTreeMap<String, i64>;

/// The node, as far as it decides which pods it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// What pods may ask for in all.
    pub allocatable: Amounts,
}

fn whole(of: &amounts::Amounts) -> Amounts {
    of.iter()
        .map(|(name, q)| (name.clone(), if name == "cpu" { q.milli_value() } else { q.value() }))
        .collect()
}

impl NodeView {
    /// Reads a node's object.
    pub fn read(node: &Value) -> Self {
        let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
        let taints = node["spec"]["taints"].as_array().into_iter().flatten();
        Self {
            name: node["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            labels: labels.filter_map(|(k, v)| Some((k.as_str().into(), v.as_str()?.into()))).collect(),
            taints: taints.filter_map(|t| serde_json::from_value(t.clone()).ok()).collect(),
            allocatable: whole(&amounts::amounts(node["status"].get("allocatable"))),
        }
    }
}

/// Why a node does not take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The pod and the node do not go together: which rule says so, and how.
    Unfit {
        /// Name of the rule.
        rule: &'static str,
        /// What it says.
        why: &'static str,
    },
    /// There is too little of a resource.
    Short {
        /// The resource.
        resource: String,
        /// What the pod asks for.
        requested: i64,
        /// What other pods have asked for.
        used: i64,
        /// What there is in all.
        capacity: i64,
    },
}

/// The rule that labels of a node decide, and what it says.
const AFFINITY: Refusal =
    Refusal::Unfit { rule: "NodeAffinity", why: "node(s) didn't match Pod's node affinity/selector" };
const NAME: Refusal =
    Refusal::Unfit { rule: "NodeName", why: "node(s) didn't match the requested node name" };
const PORTS: Refusal =
    Refusal::Unfit { rule: "NodePorts", why: "node(s) didn't have free ports for the requested pod ports" };
const TAINTS: Refusal =
    Refusal::Unfit { rule: "TaintToleration", why: "node(s) had taints that the pod didn't tolerate" };

/// What a refused pod says of itself: reason and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Rejection {
    /// From its parts.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

impl From<&Refusal> for Rejection {
    fn from(r: &Refusal) -> Self {
        match r {
            Refusal::Unfit { rule, why } => Self::new(*rule, format!("Predicate {rule} failed: {why}")),
            Refusal::Short { resource, requested, used, capacity } => Self::new(
                format!("OutOf{resource}"),
                format!(
                    "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
                ),
            ),
        }
    }
}

/// Whether only labels of the node stand against the pod: the agent may not have heard of new ones yet.
pub fn only_affinity(refusals: &[Refusal]) -> bool {
    !refusals.is_empty() && refusals.iter().all(|r| *r == AFFINITY)
}

/// What a pod asks for; with `told`, at least what its status says that its containers still have.
pub fn requests(pod: &Pod, told: bool) -> Amounts {
    let status = if told { json!(pod.status) } else { Value::Null };
    whole(&amounts::effective(&json!({"spec": pod.spec, "status": status}), Part::Requests))
}

fn extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

fn host_ports(spec: &PodSpec) -> impl Iterator<Item = &ContainerPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c: &&Container| rules::is_sidecar(c));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .filter(|p| p.host_port.is_some_and(|n| n > 0))
}

fn clash(a: &ContainerPort, b: &ContainerPort) -> bool {
    let protocol = |p: &ContainerPort| p.protocol.clone().unwrap_or_else(|| "TCP".into());
    let ip = |p: &ContainerPort| p.host_ip.clone().filter(|ip| !ip.is_empty() && ip != "0.0.0.0");
    let one = match (ip(a), ip(b)) {
        (Some(x), Some(y)) => x == y,
        _ => true,
    };
    a.host_port == b.host_port && protocol(a) == protocol(b) && one
}

/// Whether a pod's selector and required affinity allow a node of that name and labels.
fn wanted(spec: &PodSpec, node: &NodeView) -> bool {
    let labelled =
        |(k, v): (&String, &String)| node.labels.get(k.as_str()).is_some_and(|l| **l == *v.as_str());
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = |s: &k8s_openapi::api::core::v1::NodeSelector| {
        s.node_selector_terms
            .iter()
            .any(|t| NodeTerm::from_structure(&json!(t)).matches(&node.name, &node.labels))
    };
    spec.node_selector.iter().flatten().all(labelled) && required.is_none_or(terms)
}

fn tolerated(spec: &PodSpec, taint: &Taint) -> bool {
    let read = |t| serde_json::from_value::<Toleration>(json!(t)).unwrap_or_default();
    spec.tolerations.iter().flatten().any(|t| read(t).tolerates(taint))
}

/// A pod that a file of the node describes.
pub fn is_static(pod: &Pod) -> bool {
    let source = pod.metadata.annotations.as_ref().and_then(|a| a.get("kubernetes.io/config.source"));
    source.is_some_and(|s| s != "api")
}

/// The shadow in the API of a pod that a file describes.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key("kubernetes.io/config.mirror"))
}

/// A pod the cluster cannot do without.
pub fn is_critical(pod: &Pod) -> bool {
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    is_static(pod) || is_mirror(pod) || priority >= 2_000_000_000
}

/// Everything that stands against the pod on this node beside the `others` it has taken, in upstream's order.
pub fn refusals(pod: &Pod, node: &NodeView, others: &[&Pod]) -> Vec<Refusal> {
    let Some(spec) = pod.spec.as_ref() else { return vec![NAME] };
    let mut out = short(pod, node, others);
    if !wanted(spec, node) {
        out.push(AFFINITY);
    }
    if spec.node_name.as_ref().is_some_and(|n| !n.is_empty() && *n != node.name) {
        out.push(NAME);
    }
    let taken = || others.iter().filter_map(|o| o.spec.as_ref()).flat_map(host_ports);
    if host_ports(spec).any(|p| taken().any(|t| clash(p, t))) {
        out.push(PORTS);
    }
    let thrown_out = |t: &&Taint| t.effect == "NoExecute" && !tolerated(spec, t);
    if !is_static(pod) && node.taints.iter().any(|t| thrown_out(&t)) {
        out.push(TAINTS);
    }
    out
}

/// The resources there is too little of.
fn short(pod: &Pod, node: &NodeView, others: &[&Pod]) -> Vec<Refusal> {
    let mut out = Vec::new();
    let have = |name: &str| node.allocatable.get(name).copied().unwrap_or(0);
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count >= have("pods") {
        let (resource, capacity) = ("pods".to_owned(), have("pods"));
        out.push(Refusal::Short { resource, requested: 1, used: count, capacity });
    }
    let wants = requests(pod, false);
    let mut used = Amounts::new();
    for other in others {
        for (name, amount) in requests(other, true) {
            let sum = used.entry(name).or_insert(0);
            *sum = sum.saturating_add(amount);
        }
    }
    let first = ["cpu", "memory", "ephemeral-storage"];
    let rest = wants.keys().map(String::as_str).filter(|n| !first.contains(n));
    for name in first.into_iter().chain(rest) {
        let requested = wants.get(name).copied().unwrap_or(0);
        let taken = used.get(name).copied().unwrap_or(0);
        // A resource that the node does not know of is another's business.
        let foreign = extended(name) && !node.allocatable.contains_key(name);
        if requested > 0 && !foreign && requested > have(name).saturating_sub(taken) {
            let resource = name.to_owned();
            out.push(Refusal::Short { resource, requested, used: taken, capacity: have(name) });
        }
    }
    out
}

/// Sysctls that have no effect outside their pod: name, whether of its network, and the kernel from which on.
const SAFE_SYSCTLS: [(&str, bool, (u32, u32)); 12] = [
    ("kernel.shm_rmid_forced", false, (0, 0)),
    ("net.ipv4.ip_local_port_range", true, (0, 0)),
    ("net.ipv4.tcp_syncookies", true, (0, 0)),
    ("net.ipv4.ping_group_range", true, (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", true, (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", true, (3, 16)),
    ("net.ipv4.tcp_keepalive_time", true, (4, 5)),
    ("net.ipv4.tcp_fin_timeout", true, (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", true, (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", true, (4, 5)),
    ("net.ipv4.tcp_rmem", true, (4, 15)),
    ("net.ipv4.tcp_wmem", true, (4, 15)),
];

/// Major and minor number of a kernel's release.
pub fn kernel_version(release: &str) -> (u32, u32) {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// What no node of this kind takes, whatever else it runs.
pub fn forbidden(pod: &Pod, kernel: (u32, u32)) -> Option<Rejection> {
    let spec = pod.spec.as_ref()?;
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return Some(Rejection::new("PodOSNotSupported", message));
    }
    let sysctls = spec.security_context.as_ref().and_then(|s| s.sysctls.as_ref());
    sysctls.into_iter().flatten().find_map(|s| {
        let name = s.name.replace('/', ".");
        let known = SAFE_SYSCTLS.iter().find(|(n, _, since)| *n == name && kernel >= *since);
        let why = match known {
            None => format!("{name:?} not allowlisted"),
            Some((_, true, _)) if rules::host_network(spec) => {
                format!("{name:?} not allowed with host net enabled")
            }
            Some((_, false, _)) if spec.host_ipc == Some(true) => {
                format!("{name:?} not allowed with host ipc enabled")
            }
            Some(_) => return None,
        };
        Some(Rejection::new("SysctlForbidden", format!("forbidden sysctl: {why}")))
    })
}
