//! Clients that were not made for Skep, against a server.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use skep_tests::TestCluster;
use xtask::run::{command, text};

#[test]
fn the_python_client_finds_its_way() -> Result<()> {
    let cluster = TestCluster::start_control_plane()?;
    let python = xtask::python::with_client(&cluster.layout)?;
    let script = cluster.layout.root.join("tests/clients/walk.py");
    let mut walk = command(python);
    walk.arg(script).env("KUBECONFIG", cluster.config.kubeconfig()).env("NO_PROXY", "*");
    assert_eq!(text(&mut walk)?, "well\n");
    Ok(())
}

/// The same kubectl command by another writer.
fn apply(cluster: &TestCluster, manager: &str, object: &Value, more: &[&str]) -> Result<skep_tests::Output> {
    let writer = format!("--field-manager={manager}");
    let arguments = [&["apply", "--server-side", &writer, "-f", "-"], more].concat();
    cluster.kubectl_with(&arguments, &object.to_string())
}

fn owners(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array();
    entries.into_iter().flatten().filter_map(|entry| entry["manager"].as_str()).collect()
}

#[test]
fn two_managers_share_an_object() -> Result<()> {
    let cluster = TestCluster::start_control_plane()?;
    let deployment = |labels: Value, replicas: Value, image: &str| {
        let mut spec = json!({
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
        });
        if !replicas.is_null() {
            spec["replicas"] = replicas;
        }
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": labels}, "spec": spec})
    };
    let read = || -> Result<Value> {
        cluster.api.get("/apis/apps/v1/namespaces/default/deployments/web")?.success()
    };
    let first =
        apply(&cluster, "one", &deployment(json!({"by": "one"}), json!(2), "example.invalid/a:1"), &[])?;
    assert_eq!(first.stdout, "deployment.apps/web serverside-applied\n", "{first:?}");

    // Another opinion is a conflict that names the owner and the field; nothing has changed.
    let other = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 5}});
    let refused = apply(&cluster, "two", &other, &[])?;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("conflict with \"one\": .spec.replicas"), "{refused:?}");
    assert_eq!(read()?["spec"]["replicas"], 2);

    // With force it is taken over, and the first one gives it up by not saying it any more.
    assert_eq!(apply(&cluster, "two", &other, &["--force-conflicts"])?.code, Some(0));
    assert_eq!(read()?["spec"]["replicas"], 5);
    let without = deployment(json!({"by": "one"}), Value::Null, "example.invalid/a:2");
    assert_eq!(apply(&cluster, "one", &without, &[])?.code, Some(0));
    let shared = read()?;
    assert_eq!(shared["spec"]["replicas"], 5, "the other writer's value stays");
    assert_eq!(shared["spec"]["template"]["spec"]["containers"][0]["image"], "example.invalid/a:2");

    // The same opinion is shared; what nobody says any more goes back to its default.
    let same = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"by": "one", "team": "two"}}});
    assert_eq!(apply(&cluster, "two", &same, &[])?.code, Some(0));
    let shared = read()?;
    assert_eq!(shared["spec"]["replicas"], 1, "nobody says how many");
    assert_eq!(shared["metadata"]["labels"], json!({"by": "one", "team": "two"}));
    let writers = owners(&shared);
    assert!(writers.contains(&"one") && writers.contains(&"two"), "{writers:?}");
    let unlabelled = deployment(json!({}), Value::Null, "example.invalid/a:2");
    assert_eq!(apply(&cluster, "one", &unlabelled, &[])?.code, Some(0));
    assert_eq!(read()?["metadata"]["labels"]["by"], "one", "the other writer says it too");
    Ok(())
}

#[test]
fn what_was_applied_by_the_client_becomes_the_servers() -> Result<()> {
    let cluster = TestCluster::start_control_plane()?;
    let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
    cluster.apply(&map(json!({"keep": "1", "drop": "2"})))?;
    let applied = apply(&cluster, "kubectl", &map(json!({"keep": "1"})), &[])?;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let seen = cluster.api.get("/api/v1/namespaces/default/configmaps/m")?.success()?;
    assert_eq!(seen["data"], json!({"keep": "1"}), "what kubectl applied before is its own to drop");
    assert!(!owners(&seen).contains(&"kubectl-client-side-apply"), "{seen}");
    let refused = apply(&cluster, "stranger", &map(json!({"keep": "3"})), &[])?;
    let said = refused.stderr.lines().next().context("an error")?;
    assert!(said.contains("conflict with \"kubectl\""), "{refused:?}");
    Ok(())
}
