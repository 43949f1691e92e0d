//! An operator built on kube-rs works against a server: its kind is published, its objects are looked after, and end well.

use std::process::{Child, Command};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use skep_tests::TestCluster;

/// The operator, ended when dropped.
struct Operator(Child);

impl Operator {
    fn start(cluster: &TestCluster) -> Result<Self> {
        let mut operator = Command::new(env!("CARGO_BIN_EXE_skep-operator"));
        operator.env("KUBECONFIG", cluster.config.kubeconfig());
        Ok(Operator(operator.spawn().context("the operator")?))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn site(name: &str, title: &str) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Site", "metadata": {"name": name},
        "spec": {"title": title, "paragraphs": ["one", "two"]},
    })
}

const SITES: &str = "/apis/example.com/v1/namespaces/default/sites";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn get(cluster: &TestCluster, path: &str) -> Option<Value> {
    cluster.api.get(path).ok()?.success().ok()
}

#[test]
fn sites_are_published_changed_and_end_well() -> Result<()> {
    let cluster = TestCluster::start_control_plane()?;
    let operator = Operator::start(&cluster)?;
    cluster.wait("the kind to be served", || get(&cluster, SITES).is_some())?;
    assert!(cluster.kubectl(&["api-resources", "--api-group", "example.com"])?.contains("sites"));

    assert_eq!(cluster.apply(&site("home", "Home"))?, "site.example.com/home created\n");
    cluster.wait("the page of the site", || get(&cluster, &format!("{MAPS}/home")).is_some())?;
    let published = |generation: u64| {
        let seen = get(&cluster, &format!("{SITES}/home")).unwrap_or_default();
        seen["status"] == json!({"published": true, "observedGeneration": generation})
    };
    cluster.wait("the status of the site", || published(1))?;
    let page = get(&cluster, &format!("{MAPS}/home")).context("the page")?;
    assert_eq!(page["data"]["page"], "# Home\none\ntwo\n");
    let made = get(&cluster, &format!("{SITES}/home")).context("the site")?;
    assert_eq!(made["spec"]["visitors"], 10, "the schema's default");
    assert_eq!(made["metadata"]["finalizers"], json!(["example.com/farewell"]));

    // The operator brings back what others take away, and follows what changes.
    cluster.kubectl(&["delete", "configmap", "home"])?;
    cluster.wait("the page to come back", || get(&cluster, &format!("{MAPS}/home")).is_some())?;
    cluster.kubectl(&["patch", "site", "home", "--type=merge", "-p", r#"{"spec":{"title":"House"}}"#])?;
    cluster.wait("the change to be published", || published(2))?;
    let page = get(&cluster, &format!("{MAPS}/home")).context("the page")?;
    assert_eq!(page["data"]["page"], "# House\none\ntwo\n");

    let table = cluster.kubectl(&["get", "si"])?;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines, [vec!["NAME", "TITLE", "PUBLISHED"], vec!["home", "House", "true"]]);
    assert!(
        cluster.kubectl(&["explain", "site.spec.visitors"])?.contains("How many visitors it is made for")
    );

    refuse_what_the_schema_forbids(&cluster)?;

    // Its end: the finalizer is served first, then the page goes with its owner.
    cluster.kubectl(&["delete", "site", "home", "--timeout=60s"])?;
    let farewells = get(&cluster, &format!("{MAPS}/farewells")).context("the farewell")?;
    assert_eq!(farewells["data"], json!({"home": "House"}));
    cluster.wait("the page to go with its site", || {
        cluster.api.get(&format!("{MAPS}/home")).is_ok_and(|answer| answer.status == 404)
    })?;

    // Without the operator a site still stands, and its kind ends with all its objects once nothing keeps them.
    drop(operator);
    cluster.apply(&site("late", "Late"))?;
    cluster.kubectl(&["delete", "crd", "sites.example.com", "--timeout=60s"])?;
    assert_eq!(cluster.api.get(SITES)?.status, 404);
    Ok(())
}

fn refuse_what_the_schema_forbids(cluster: &TestCluster) -> Result<()> {
    for (path, value, said) in [
        ("visitors", json!(0), "spec.visitors: Invalid value: 0"),
        ("title", json!(""), "spec.title: Invalid value"),
        ("title", json!(7), "spec.title: Invalid value: \"integer\""),
        ("title", Value::Null, "spec.title: Required value"),
    ] {
        let mut wrong = site("wrong", "Wrong");
        wrong["spec"][path] = value;
        let answer = cluster.api.create(SITES, &wrong)?;
        let status = answer.json()?;
        assert_eq!(answer.status, 422, "{status}");
        assert!(status["message"].as_str().unwrap_or_default().contains(said), "{said}: {status}");
    }
    let mut unknown = site("wrong", "Wrong");
    unknown["spec"]["color"] = "red".into();
    let refused = cluster.kubectl_with(&["create", "-f", "-"], &unknown.to_string())?;
    assert!(refused.stderr.contains("unknown field \"spec.color\""), "{refused:?}");
    Ok(())
}
