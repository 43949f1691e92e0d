//! What a sandbox is made with: names, namespaces, sysctls, the hosts file.
//! Source: kubelet `generatePodSandboxConfig`, `ensureHostsFile`.

use super::dns::{Resolver, resolver};
use super::resources::{Kernel, Qos, pod_kernel, qos};
use super::rules::host_network;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Pod, PodSpec, SeccompProfile};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Facts of the node that configurations are made from.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Node name.
    pub name: String,
    /// Node addresses, the primary first.
    pub ips: Vec<String>,
    /// The agent's data directory.
    pub data_dir: PathBuf,
    /// Where pod logs lie.
    pub log_dir: PathBuf,
    /// Memory of the node in bytes.
    pub memory: i64,
    /// Cores of the node in thousandths.
    pub cpu_milli: i64,
    /// Cgroup path of the node below the hierarchy's root, such as `/` or `/node-1`.
    pub cgroup: String,
    /// Addresses of the cluster's DNS service.
    pub cluster_dns: Vec<String>,
    /// Cluster domain, such as `cluster.local`.
    pub cluster_domain: String,
    /// The node's own resolver.
    pub resolver: Resolver,
    /// The node's own `/etc/hosts`.
    pub hosts: String,
}

impl Node {
    /// Directory of a pod's files.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }

    /// Directory of a pod's logs.
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.log_dir.join(format!("{namespace}_{name}_{uid}"))
    }

    /// The host file that a container's termination message is mounted from.
    pub fn termination_file(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod_dir(uid).join("containers").join(container).join(attempt.to_string())
    }
}

/// Metadata as plain strings.
pub fn id(pod: &Pod) -> (&str, &str, &str) {
    let m = &pod.metadata;
    (
        m.namespace.as_deref().unwrap_or_default(),
        m.name.as_deref().unwrap_or_default(),
        m.uid.as_deref().unwrap_or_default(),
    )
}

/// Labels by which sandboxes and containers are found again.
pub fn labels(pod: &Pod) -> HashMap<String, String> {
    let (ns, name, uid) = id(pod);
    HashMap::from([
        ("io.kubernetes.pod.namespace".to_owned(), ns.to_owned()),
        ("io.kubernetes.pod.name".to_owned(), name.to_owned()),
        ("io.kubernetes.pod.uid".to_owned(), uid.to_owned()),
    ])
}

/// Host name inside the pod, at most 63 characters.
pub fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let own =
        spec.and_then(|s| s.hostname_override.as_ref().or(s.hostname.as_ref())).filter(|h| !h.is_empty());
    let mut name = own.cloned().unwrap_or_else(|| pod.metadata.name.clone().unwrap_or_default());
    if spec.and_then(|s| s.hostname_override.as_ref()).is_none() {
        name.truncate(name.char_indices().nth(63).map_or(name.len(), |(i, _)| i));
        name.truncate(name.trim_end_matches(['-', '.']).len());
    }
    name
}

/// `subdomain.namespace.svc.domain`, where the pod has a subdomain.
pub fn domain(pod: &Pod, node: &Node) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if spec.hostname_override.is_some() {
        return None;
    }
    let sub = spec.subdomain.as_ref().filter(|s| !s.is_empty())?;
    let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("{sub}.{ns}.svc.{}", node.cluster_domain))
}

/// Contents of the pod's `/etc/hosts`.
pub fn hosts_file(pod: &Pod, node: &Node, ips: &[String]) -> String {
    let spec = pod.spec.as_ref();
    let mut out = if spec.is_some_and(host_network) {
        format!("# Kubernetes-managed hosts file (host network).\n{}", node.hosts)
    } else {
        let mut s = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let host = hostname(pod);
        for ip in ips {
            match domain(pod, node) {
                Some(d) => s.push_str(&format!("{ip}\t{host}.{d}\t{host}\n")),
                None => s.push_str(&format!("{ip}\t{host}\n")),
            }
        }
        s
    };
    let aliases = spec.and_then(|s| s.host_aliases.as_ref()).filter(|a| !a.is_empty());
    if let Some(aliases) = aliases {
        out.push_str("\n# Entries added by HostAliases.\n");
        for a in aliases {
            out.push_str(&a.ip);
            for h in a.hostnames.iter().flatten() {
                out.push('\t');
                out.push_str(h);
            }
            out.push('\n');
        }
    }
    out
}

/// Namespaces of the sandbox.
pub fn namespaces(spec: &PodSpec) -> cri::NamespaceOption {
    let mode = |m: cri::NamespaceMode| i32::from(m);
    cri::NamespaceOption {
        network: mode(if host_network(spec) { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod }),
        ipc: mode(if spec.host_ipc == Some(true) {
            cri::NamespaceMode::Node
        } else {
            cri::NamespaceMode::Pod
        }),
        pid: mode(if spec.host_pid == Some(true) {
            cri::NamespaceMode::Node
        } else if spec.share_process_namespace == Some(true) {
            cri::NamespaceMode::Pod
        } else {
            cri::NamespaceMode::Container
        }),
        target_id: String::new(),
        userns_options: None,
    }
}

/// A seccomp profile for the runtime; without one nothing is filtered.
pub fn seccomp(p: Option<&SeccompProfile>, node: &Node) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let (kind, file) = match p.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => (ProfileType::RuntimeDefault, String::new()),
        Some(("Localhost", Some(f))) => {
            let path = node.data_dir.join("seccomp").join(Path::new(f));
            (ProfileType::Localhost, path.to_string_lossy().into_owned())
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    cri::SecurityProfile { profile_type: i32::from(kind), localhost_ref: file }
}

/// Cgroup of a pod below the hierarchy's root.
pub fn cgroup(pod: &Pod, node: &Node) -> String {
    let (_, _, uid) = id(pod);
    let class = pod.spec.as_ref().map_or(Qos::BestEffort, qos);
    format!("{}/pod{uid}", qos_cgroup(node, class))
}

/// Cgroup of a class below the hierarchy's root.
pub fn qos_cgroup(node: &Node, class: Qos) -> String {
    let root = node.cgroup.trim_end_matches('/');
    match class {
        Qos::Guaranteed => format!("{root}/kubepods"),
        Qos::Burstable => format!("{root}/kubepods/burstable"),
        Qos::BestEffort => format!("{root}/kubepods/besteffort"),
    }
}

/// Kernel figures as the runtime takes them.
pub fn linux_resources(k: &Kernel, oom: i64) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        cpu_period: k.period,
        cpu_quota: k.quota,
        cpu_shares: k.shares,
        memory_limit_in_bytes: k.memory,
        oom_score_adj: oom,
        ..cri::LinuxContainerResources::default()
    }
}

/// The whole configuration of a sandbox.
pub fn config(pod: &Pod, attempt: u32, node: &Node) -> cri::PodSandboxConfig {
    let (ns, name, uid) = id(pod);
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let sc = spec.security_context.as_ref();
    let privileged = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .any(|c| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
    let sysctls: HashMap<String, String> = sc
        .and_then(|s| s.sysctls.as_ref())
        .into_iter()
        .flatten()
        .map(|s| (s.name.replace('/', "."), s.value.clone()))
        .collect();
    let mut groups = sc.and_then(|s| s.supplemental_groups.clone()).unwrap_or_default();
    groups.extend(sc.and_then(|s| s.fs_group));
    let mut all = labels(pod);
    all.extend(pod.metadata.labels.clone().unwrap_or_default());
    let (r, _) = resolver(pod, node);
    let full_name = match (spec.set_hostname_as_fqdn, domain(pod, node)) {
        (Some(true), Some(d)) => format!("{}.{d}", hostname(pod)),
        _ => hostname(pod),
    };
    let port_mappings = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten().filter(|c| super::rules::is_sidecar(c)))
        .flat_map(|c| c.ports.iter().flatten())
        .filter(|p| p.host_port.is_some_and(|h| h > 0) && !host_network(spec))
        .map(|p| cri::PortMapping {
            protocol: i32::from(match p.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp,
                Some("SCTP") => cri::Protocol::Sctp,
                _ => cri::Protocol::Tcp,
            }),
            container_port: p.container_port,
            host_port: p.host_port.unwrap_or(0),
            host_ip: p.host_ip.clone().unwrap_or_default(),
        })
        .collect();
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: name.into(),
            uid: uid.into(),
            namespace: ns.into(),
            attempt,
        }),
        hostname: if host_network(spec) { String::new() } else { full_name },
        log_directory: node.pod_logs(ns, name, uid).to_string_lossy().into_owned(),
        dns_config: Some(cri::DnsConfig { servers: r.servers, searches: r.searches, options: r.options }),
        port_mappings,
        labels: all,
        annotations: to_hash(pod.metadata.annotations.as_ref()),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: cgroup(pod, node),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(spec)),
                run_as_user: sc.and_then(|s| s.run_as_user).map(|value| cri::Int64Value { value }),
                run_as_group: sc
                    .filter(|s| s.run_as_user.is_some())
                    .and_then(|s| s.run_as_group)
                    .map(|value| cri::Int64Value { value }),
                supplemental_groups: groups,
                privileged,
                seccomp: Some(cri::SecurityProfile {
                    profile_type: i32::from(cri::security_profile::ProfileType::RuntimeDefault),
                    localhost_ref: String::new(),
                }),
                ..cri::LinuxSandboxSecurityContext::default()
            }),
            sysctls,
            overhead: None,
            resources: Some(linux_resources(&pod_kernel(spec), 0)),
        }),
        windows: None,
    }
}

fn to_hash(m: Option<&BTreeMap<String, String>>) -> HashMap<String, String> {
    m.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
}
