//! Figures of the node and its pods at one moment, gathered once for all that show them.

use crate::core::observed::State;
use crate::core::sandbox::id;
use crate::manager::Pods;
use crate::usage::{self, Usage};
use k8s_cri::v1 as cri;
use serde_json::{Value, json};
use std::collections::HashMap;

/// A container.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Name in the pod.
    pub name: String,
    /// The runtime's identifier.
    pub id: String,
    /// Image.
    pub image: String,
    /// Nanoseconds since the epoch; 0 when not begun.
    pub began: i64,
    /// Nanoseconds of all cores together.
    pub cpu_nanos: u64,
    /// Billionths of a core in use now, where the runtime tells.
    pub nano_cores: u64,
    /// Bytes in use, caches included.
    pub memory: u64,
    /// Bytes that could not be given back at once.
    pub working_set: u64,
    /// Anonymous memory in bytes.
    pub rss: u64,
    /// Bytes written into the container's own layer.
    pub written: u64,
    /// Inodes of that layer.
    pub inodes: u64,
}

/// A pod with the containers that the runtime has figures of.
#[derive(Debug, Clone, Default)]
pub struct Whole {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// When the node took it, as the API writes it.
    pub began: Option<String>,
    /// Containers.
    pub containers: Vec<Part>,
}

/// The node.
#[derive(Debug, Clone, Default)]
pub struct NodeFigures {
    /// Name.
    pub name: String,
    /// When the machine began, in seconds since the epoch.
    pub began: i64,
    /// What it uses.
    pub usage: Usage,
    /// Bytes of memory it has.
    pub capacity: u64,
    /// Cores it has.
    pub cores: f64,
    /// File system of the node's data: bytes in all, free for pods, and inodes in all and free.
    pub disk: [u64; 4],
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// The node.
    pub node: NodeFigures,
    /// Its pods, by namespace and name.
    pub pods: Vec<Whole>,
    /// Pods that have a running sandbox.
    pub sandboxes: usize,
    /// Containers by state.
    pub containers: Vec<(&'static str, usize)>,
    /// The runtime did not answer: figures of containers are missing.
    pub incomplete: bool,
}

fn value(v: Option<&cri::UInt64Value>) -> u64 {
    v.map_or(0, |v| v.value)
}

fn part(s: &cri::ContainerStats) -> Option<Part> {
    let attributes = s.attributes.as_ref()?;
    let (cpu, memory, layer) = (s.cpu.as_ref(), s.memory.as_ref(), s.writable_layer.as_ref());
    Some(Part {
        name: attributes.labels.get("io.kubernetes.container.name")?.clone(),
        id: attributes.id.clone(),
        cpu_nanos: value(cpu.and_then(|c| c.usage_core_nano_seconds.as_ref())),
        nano_cores: value(cpu.and_then(|c| c.usage_nano_cores.as_ref())),
        memory: value(memory.and_then(|m| m.usage_bytes.as_ref())),
        working_set: value(memory.and_then(|m| m.working_set_bytes.as_ref())),
        rss: value(memory.and_then(|m| m.rss_bytes.as_ref())),
        written: value(layer.and_then(|l| l.used_bytes.as_ref())),
        inodes: value(layer.and_then(|l| l.inodes_used.as_ref())),
        ..Part::default()
    })
}

/// Looks at node, runtime and pods.
pub async fn gather(pods: &Pods) -> Figures {
    let cx = pods.context();
    let stats = cx.rt.stats().await;
    let incomplete = stats.is_err();
    let mut parts: HashMap<String, Part> =
        stats.unwrap_or_default().iter().filter_map(part).map(|p| (p.id.clone(), p)).collect();
    let all = pods.list();
    let mut out = Figures { incomplete, ..Figures::default() };
    let states = [
        ("created", State::Created),
        ("exited", State::Exited),
        ("running", State::Running),
        ("unknown", State::Unknown),
    ];
    let seen = || all.iter().flat_map(|s| &s.seen.containers);
    out.containers =
        states.into_iter().map(|(word, state)| (word, seen().filter(|c| c.state == state).count())).collect();
    out.sandboxes = all.iter().filter(|s| s.seen.any_sandbox_ready()).count();
    for shown in &all {
        let (namespace, name, uid) = id(&shown.pod);
        let running = shown.seen.containers.iter().filter(|c| c.state == State::Running);
        let containers: Vec<Part> = running
            .filter_map(|c| {
                let part = parts.remove(&c.id)?;
                Some(Part { began: c.started_at, image: c.image.clone(), ..part })
            })
            .collect();
        let began = shown.pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0.to_string());
        let own = |text: &str| text.to_owned();
        out.pods.push(Whole { namespace: own(namespace), name: own(name), uid: own(uid), began, containers });
    }
    out.pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let disk = nix::sys::statvfs::statvfs(&cx.node.data_dir).map_or([0; 4], |s| {
        let unit = s.fragment_size();
        [s.blocks() * unit, s.blocks_available() * unit, s.files(), s.files_available()]
    });
    out.node = NodeFigures {
        name: cx.node.name.clone(),
        began: usage::booted(),
        usage: usage::read(&cx.cgroups, &cx.node.cgroup),
        capacity: u64::try_from(cx.node.memory).unwrap_or(0),
        cores: cx.node.cpu_milli as f64 / 1000.0,
        disk,
    };
    out
}

/// `/stats/summary`, at the time `now` (RFC 3339).
pub fn summary(f: &Figures, now: &str) -> Value {
    let pods: Vec<Value> = f
        .pods
        .iter()
        .map(|pod| {
            let sum = |of: fn(&Part) -> u64| pod.containers.iter().map(of).sum::<u64>();
            let mut out = json!({
                "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
                "cpu": {"time": now, "usageNanoCores": sum(|c| c.nano_cores),
                        "usageCoreNanoSeconds": sum(|c| c.cpu_nanos)},
                "memory": {"time": now, "usageBytes": sum(|c| c.memory),
                           "workingSetBytes": sum(|c| c.working_set), "rssBytes": sum(|c| c.rss)},
                "ephemeral-storage": {"time": now, "usedBytes": sum(|c| c.written),
                                      "inodesUsed": sum(|c| c.inodes)},
                "containers": pod.containers.iter().map(|c| container(c, now)).collect::<Vec<_>>(),
            });
            out["startTime"] = json!(pod.began);
            out
        })
        .collect();
    let (node, [size, free, inodes, inodes_free]) = (&f.node, f.node.disk);
    json!({
        "node": {
            "nodeName": node.name,
            "startTime": time(node.began),
            "cpu": {"time": now, "usageCoreNanoSeconds": node.usage.cpu_nanos},
            "memory": {"time": now, "usageBytes": node.usage.memory,
                       "workingSetBytes": node.usage.working_set,
                       "availableBytes": node.capacity.saturating_sub(node.usage.working_set)},
            "fs": {"time": now, "capacityBytes": size, "availableBytes": free,
                   "usedBytes": size.saturating_sub(free), "inodes": inodes, "inodesFree": inodes_free,
                   "inodesUsed": inodes.saturating_sub(inodes_free)},
        },
        "pods": pods,
    })
}

/// A moment in seconds since the epoch as the API writes it; none for 0.
fn time(seconds: i64) -> Option<String> {
    jiff::Timestamp::from_second(seconds).ok().filter(|_| seconds > 0).map(|t| t.to_string())
}

fn container(c: &Part, now: &str) -> Value {
    json!({
        "name": c.name,
        "startTime": time(c.began / 1_000_000_000),
        "cpu": {"time": now, "usageNanoCores": c.nano_cores, "usageCoreNanoSeconds": c.cpu_nanos},
        "memory": {"time": now, "usageBytes": c.memory, "workingSetBytes": c.working_set, "rssBytes": c.rss},
        "rootfs": {"time": now, "usedBytes": c.written, "inodesUsed": c.inodes},
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A node with a pod of two containers.
    pub(in super::super) fn sample() -> Figures {
        let part = |name: &str, cpu_nanos, working_set, began| Part {
            name: name.into(),
            cpu_nanos,
            working_set,
            began,
            ..Part::default()
        };
        Figures {
            node: NodeFigures {
                name: "n".into(),
                began: 60,
                usage: Usage { cpu_nanos: 9_000_000_000, memory: 5000, working_set: 4000 },
                capacity: 10_000,
                cores: 2.0,
                disk: [100, 40, 10, 3],
            },
            pods: vec![Whole {
                namespace: "d".into(),
                name: "p".into(),
                uid: "u".into(),
                began: Some("2026-01-01T00:00:00Z".into()),
                containers: vec![
                    part("a", 1_500_000_000, 100, 100_000_000_000),
                    part("b", 500_000_000, 200, 0),
                ],
            }],
            sandboxes: 1,
            containers: vec![("running", 1)],
            incomplete: false,
        }
    }

    #[test]
    fn a_summary_adds_up() {
        let it = summary(&sample(), "2026-01-02T00:00:00Z");
        assert_eq!(it["node"]["memory"]["availableBytes"], 6000);
        assert_eq!(it["node"]["fs"]["usedBytes"], 60);
        assert_eq!(it["node"]["startTime"], "1970-01-01T00:01:00Z");
        let pod = &it["pods"][0];
        assert_eq!(pod["startTime"], "2026-01-01T00:00:00Z");
        assert_eq!(
            (&pod["cpu"]["usageCoreNanoSeconds"], &pod["memory"]["workingSetBytes"]),
            (&json!(2_000_000_000_u64), &json!(300))
        );
        assert_eq!(pod["containers"][0]["startTime"], "1970-01-01T00:01:40Z");
        assert_eq!(pod["containers"][1]["startTime"], Value::Null);
    }
}
