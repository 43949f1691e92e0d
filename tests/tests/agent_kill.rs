//! The agent may be killed at any moment: traffic flows on, and it catches up when it is back.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;
use skep_images::load::Outcome;
use skep_tests::TestCluster;
use xtask::run::command;

/// How often the agent is killed: in the gate, and with `cargo xtask test --long`.
const KILLS: (usize, usize) = (20, 60);
/// Requests of each of the four clients for each kill; a client sends 50 a second, so that it is at work throughout.
const REQUESTS_A_KILL: u64 = 125;

/// Now in tenths of a second of Unix time, as the load client counts them.
fn tenth() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64 / 100
}

fn restarts(cluster: &TestCluster) -> Result<BTreeMap<String, i64>> {
    let pods = cluster.api.list("/api/v1/namespaces/default/pods")?;
    let total = |pod: &Value| -> i64 {
        let all = pod["status"]["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(|status| status["restartCount"].as_i64()).sum()
    };
    Ok(pods
        .iter()
        .map(|pod| (pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), total(pod)))
        .collect())
}

fn host_client(cluster: &TestCluster, arguments: &[&str]) -> Result<Child> {
    let mut client = command(cluster.demo_program());
    client.arg("load").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    client.spawn().context("skep-demo")
}

#[test]
fn no_request_fails_while_the_agent_dies_twenty_times() -> Result<()> {
    let cluster = TestCluster::start()?;
    let service = cluster.serve("web", 3)?;
    let kills = skep_tests::sample(KILLS);
    let wanted = REQUESTS_A_KILL * kills as u64;
    let requests = wanted.to_string();
    // The agent is dead for more than half of the time that the clients are at work.
    let arguments = [service.as_str(), "--requests", requests.as_str(), "--rate", "50", "--concurrency", "8"];
    cluster.start_load("tcp-client", &arguments)?;
    cluster.start_load("udp-client", &[&arguments[..], &["--udp", "--unconnected"]].concat())?;
    for client in ["tcp-client", "udp-client"] {
        cluster.wait_pod_ready(client)?;
    }
    let hosts =
        [host_client(&cluster, &arguments)?, host_client(&cluster, &[&arguments[..], &["--udp"]].concat())?];
    let before = restarts(&cluster)?;

    let mut dead = Vec::new();
    for _ in 0..kills {
        cluster.kill("skep-agent")?;
        let from = tenth();
        thread::sleep(Duration::from_millis(1700));
        dead.push(from + 1..tenth());
        cluster.start_agent()?;
        cluster.wait("the agent to be healthy", || cluster.agent_healthy())?;
        thread::sleep(Duration::from_millis(300));
    }

    let mut outcomes: Vec<(String, Outcome)> = Vec::new();
    for (host, kind) in hosts.into_iter().zip(["host tcp", "host udp"]) {
        let output = host.wait_with_output()?;
        outcomes.push((kind.to_owned(), serde_json::from_slice(&output.stdout)?));
    }
    for client in ["tcp-client", "udp-client"] {
        outcomes.push((client.to_owned(), cluster.outcome(client)?));
    }
    let (mut opened, mut while_dead) = (0, 0);
    for (who, outcome) in &outcomes {
        assert_eq!((outcome.failed, outcome.answers()), (0, wanted), "{who}: {:?}", outcome.errors);
        for (tenth, count) in &outcome.timeline {
            opened += count;
            while_dead += if dead.iter().any(|span| span.contains(tenth)) { count } else { &0 };
        }
    }
    assert_eq!(opened, 4 * wanted);
    assert!(
        while_dead * 2 >= opened,
        "of {opened} sockets only {while_dead} were opened while the agent was dead"
    );
    let after = restarts(&cluster)?;
    assert_eq!(before, after, "a container was restarted");
    Ok(())
}

#[test]
fn a_backend_that_went_while_the_agent_was_dead_gets_nothing_after_its_return() -> Result<()> {
    let cluster = TestCluster::start()?;
    let service = cluster.serve("web", 2)?;
    let pod = cluster.pods_of("web")?[0]["metadata"]["name"].as_str().context("a name")?.to_owned();
    let hits = || -> Result<u64> {
        let outcome = cluster.load_from_host(&[&service, "--requests", "40"])?;
        Ok(outcome.answered.get(&pod).copied().unwrap_or(0))
    };
    cluster.wait("the agent to know both backends", || hits().is_ok_and(|hits| hits > 0))?;
    cluster.kill("skep-agent")?;
    // Out of the Service's selection, so that the slice loses it while no agent can see that.
    let path = format!("/api/v1/namespaces/default/pods/{pod}");
    cluster.api.merge(&path, &serde_json::json!({"metadata": {"labels": {"app": "gone"}}}))?.success()?;
    cluster.wait("the slice to lose the pod", || {
        let slices = cluster.api.list("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices");
        slices.is_ok_and(|slices| !slices.iter().any(|slice| slice.to_string().contains(&pod)))
    })?;
    assert!(hits()? > 0, "with no agent the kernel keeps what it knew");
    cluster.start_agent()?;
    let begun = Instant::now();
    cluster.wait("the removed backend to get nothing", || hits().is_ok_and(|hits| hits == 0))?;
    eprintln!("converged within {} ms of the restart", begun.elapsed().as_millis());
    for _ in 0..5 {
        assert_eq!(hits()?, 0, "a removed backend came back");
    }
    Ok(())
}
