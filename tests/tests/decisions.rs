//! What scheduler and controllers decide, seen through the API of a real server. Its node has no agent: nothing runs, and pods
//! that are deleted stay until the test says that they have ended.

use anyhow::Result;
use serde_json::{Value, json};
use skep_tests::TestCluster;
use xtask::api::condition;

const PODS: &str = "/api/v1/namespaces/default/pods";
const RESOURCE: &str = "example.com/fakecpu";

/// A node that is ready, with so much of a resource.
fn add_node(cluster: &TestCluster, amount: u32) -> Result<()> {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "node-a", "labels": {"kubernetes.io/hostname": "node-a"}},
    });
    cluster.create("/api/v1/nodes", &node)?;
    let status = json!({"status": {
        "capacity": {"pods": "110", RESOURCE: amount.to_string()},
        "allocatable": {"pods": "110", RESOURCE: amount.to_string()},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
    }});
    cluster.api.merge("/api/v1/nodes/node-a/status", &status)?.success()?;
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    cluster
        .wait("the account of pods", || cluster.api.get(account).is_ok_and(|answer| answer.status == 200))?;
    cluster.wait("the node without taints", || {
        let node =
            cluster.api.get("/api/v1/nodes/node-a").and_then(|answer| answer.json()).unwrap_or_default();
        node["spec"]["taints"].as_array().is_none_or(Vec::is_empty)
    })
}

fn pod(name: &str, class: &str, amount: u32) -> Value {
    let amounts = json!({RESOURCE: amount.to_string()});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "priorityClassName": class,
            "containers": [{"name": "c", "image": "none", "resources": {"requests": amounts, "limits": amounts}}],
        },
    })
}

fn read(cluster: &TestCluster, path: &str) -> Value {
    cluster.api.get(path).and_then(|answer| answer.json()).unwrap_or_default()
}

fn wait_bound(cluster: &TestCluster, name: &str) -> Result<()> {
    let path = format!("{PODS}/{name}");
    cluster.wait(&format!("pod {name} to be bound"), || read(cluster, &path)["spec"]["nodeName"] == "node-a")
}

#[test]
fn a_pod_of_higher_priority_gets_room_and_keeps_it() -> Result<()> {
    let cluster = TestCluster::start_control_plane()?;
    add_node(&cluster, 1000)?;
    for (name, value) in [("low", 1), ("middle", 2), ("high", 3)] {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
        });
        cluster.create("/apis/scheduling.k8s.io/v1/priorityclasses", &class)?;
    }
    for (name, class, amount) in [("victim", "low", 300), ("stays", "middle", 400), ("small", "low", 200)] {
        cluster.create(PODS, &pod(name, class, amount))?;
        wait_bound(&cluster, name)?;
    }
    // 100 are left; 400 need the victim, and the larger victim is enough by itself.
    cluster.create(PODS, &pod("preemptor", "high", 400))?;
    let victim = format!("{PODS}/victim");
    cluster.wait("the victim to be deleted", || {
        read(&cluster, &victim)["metadata"]["deletionTimestamp"].is_string()
    })?;
    let gone = read(&cluster, &victim);
    assert_eq!(condition(&gone, "DisruptionTarget"), Some("True"), "{gone}");
    let conditions = gone["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget").cloned().unwrap_or_default();
    assert_eq!(target["reason"], "PreemptionByScheduler");
    assert_eq!(target["message"], "default-scheduler: preempting to accommodate a higher priority pod");
    let preemptor = format!("{PODS}/preemptor");
    cluster
        .wait("the nomination", || read(&cluster, &preemptor)["status"]["nominatedNodeName"] == "node-a")?;
    for name in ["stays", "small"] {
        assert!(
            read(&cluster, &format!("{PODS}/{name}"))["metadata"]["deletionTimestamp"].is_null(),
            "{name} went"
        );
    }
    // Who comes meanwhile does not get what the victim leaves.
    cluster.create(PODS, &pod("late", "middle", 300))?;
    cluster.wait("the late pod to fail", || {
        let late = read(&cluster, &format!("{PODS}/late"));
        condition(&late, "PodScheduled") == Some("False")
    })?;
    let end = format!("{victim}?gracePeriodSeconds=0");
    cluster.api.delete(&end)?.success()?;
    wait_bound(&cluster, "preemptor")?;
    assert!(read(&cluster, &format!("{PODS}/late"))["spec"]["nodeName"].is_null());
    let told = |reason: &'static str, about: &'static str| {
        let events = cluster.api.list("/api/v1/namespaces/default/events").unwrap_or_default();
        events.iter().any(|e| e["reason"] == reason && e["involvedObject"]["name"] == about)
    };
    cluster.wait("the events", || told("Preempted", "victim") && told("FailedScheduling", "preemptor"))
}

#[test]
fn endpoints_without_a_selector_are_mirrored() -> Result<()> {
    let cluster = TestCluster::start_control_plane()?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "own"},
        "spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]},
    });
    cluster.create("/api/v1/namespaces/default/services", &service)?;
    let subset = |name: &str, port: u16, ip: &str| {
        json!({
            "addresses": [{"ip": ip}], "ports": [{"name": name, "port": port}],
        })
    };
    let mut endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "own"},
        "subsets": [subset("a", 8080, "10.1.2.3"), subset("b", 9090, "10.1.2.3")],
    });
    let path = "/api/v1/namespaces/default/endpoints";
    cluster.create(path, &endpoints)?;
    let slices = || {
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        cluster
            .api
            .list(&format!("{path}?labelSelector=kubernetes.io%2Fservice-name%3Down"))
            .unwrap_or_default()
    };
    cluster.wait("a slice", || slices().len() == 1)?;
    let slice = slices().remove(0);
    assert_eq!(
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
        "endpointslicemirroring-controller.k8s.io"
    );
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.1.2.3"]));
    assert_eq!(slice["ports"].as_array().map(Vec::len), Some(2), "{slice}");
    endpoints["subsets"] = json!([subset("a", 8080, "10.2.3.4")]);
    cluster.api.merge(&format!("{path}/own"), &json!({"subsets": endpoints["subsets"]}))?.success()?;
    cluster.wait("the change", || {
        let slices = slices();
        slices.len() == 1 && slices[0]["endpoints"][0]["addresses"] == json!(["10.2.3.4"])
    })?;
    cluster.api.delete(&format!("{path}/own"))?.success()?;
    cluster.wait("the slice to go", || slices().is_empty())
}

#[test]
fn an_autoscaler_without_metrics_says_so_and_keeps_its_bounds() -> Result<()> {
    let cluster = TestCluster::start_control_plane()?;
    let template = json!({
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "none"}]},
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 5, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    cluster.create("/apis/apps/v1/namespaces/default/deployments", &deployment)?;
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {
            "minReplicas": 1, "maxReplicas": 2,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        },
    });
    let all = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    cluster.create(all, &autoscaler)?;
    let deployment = "/apis/apps/v1/namespaces/default/deployments/web";
    cluster.wait("the target within its bounds", || read(&cluster, deployment)["spec"]["replicas"] == 2)?;
    let path = format!("{all}/web");
    cluster.wait("the missing metrics to be told", || {
        condition(&read(&cluster, &path), "ScalingActive") == Some("False")
    })?;
    let status = read(&cluster, &path)["status"].clone();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let active = conditions.iter().find(|c| c["type"] == "ScalingActive").cloned().unwrap_or_default();
    assert_eq!(active["reason"], "FailedGetResourceMetric");
    assert_eq!(
        active["message"],
        "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for \
         resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested \
         resource (get pods.metrics.k8s.io)"
    );
    Ok(())
}

#[test]
fn parts_of_the_control_plane_and_flow_schemas_say_how_they_are() -> Result<()> {
    let cluster = TestCluster::start_control_plane()?;
    let list = cluster.api.get("/api/v1/componentstatuses")?.success()?;
    assert!(list["metadata"]["resourceVersion"].is_null(), "{list}");
    let names: Vec<&str> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names, ["controller-manager", "etcd-0", "scheduler"]);
    let one = cluster.api.get("/api/v1/componentstatuses/scheduler")?.success()?;
    assert_eq!(one["conditions"], json!([{"type": "Healthy", "status": "True", "message": "ok"}]));
    assert_eq!(cluster.api.get("/api/v1/componentstatuses/none")?.status, 404);
    let told = cluster.kubectl_with(&["get", "componentstatuses"], "")?;
    assert!(told.stderr.contains("Warning: v1 ComponentStatus is deprecated in v1.19+"), "{}", told.stderr);
    assert!(told.stdout.contains("scheduler"), "{}", told.stdout);
    let schemas = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    let dangling = |name: &str| {
        let schema = read(&cluster, &format!("{schemas}/{name}"));
        condition(&schema, "Dangling").map(str::to_owned)
    };
    cluster.wait("a schema with its level", || dangling("catch-all").as_deref() == Some("False"))?;
    let schema = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "lost"},
        "spec": {"matchingPrecedence": 9000, "priorityLevelConfiguration": {"name": "nowhere"}},
    });
    cluster.create(schemas, &schema)?;
    cluster.wait("a schema without its level", || dangling("lost").as_deref() == Some("True"))
}
