//! Figures: the Prometheus text and the summary, under the kubelet's names.

use crate::manager::Pods;
use k8s_cri::v1 as cri;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write;

fn value(v: Option<&cri::UInt64Value>) -> u64 {
    v.map_or(0, |v| v.value)
}

fn labels(s: &cri::ContainerStats) -> Option<(String, String, String, String)> {
    let l = &s.attributes.as_ref()?.labels;
    let get = |k: &str| l.get(k).cloned();
    Some((
        get("io.kubernetes.pod.namespace")?,
        get("io.kubernetes.pod.name")?,
        get("io.kubernetes.pod.uid")?,
        get("io.kubernetes.container.name")?,
    ))
}

/// The node's own figures in the text format of Prometheus.
pub async fn text(pods: &Pods) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# HELP kubelet_running_pods Number of pods that have a running pod sandbox");
    let _ = writeln!(out, "# TYPE kubelet_running_pods gauge");
    let all = pods.list();
    let _ =
        writeln!(out, "kubelet_running_pods {}", all.iter().filter(|s| s.seen.any_sandbox_ready()).count());
    let _ = writeln!(out, "# HELP kubelet_running_containers Number of containers currently running");
    let _ = writeln!(out, "# TYPE kubelet_running_containers gauge");
    let running: usize = all
        .iter()
        .flat_map(|s| &s.seen.containers)
        .filter(|c| c.state == crate::core::observed::State::Running)
        .count();
    let _ = writeln!(out, "kubelet_running_containers{{container_state=\"running\"}} {running}");
    let stats = pods.context().rt.stats().await.unwrap_or_default();
    let _ = writeln!(out, "# TYPE container_cpu_usage_seconds_total counter");
    let _ = writeln!(out, "# TYPE container_memory_working_set_bytes gauge");
    for s in &stats {
        let Some((ns, pod, _, c)) = labels(s) else { continue };
        let l = format!("container={c:?},namespace={ns:?},pod={pod:?}");
        let cpu = s.cpu.as_ref().map_or(0, |c| value(c.usage_core_nano_seconds.as_ref()));
        let _ = writeln!(out, "container_cpu_usage_seconds_total{{{l}}} {}", cpu as f64 / 1e9);
        let mem = s.memory.as_ref().map_or(0, |m| value(m.working_set_bytes.as_ref()));
        let _ = writeln!(out, "container_memory_working_set_bytes{{{l}}} {mem}");
    }
    out
}

/// `/stats/summary`: node and pods.
pub async fn summary(pods: &Pods) -> Result<Value, String> {
    let stats = pods.context().rt.stats().await.map_err(|e| e.to_string())?;
    let now =
        jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string();
    let mut by_pod: HashMap<String, (Value, Vec<Value>)> = HashMap::new();
    let (mut cpu_sum, mut mem_sum) = (0u64, 0u64);
    for s in &stats {
        let Some((ns, pod, uid, c)) = labels(s) else { continue };
        let cpu = s.cpu.as_ref();
        let mem = s.memory.as_ref();
        let usage = value(cpu.and_then(|c| c.usage_core_nano_seconds.as_ref()));
        let set = value(mem.and_then(|m| m.working_set_bytes.as_ref()));
        cpu_sum += usage;
        mem_sum += set;
        let fs = s.writable_layer.as_ref();
        let entry = by_pod
            .entry(uid.clone())
            .or_insert_with(|| (json!({"name": pod, "namespace": ns, "uid": uid}), Vec::new()));
        entry.1.push(json!({
            "name": c, "startTime": null,
            "cpu": {
                "time": now, "usageCoreNanoSeconds": usage,
                "usageNanoCores": value(cpu.and_then(|c| c.usage_nano_cores.as_ref())),
            },
            "memory": {
                "time": now, "workingSetBytes": set,
                "usageBytes": value(mem.and_then(|m| m.usage_bytes.as_ref())),
                "rssBytes": value(mem.and_then(|m| m.rss_bytes.as_ref())),
            },
            "rootfs": {
                "time": now,
                "usedBytes": value(fs.and_then(|f| f.used_bytes.as_ref())),
                "inodesUsed": value(fs.and_then(|f| f.inodes_used.as_ref())),
            },
        }));
    }
    let list: Vec<Value> = by_pod
        .into_values()
        .map(|(reference, containers)| {
            let sum = |a: &str, b: &str| -> u64 { containers.iter().filter_map(|c| c[a][b].as_u64()).sum() };
            json!({
                "podRef": reference, "startTime": null,
                "cpu": {"time": now, "usageCoreNanoSeconds": sum("cpu", "usageCoreNanoSeconds"),
                        "usageNanoCores": sum("cpu", "usageNanoCores")},
                "memory": {"time": now, "workingSetBytes": sum("memory", "workingSetBytes"),
                           "usageBytes": sum("memory", "usageBytes"), "rssBytes": sum("memory", "rssBytes")},
                "containers": containers,
            })
        })
        .collect();
    Ok(json!({
        "node": {
            "nodeName": pods.context().node.name, "startTime": null,
            "cpu": {"time": now, "usageCoreNanoSeconds": cpu_sum},
            "memory": {"time": now, "workingSetBytes": mem_sum},
        },
        "pods": list,
    }))
}
