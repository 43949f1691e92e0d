//! Unmodified kubectls, the oldest and the newest, against a cluster: what a new user does first, without an error or a
//! warning.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;
use skep_tests::{TestCluster, objects};
use xtask::cluster::containerd::DEMO_IMAGE;

#[test]
fn a_new_user_finds_everything_in_place() -> Result<()> {
    let mut cluster = TestCluster::start()?;
    for kubectl in xtask::kubectl::oldest_and_newest(&cluster.layout)? {
        println!("with {}", kubectl.display());
        cluster.use_kubectl(kubectl);
        look_at_nodes(&cluster)?;
        deploy_and_watch(&cluster)?;
        describe_logs_and_exec(&cluster)?;
        scale_and_roll(&cluster)?;
        explain(&cluster)?;
        delete(&cluster)?;
    }
    Ok(())
}

fn look_at_nodes(cluster: &TestCluster) -> Result<()> {
    let nodes = cluster.kubectl(&["get", "nodes"])?;
    let mut lines = nodes.lines();
    let head: Vec<&str> = lines.next().context("a head")?.split_whitespace().collect();
    assert_eq!(head, ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]);
    let row: Vec<&str> = lines.next().context("a node")?.split_whitespace().collect();
    assert_eq!(row[..2], ["node-1", "Ready"]);
    assert!(cluster.kubectl(&["describe", "node", "node-1"])?.contains("Allocatable:"));
    assert!(cluster.kubectl(&["api-resources"])?.contains("deployments"));
    assert!(cluster.kubectl(&["get", "namespaces", "-o", "name"])?.contains("namespace/kube-system"));
    assert!(cluster.kubectl(&["get", "service", "kubernetes"])?.contains("443/TCP"));
    Ok(())
}

fn deploy_and_watch(cluster: &TestCluster) -> Result<()> {
    let mut watch = cluster.kubectl_background(&["get", "pods", "-o", "wide", "-w"], "watch")?;
    let applied = cluster.apply(&objects::deployment("web", 3))?;
    assert_eq!(applied, "deployment.apps/web created\n");
    assert_eq!(cluster.apply(&objects::service("web"))?, "service/web created\n");
    assert_eq!(cluster.apply(&objects::service("web"))?, "service/web unchanged\n");
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    cluster.wait_endpoints("web", 3)?;
    let seen = cluster.config.dir.join("watch");
    let watched = cluster.wait("three pods running in the watch", || {
        let text = fs::read_to_string(&seen).unwrap_or_default();
        let names: std::collections::BTreeSet<&str> = text
            .lines()
            .filter(|line| line.contains("1/1") && line.contains("Running"))
            .filter_map(|line| line.split(' ').next())
            .collect();
        names.len() == 3
    });
    watch.kill()?;
    watch.wait()?;
    watched?;
    let text = fs::read_to_string(&seen)?;
    assert!(text.lines().next().context("a head")?.contains("NOMINATED NODE"), "{text}");
    assert!(
        text.contains("ContainerCreating") || text.contains("Pending"),
        "the watch saw no pod start: {text}"
    );
    assert_eq!(fs::read_to_string(cluster.config.dir.join("watch.err"))?, "");
    let wide = cluster.kubectl(&["get", "pods", "-o", "wide"])?;
    assert_eq!(wide.lines().filter(|line| line.contains("node-1")).count(), 3, "{wide}");
    let deployment = cluster.kubectl(&["get", "deployment", "web"])?;
    assert!(deployment.contains("3/3"), "{deployment}");
    Ok(())
}

fn describe_logs_and_exec(cluster: &TestCluster) -> Result<()> {
    let pods = cluster.pods_of("web")?;
    let pod = pods[0]["metadata"]["name"].as_str().context("a name")?;
    let described = cluster.kubectl(&["describe", "pod", pod])?;
    for part in ["Status:           Running", DEMO_IMAGE, "Scheduled", "Started"] {
        assert!(described.contains(part), "no {part:?} in {described}");
    }
    assert!(cluster.kubectl(&["logs", pod])?.starts_with(&format!("{pod} serves on")));

    cluster.create(
        "/api/v1/namespaces/default/pods",
        &objects::pod("lines", &["log", "--count", "20", "--every-ms", "100"], "Never"),
    )?;
    cluster.wait("the pod that writes lines to start", || {
        let pod =
            cluster.api.get("/api/v1/namespaces/default/pods/lines").and_then(|answer| answer.success());
        pod.is_ok_and(|pod| pod["status"]["phase"] == "Running" || pod["status"]["phase"] == "Succeeded")
    })?;
    // Followed while it writes: every line, in order, and the command ends with the container.
    let expected: String = (0..20).map(|number| format!("line {number}\n")).collect();
    assert_eq!(cluster.kubectl(&["logs", "-f", "lines"])?, expected);
    assert_eq!(cluster.kubectl(&["logs", "lines", "--tail", "2"])?, "line 18\nline 19\n");

    assert_eq!(
        cluster.kubectl(&["exec", pod, "--", "/skep-demo", "get", "127.0.0.1:8080"])?,
        format!("{pod}\n")
    );
    assert_eq!(
        cluster.kubectl_input(&["exec", "-i", pod, "--", "/skep-demo", "shell"], "echo piped\nexit\n")?,
        "demo$ piped\ndemo$ "
    );
    let failed = cluster.kubectl_with(&["exec", pod, "--", "/skep-demo", "exit", "7"], "")?;
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(7), ""), "{failed:?}");
    let session = cluster
        .kubectl_terminal(&["exec", "-it", pod, "--", "/skep-demo", "shell"], "tty\nhostname\nexit 4\n")?;
    assert!(session.stdout.contains("a terminal"), "{session:?}");
    assert!(session.stdout.contains(pod), "{session:?}");
    assert_eq!(session.code, Some(4), "{session:?}");
    Ok(())
}

/// Names of the pods that run now, sorted.
fn running(cluster: &TestCluster) -> Result<Vec<String>> {
    let pods = cluster.pods_of("web")?;
    let living = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let mut names: Vec<String> =
        living.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

fn template_of(cluster: &TestCluster) -> Result<Value> {
    let path = "/apis/apps/v1/namespaces/default/deployments/web";
    Ok(cluster.api.get(path)?.success()?["spec"]["template"].clone())
}

fn scale_and_roll(cluster: &TestCluster) -> Result<()> {
    assert_eq!(
        cluster.kubectl(&["scale", "deployment/web", "--replicas=4"])?,
        "deployment.apps/web scaled\n"
    );
    cluster.wait_endpoints("web", 4)?;
    assert_eq!(
        cluster.kubectl(&["scale", "deployment/web", "--replicas=2"])?,
        "deployment.apps/web scaled\n"
    );
    cluster.wait("two pods", || running(cluster).is_ok_and(|names| names.len() == 2))?;

    let before = running(cluster)?;
    let first = template_of(cluster)?;
    assert_eq!(
        cluster.kubectl(&["rollout", "restart", "deployment/web"])?,
        "deployment.apps/web restarted\n"
    );
    let status = cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    assert!(status.contains("deployment \"web\" successfully rolled out"), "{status}");
    let after = running(cluster)?;
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|name| !before.contains(name)), "{before:?} {after:?}");
    let restarted = template_of(cluster)?;
    assert!(
        restarted["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].is_string(),
        "{restarted}"
    );

    assert!(cluster.kubectl(&["rollout", "history", "deployment/web"])?.contains("REVISION"));
    let undone = cluster.kubectl_with(&["rollout", "undo", "deployment/web"], "")?;
    assert_eq!((undone.code, undone.stdout.as_str()), (Some(0), "deployment.apps/web rolled back\n"));
    // Newer ones say by themselves that what was applied is not what is there now.
    let own = "Warning: resource deployments/web was previously managed with 'kubectl apply'. Rolling back will not update";
    assert!(undone.stderr.is_empty() || undone.stderr.starts_with(own), "{undone:?}");
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    assert_eq!(template_of(cluster)?, first);
    Ok(())
}

fn explain(cluster: &TestCluster) -> Result<()> {
    let text = cluster.kubectl(&["explain", "pod.spec"])?;
    for part in ["KIND:       Pod", "FIELD: spec <PodSpec>", "containers\t<[]Container> -required-"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    Ok(())
}

fn delete(cluster: &TestCluster) -> Result<()> {
    let deleted = cluster.kubectl(&["delete", "deployment/web", "service/web", "pod/lines"])?;
    assert_eq!(deleted.lines().filter(|line| line.contains("deleted")).count(), 3, "{deleted}");
    cluster.wait("no pod of the deployment to be left", || {
        cluster.pods_of("web").is_ok_and(|pods| pods.is_empty())
    })?;
    assert_eq!(cluster.kubectl(&["get", "deployments", "-o", "name"])?, "");
    Ok(())
}
