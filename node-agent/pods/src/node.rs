//! The node's own object: registration, status, and the lease that says it is alive.
//! Source: kubelet `kubelet_node_status.go`, `nodestatus/setters.go`, KEP-589 (leases).

use crate::api::Api;
use crate::core::sandbox::Node;
use crate::cri::Runtime;
use jiff::Timestamp;
use serde_json::{Value, json};
use skep_api::Status;
use skep_client::{ClientExt, Collection, Patch, WriteOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Facts the kernel and the runtime tell; read once.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `nodeInfo`, as the API writes it.
    pub info: Value,
    /// Bytes of the file system that holds the data directory.
    pub disk: u64,
    /// Huge pages: size and total bytes.
    pub huge: Vec<(String, u64)>,
}

const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
/// Pods a node takes.
pub const MAX_PODS: u32 = 110;
/// Lease length in seconds; it is renewed four times in this time.
const LEASE_SECONDS: i64 = 40;
/// Time between two looks at the status, and the longest time without writing it.
const STATUS_PERIOD: Duration = Duration::from_secs(10);
const STATUS_MAX: Duration = Duration::from_secs(300);

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// A line `NAME: value kB` of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Bytes of memory and cores of this machine.
pub fn capacity() -> (i64, i64) {
    let memory = meminfo(&read("/proc/meminfo"), "MemTotal");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (i64::try_from(memory).unwrap_or(i64::MAX), i64::try_from(cores).unwrap_or(1))
}

impl Facts {
    /// Asks the machine and the runtime.
    pub async fn gather(rt: &Runtime, data_dir: &std::path::Path) -> Self {
        let runtime = rt
            .version()
            .await
            .map(|v| format!("{}://{}", v.runtime_name, v.runtime_version))
            .unwrap_or_default();
        let os = read("/etc/os-release");
        let image = os
            .lines()
            .find_map(|l| l.strip_prefix("PRETTY_NAME="))
            .map_or("Linux".to_owned(), |v| v.trim_matches('"').to_owned());
        let uuid = read("/sys/class/dmi/id/product_uuid");
        let machine = read("/etc/machine-id");
        let disk = nix::sys::statvfs::statvfs(data_dir).map_or(0, |s| s.blocks() * s.fragment_size());
        let mut huge = Vec::new();
        for e in std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
            let name = e.file_name().to_string_lossy().into_owned();
            let kb = name
                .strip_prefix("hugepages-")
                .and_then(|n| n.strip_suffix("kB"))
                .and_then(|n| n.parse().ok());
            if let Some(kb) = kb.filter(|k: &u64| *k > 0) {
                let n: u64 =
                    read(&format!("/sys/kernel/mm/hugepages/{name}/nr_hugepages")).parse().unwrap_or(0);
                let word = if kb.is_multiple_of(1 << 20) {
                    format!("{}Gi", kb >> 20)
                } else if kb.is_multiple_of(1 << 10) {
                    format!("{}Mi", kb >> 10)
                } else {
                    format!("{kb}Ki")
                };
                huge.push((format!("hugepages-{word}"), n * kb * 1024));
            }
        }
        huge.sort();
        Self {
            info: json!({
                "machineID": machine, "systemUUID": if uuid.is_empty() { machine.clone() } else { uuid },
                "bootID": read("/proc/sys/kernel/random/boot_id"),
                "kernelVersion": read("/proc/sys/kernel/osrelease"),
                "osImage": image, "containerRuntimeVersion": runtime,
                "kubeletVersion": "v1.36.0", "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": ARCH,
            }),
            disk,
            huge,
        }
    }

    fn resources(&self, node: &Node, allocatable: bool) -> Value {
        let mut out = serde_json::Map::new();
        out.insert("cpu".into(), json!((node.cpu_milli / 1000).to_string()));
        let eviction = if allocatable { 100 << 20 } else { 0 };
        out.insert("memory".into(), json!(format!("{}Ki", (node.memory - eviction).max(0) / 1024)));
        let disk =
            if allocatable { (self.disk / 10 * 9).to_string() } else { format!("{}Ki", self.disk / 1024) };
        out.insert("ephemeral-storage".into(), json!(disk));
        out.insert("pods".into(), json!(MAX_PODS.to_string()));
        for (name, bytes) in &self.huge {
            let v = if *bytes == 0 { "0".to_owned() } else { format!("{}Ki", bytes / 1024) };
            out.insert(name.clone(), json!(v));
        }
        Value::Object(out)
    }
}

/// What the node finds of itself at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the node is not ready; empty when it is.
    pub problems: Vec<String>,
    /// Too little memory is left.
    pub memory: bool,
    /// Too little disk is left.
    pub disk: bool,
    /// Too few process numbers are left.
    pub pids: bool,
}

/// The node's conditions, keeping the time of the last change of each.
pub fn conditions(h: &Health, before: &[Value], now: Timestamp) -> Vec<Value> {
    let now = Timestamp::from_second(now.as_second()).unwrap_or_default().to_string();
    let ready = h.problems.is_empty();
    let rows = [
        (
            "MemoryPressure",
            h.memory,
            if h.memory { "KubeletHasInsufficientMemory" } else { "KubeletHasSufficientMemory" },
            if h.memory {
                "kubelet has insufficient memory available"
            } else {
                "kubelet has sufficient memory available"
            }
            .to_owned(),
        ),
        (
            "DiskPressure",
            h.disk,
            if h.disk { "KubeletHasDiskPressure" } else { "KubeletHasNoDiskPressure" },
            if h.disk { "kubelet has disk pressure" } else { "kubelet has no disk pressure" }.to_owned(),
        ),
        (
            "PIDPressure",
            h.pids,
            if h.pids { "KubeletHasInsufficientPID" } else { "KubeletHasSufficientPID" },
            if h.pids {
                "kubelet has insufficient PID available"
            } else {
                "kubelet has sufficient PID available"
            }
            .to_owned(),
        ),
        (
            "Ready",
            ready,
            if ready { "KubeletReady" } else { "KubeletNotReady" },
            if ready { "kubelet is posting ready status".to_owned() } else { h.problems.join(", ") },
        ),
    ];
    rows.into_iter()
        .map(|(kind, on, reason, message)| {
            let status = if on { "True" } else { "False" };
            let old = before.iter().find(|c| c["type"] == kind && c["status"] == status);
            let since = old.and_then(|c| c["lastTransitionTime"].as_str()).unwrap_or(&now);
            json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": since,
            })
        })
        .collect()
}

/// The node's object in the API.
#[derive(Clone)]
pub struct NodeObject {
    api: Api,
    rt: Runtime,
    node: Arc<Node>,
    facts: Arc<Facts>,
    port: u16,
}

impl NodeObject {
    /// The object of `node`; `port` is its server's.
    pub fn new(api: Api, rt: Runtime, node: Arc<Node>, facts: Facts, port: u16) -> Self {
        Self { api, rt, node, facts: Arc::new(facts), port }
    }

    fn labels(&self) -> Value {
        json!({
            "kubernetes.io/hostname": self.node.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": ARCH,
            "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": ARCH,
        })
    }

    fn status(&self, health: &Health, before: &Value, images: &[Value]) -> Value {
        let mut addresses: Vec<Value> =
            self.node.ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
        addresses.push(json!({"type": "Hostname", "address": self.node.name}));
        let old = before["conditions"].as_array().cloned().unwrap_or_default();
        let capacity = self.facts.resources(&self.node, false);
        let mut allocatable = self.facts.resources(&self.node, true);
        add_foreign(&mut allocatable, &capacity, &before["capacity"]);
        json!({
            "addresses": addresses,
            "capacity": capacity,
            "allocatable": allocatable,
            "nodeInfo": self.facts.info,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
            "conditions": conditions(health, &old, Timestamp::now()),
            "images": images,
        })
    }

    /// Creates the object, or takes over the one that is there; answers it.
    pub async fn register(&self) -> Result<Value, Status> {
        let target = Collection::core("nodes").object(self.node.name.as_str());
        if let Some(o) = self.api.client().find(&target).await? {
            let labels = self.labels();
            let have = o.value();
            let missing = labels
                .as_object()
                .is_some_and(|l| l.iter().any(|(k, v)| have["metadata"]["labels"][k] != *v));
            if missing {
                let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
                return Ok(self.api.client().patch(&target, &patch, &WriteOptions::default()).await?.value());
            }
            return Ok(have);
        }
        let first = Health {
            problems: vec!["container runtime status check may not have completed yet".into()],
            ..Health::default()
        };
        let body = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": self.node.name, "labels": self.labels(),
                "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
            },
            "spec": {},
            "status": self.status(&first, &Value::Null, &[]),
        });
        let made =
            self.api.client().create(&Collection::core("nodes"), body, &WriteOptions::default()).await?;
        self.api.node_event(false, "Starting", "Starting kubelet.");
        Ok(made.value())
    }

    async fn health(&self) -> Health {
        let mut h = Health::default();
        match self.rt.status().await {
            Ok(s) => {
                for c in s.status.map(|s| s.conditions).unwrap_or_default() {
                    if !c.status {
                        let what = if c.r#type == "NetworkReady" {
                            format!(
                                "container runtime network not ready: NetworkReady=false reason:{} message:{}",
                                c.reason, c.message
                            )
                        } else {
                            format!(
                                "container runtime not ready: {}=false reason:{} message:{}",
                                c.r#type, c.reason, c.message
                            )
                        };
                        h.problems.push(what);
                    }
                }
            }
            Err(e) => h.problems.push(format!("container runtime is down: {e}")),
        }
        h.memory = meminfo(&read("/proc/meminfo"), "MemAvailable") < 100 << 20;
        if let Ok(s) = nix::sys::statvfs::statvfs(&self.node.data_dir) {
            h.disk = s.blocks_available().saturating_mul(10) < s.blocks();
        }
        let max: u64 = read("/proc/sys/kernel/pid_max").parse().unwrap_or(4_194_304);
        let tasks: u64 = read("/proc/loadavg")
            .split_whitespace()
            .nth(3)
            .and_then(|t| t.split('/').nth(1)?.parse().ok())
            .unwrap_or(0);
        h.pids = tasks.saturating_mul(10) > max.saturating_mul(9);
        h
    }

    async fn images(&self) -> Vec<Value> {
        let mut list = self.rt.images().await.unwrap_or_default();
        list.sort_by_key(|i| std::cmp::Reverse(i.size));
        list.into_iter()
            .take(50)
            .map(|i| {
                let names: Vec<String> = i.repo_digests.into_iter().chain(i.repo_tags).take(5).collect();
                json!({"names": names, "sizeBytes": i.size})
            })
            .filter(|i| i["names"].as_array().is_some_and(|n| !n.is_empty()))
            .collect()
    }

    /// Keeps the status true: looked at every ten seconds, written when it changed or five minutes have passed.
    pub async fn keep_status(self) {
        let target = Collection::core("nodes").object(self.node.name.as_str());
        let mut written: Option<(Value, Instant)> = None;
        let mut was_ready: Option<bool> = None;
        loop {
            let mut pause = STATUS_PERIOD;
            let before = match self.api.client().find(&target).await {
                Ok(Some(o)) => o.value(),
                Ok(None) => {
                    written = None;
                    match self.register().await {
                        Ok(v) => v,
                        Err(_) => Value::Null,
                    }
                }
                Err(e) => {
                    tracing::debug!(error = %e.message, "node not read");
                    Value::Null
                }
            };
            if !before.is_null() {
                let health = self.health().await;
                let status = self.status(&health, &before["status"], &self.images().await);
                let telling = without_heartbeat(&status);
                let due = written.as_ref().is_none_or(|(w, at)| *w != telling || at.elapsed() > STATUS_MAX)
                    || without_heartbeat(&json!({"conditions": before["status"]["conditions"]}))["conditions"]
                        != telling["conditions"];
                if due {
                    let mut list = status.clone();
                    if let Some(a) = list["addresses"].as_array_mut() {
                        a.insert(0, json!({"$patch": "replace"}));
                    }
                    let patch = Patch::Strategic(json!({"status": list}));
                    match self
                        .api
                        .client()
                        .patch(&target.sub("status"), &patch, &WriteOptions::default())
                        .await
                    {
                        Ok(_) => written = Some((telling, Instant::now())),
                        Err(e) => {
                            tracing::warn!(error = %e.message, "node status not written");
                            pause = Duration::from_secs(1);
                        }
                    }
                }
                let ready = health.problems.is_empty();
                if was_ready.is_some_and(|w| w != ready) || was_ready.is_none() && ready {
                    let word = if ready { "NodeReady" } else { "NodeNotReady" };
                    self.api.node_event(
                        false,
                        word,
                        &format!("Node {} status is now: {word}", self.node.name),
                    );
                }
                if !ready {
                    pause = Duration::from_millis(500);
                }
                was_ready = Some(ready);
            } else {
                pause = Duration::from_secs(1);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Renews the lease for ever.
    pub async fn keep_lease(self) {
        let leases = Collection::of("coordination.k8s.io", "v1", "leases").within("kube-node-lease");
        let target = leases.object(self.node.name.as_str());
        let mut owner: Option<String> = None;
        loop {
            if owner.is_none() {
                let node = Collection::core("nodes").object(self.node.name.as_str());
                owner = self.api.client().find(&node).await.ok().flatten().map(|o| o.meta().uid.to_string());
            }
            let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
            let patch = Patch::Merge(json!({"spec": {"renewTime": now}}));
            let mut pause = Duration::from_secs(10);
            match self.api.client().patch(&target, &patch, &WriteOptions::default()).await {
                Ok(_) => {}
                Err(e) if e.is_not_found() => {
                    let mut body = json!({
                        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                        "metadata": {"name": self.node.name, "namespace": "kube-node-lease"},
                        "spec": {
                            "holderIdentity": self.node.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now,
                        },
                    });
                    if let Some(uid) = &owner {
                        body["metadata"]["ownerReferences"] =
                            json!([{"apiVersion": "v1", "kind": "Node", "name": self.node.name, "uid": uid}]);
                    }
                    if let Err(e) = self.api.client().create(&leases, body, &WriteOptions::default()).await {
                        tracing::debug!(error = %e.message, "lease not made");
                        pause = Duration::from_secs(1);
                    }
                }
                Err(e) => {
                    tracing::debug!(error = %e.message, "lease not renewed");
                    pause = Duration::from_secs(2);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// What others count on the node (extended resources) can be asked for as they count it.
fn add_foreign(allocatable: &mut Value, own: &Value, told: &Value) {
    for (name, amount) in told.as_object().into_iter().flatten() {
        if own.get(name).is_none() {
            allocatable[name] = amount.clone();
        }
    }
}

/// A status without the times that change at every look.
fn without_heartbeat(status: &Value) -> Value {
    let mut out = status.clone();
    for c in out["conditions"].as_array_mut().into_iter().flatten() {
        if let Some(m) = c.as_object_mut() {
            m.remove("lastHeartbeatTime");
            m.remove("lastTransitionTime");
        }
    }
    if let Some(list) = out["conditions"].as_array_mut() {
        list.retain(|c| {
            matches!(c["type"].as_str(), Some("Ready" | "MemoryPressure" | "DiskPressure" | "PIDPressure"))
        });
        list.sort_by_key(|c| c["type"].as_str().unwrap_or_default().to_owned());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_the_time_of_their_last_change() {
        let t = |s: i64| Timestamp::from_second(s).unwrap();
        let bad = Health { problems: vec!["x".into(), "y".into()], ..Health::default() };
        let first = conditions(&bad, &[], t(100));
        let ready = |l: &[Value]| l.iter().find(|c| c["type"] == "Ready").cloned().unwrap();
        assert_eq!(ready(&first)["reason"], "KubeletNotReady");
        assert_eq!(ready(&first)["message"], "x, y");
        let second = conditions(&Health::default(), &first, t(200));
        assert_eq!(ready(&second)["lastTransitionTime"], "1970-01-01T00:03:20Z");
        let third = conditions(&Health::default(), &second, t(300));
        assert_eq!(ready(&third)["lastTransitionTime"], "1970-01-01T00:03:20Z");
        assert_eq!(ready(&third)["lastHeartbeatTime"], "1970-01-01T00:05:00Z");
        assert_eq!(third[0]["lastTransitionTime"], "1970-01-01T00:01:40Z");
    }

    #[test]
    fn what_others_count_can_be_asked_for() {
        let (own, mut allocatable) = (json!({"cpu": "2"}), json!({"cpu": "1"}));
        add_foreign(&mut allocatable, &own, &json!({"cpu": "3", "example.com/foo": "5"}));
        assert_eq!(allocatable, json!({"cpu": "1", "example.com/foo": "5"}));
        add_foreign(&mut allocatable, &own, &Value::Null);
        assert_eq!(allocatable["cpu"], "1");
    }

    #[test]
    fn memory_lines_are_kilobytes() {
        assert_eq!(meminfo("MemTotal:       10 kB\nMemFree: 3 kB\n", "MemTotal"), 10240);
        assert_eq!(meminfo("MemTotalX: 10 kB\n", "MemTotal"), 0);
    }
}
