//! Pods get a place on a node or are told why not, and another size while they run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use skep_tests::{TestCluster, objects};
use xtask::api::condition;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn get(cluster: &TestCluster, name: &str) -> Value {
    cluster.api.get(&format!("{PODS}/{name}")).and_then(|answer| answer.json()).unwrap_or_default()
}

fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn amounts(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

/// A server that is bound to the node already and asks for resources.
fn server(name: &str, resources: &Value) -> Value {
    let mut pod = objects::pod(name, &["serve", "--port", "8080"], "Always");
    pod["spec"]["nodeName"] = json!("node-1");
    pod["spec"]["containers"][0]["resources"] = resources.clone();
    pod
}

fn ask(cluster: &TestCluster, resources: &Value) -> Result<()> {
    let patch = json!({"spec": {"containers": [{"name": "demo", "resources": resources}]}}).to_string();
    cluster.kubectl(&["patch", "pod", "grows", "--subresource", "resize", "--patch", &patch]).map(drop)
}

#[test]
fn a_pod_that_does_not_fit_says_so_and_one_that_runs_stays() -> Result<()> {
    let cluster = TestCluster::start()?;
    let with_port = |name: &str| {
        let mut pod = server(name, &json!({}));
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080, "hostPort": 21_999}]);
        pod
    };
    cluster.create(PODS, &with_port("first"))?;
    let first = cluster.wait_pod_ready("first")?;
    let mut far = server("far", &json!({}));
    far["spec"]["nodeSelector"] = json!({"there": "is-none"});
    for (pod, reason, words) in [
        (with_port("second"), "NodePorts", "free ports for the requested pod ports"),
        (far, "NodeAffinity", "didn't match Pod's node affinity/selector"),
        (
            server("big", &amounts("4k", "1Mi")),
            "OutOfcpu",
            "Node didn't have enough resource: cpu, requested: 4000000,",
        ),
    ] {
        let name = pod["metadata"]["name"].as_str().context("a name")?.to_owned();
        cluster.create(PODS, &pod)?;
        cluster
            .wait(&format!("{name} to be refused"), || get(&cluster, &name)["status"]["phase"] == "Failed")?;
        let refused = get(&cluster, &name);
        assert_eq!(refused["status"]["reason"], reason, "{refused:#}");
        let message = refused["status"]["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("Pod was rejected: ") && message.contains(words), "{message}");
        assert_eq!(refused["status"]["containerStatuses"], Value::Null);
        cluster.wait("the event", || {
            let events = cluster.api.list("/api/v1/namespaces/default/events").unwrap_or_default();
            events.iter().any(|e| e["reason"] == reason && e["involvedObject"]["name"] == *name)
        })?;
    }
    // The node's labels change what it would take, not what it has taken.
    let patch = json!({"spec": {"taints": [{"key": "full", "effect": "NoSchedule"}]}});
    cluster.api.merge("/api/v1/nodes/node-1", &patch)?.success()?;
    cluster.kill("skep-agent")?;
    cluster.start_agent()?;
    cluster.wait("the agent", || cluster.agent_healthy())?;
    // The place is free once the pod is gone.
    let still = cluster.wait_pod_ready("first")?;
    assert_eq!(container(&still)["containerID"], container(&first)["containerID"]);
    cluster.api.delete(&format!("{PODS}/first"))?.success()?;
    cluster.wait("the end of first", || get(&cluster, "first")["kind"] == "Status")?;
    cluster.create(PODS, &with_port("third"))?;
    cluster.wait_pod_ready("third")?;
    assert_eq!(cluster.stop(), Vec::<String>::new());
    Ok(())
}

/// The directory of a pod's cgroup in the hierarchy that has a controller.
fn cgroup(controller: &str, uid: &str) -> Option<PathBuf> {
    fn find(at: &Path, name: &str, depth: u32) -> Option<PathBuf> {
        let inner: Vec<PathBuf> =
            std::fs::read_dir(at).ok()?.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
        let own = inner.iter().find(|p| p.ends_with(name)).cloned();
        own.or_else(|| if depth == 0 { None } else { inner.iter().find_map(|p| find(p, name, depth - 1)) })
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let at = mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>()).find(|f| {
        f.get(2) == Some(&"cgroup") && f.get(3).is_some_and(|o| o.split(',').any(|o| o == controller))
    });
    let root = at.and_then(|f| f.get(1).copied()).unwrap_or("/sys/fs/cgroup");
    find(Path::new(root), &format!("pod{uid}"), 4)
}

fn cgroup_memory(uid: &str) -> String {
    let dir = cgroup("memory", uid).unwrap_or_default();
    let files = ["memory.limit_in_bytes", "memory.max"];
    files.iter().find_map(|f| std::fs::read_to_string(dir.join(f)).ok()).unwrap_or_default().trim().to_owned()
}

#[test]
fn a_running_pod_gets_another_size_without_a_restart() -> Result<()> {
    let cluster = TestCluster::start()?;
    cluster.create(PODS, &server("grows", &amounts("100m", "64Mi")))?;
    let before = cluster.wait_pod_ready("grows")?;
    let uid = before["metadata"]["uid"].as_str().context("a uid")?.to_owned();
    assert_eq!(cgroup_memory(&uid), (64 << 20).to_string());

    let settled = |resources: &Value| {
        let pod = get(&cluster, "grows");
        pod["status"]["observedGeneration"] == pod["metadata"]["generation"]
            && condition(&pod, "PodResizePending").is_none()
            && condition(&pod, "PodResizeInProgress").is_none()
            && container(&pod)["resources"] == *resources
    };
    let bigger = amounts("200m", "96Mi");
    ask(&cluster, &bigger)?;
    cluster.wait("the bigger size", || settled(&bigger))?;
    assert_eq!(cgroup_memory(&uid), (96 << 20).to_string());

    // A size for which there is no room waits, over a death of the agent, and the pod keeps what it has.
    let node = cluster.api.get("/api/v1/nodes/node-1")?.success()?;
    let cores: u32 = node["status"]["allocatable"]["cpu"].as_str().context("cores")?.parse()?;
    cluster.create(PODS, &server("fills", &amounts(&format!("{}m", cores * 1000 - 600), "1Mi")))?;
    cluster
        .wait("the other pod to be taken", || get(&cluster, "fills")["status"]["startTime"].is_string())?;
    let much = amounts("700m", "96Mi");
    ask(&cluster, &much)?;
    let deferred = || {
        let pod = get(&cluster, "grows");
        let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.iter().any(|c| c["type"] == "PodResizePending" && c["reason"] == "Deferred")
            && container(&pod)["resources"] == bigger
    };
    cluster.wait("the size to be deferred", deferred)?;
    cluster.kill("skep-agent")?;
    cluster.start_agent()?;
    cluster.wait("the agent", || cluster.agent_healthy())?;
    assert!(deferred());
    cluster.api.delete(&format!("{PODS}/fills"))?.success()?;
    cluster.wait("the size that there is room for now", || settled(&much))?;

    // What is asked for while the agent is dead is given when it is back.
    cluster.kill("skep-agent")?;
    let smaller = amounts("150m", "80Mi");
    ask(&cluster, &smaller)?;
    cluster.start_agent()?;
    cluster.wait("the smaller size", || settled(&smaller))?;
    assert_eq!(cgroup_memory(&uid), (80 << 20).to_string());
    let after = get(&cluster, "grows");
    assert_eq!(container(&after)["containerID"], container(&before)["containerID"]);
    assert_eq!(container(&after)["restartCount"], 0);
    let events = cluster.api.list("/api/v1/namespaces/default/events")?;
    for reason in ["ResizeStarted", "ResizeCompleted"] {
        assert!(events.iter().any(|e| e["reason"] == reason), "no {reason}");
    }
    assert_eq!(cluster.stop(), Vec::<String>::new());
    Ok(())
}
