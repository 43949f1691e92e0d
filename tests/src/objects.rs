//! Objects that several tests make.

use serde_json::{Value, json};
use xtask::cluster::containerd::DEMO_IMAGE;

fn container(arguments: &[&str]) -> Value {
    json!({
        "name": "demo", "image": DEMO_IMAGE, "imagePullPolicy": "IfNotPresent", "args": arguments,
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    })
}

/// A pod that runs the demo program with these arguments.
#[must_use]
pub fn pod(name: &str, arguments: &[&str], restart: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"restartPolicy": restart, "terminationGracePeriodSeconds": 2, "containers": [container(arguments)]},
    })
}

/// A Deployment of demo servers whose readiness a test can switch, probed every second.
#[must_use]
pub fn deployment(name: &str, replicas: usize) -> Value {
    let mut server = container(&["serve", "--port", "8080"]);
    server["ports"] = json!([{"containerPort": 8080}]);
    server["readinessProbe"] =
        json!({"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 2, "containers": [server]},
            },
        },
    })
}

/// A Service in front of [`deployment`]: port 80, TCP and UDP.
#[must_use]
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "selector": {"app": name},
            "ports": [
                {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
                {"name": "echo", "port": 80, "targetPort": 8080, "protocol": "UDP"},
            ],
        },
    })
}
