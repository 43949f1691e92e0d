//! The agent may be killed or exchanged at any moment: traffic flows on, and it catches up when it is back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use skep_images::load::Outcome;
use skep_tests::{TestCluster, another_build, objects};
use xtask::run::command;

/// How often the agent is killed: in the gate, and with `cargo xtask test --long`.
const KILLS: (usize, usize) = (20, 200);
/// How often it is exchanged for another build.
const UPGRADES: (usize, usize) = (5, 50);
/// Requests of each client for each time that the agent goes; a client sends 50 a second, so that it is at work throughout.
const REQUESTS_A_KILL: u64 = 125;
/// Requests that a client sends before and after.
const MARGIN: u64 = 200;

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

/// How clients use their sockets, each from a pod and from the host: a new one for each request, and one for all of them.
const WAYS: &[(&str, &[&str])] = &[
    ("tcp", &[]),
    ("tcp-kept", &["--keep"]),
    ("udp", &["--udp", "--unconnected"]),
    ("udp-connected", &["--udp"]),
    ("udp-kept", &["--udp", "--keep"]),
];
/// The name of the pod that looks names up.
const ASKER: &str = "names";

/// Clients of a Service that are at work while something happens to the agent.
struct Load<'a> {
    cluster: &'a TestCluster,
    /// Requests of each.
    wanted: u64,
    hosts: Vec<(String, Child)>,
    restarts: BTreeMap<String, i64>,
}

impl<'a> Load<'a> {
    /// Starts all of them, each for so many requests; they are at work.
    fn start(cluster: &'a TestCluster, wanted: u64) -> Result<Self> {
        let service = cluster.serve("web", 3)?;
        let requests = wanted.to_string();
        let plan = ["--requests", requests.as_str(), "--rate", "50", "--concurrency", "8"];
        for (name, way) in WAYS {
            cluster.start_load(name, &[&[service.as_str()], &plan[..], way].concat())?;
        }
        // A question that is lost is a look-up that failed: the C library asks once and no more.
        let words = [&["lookups", "web.default.svc.cluster.local."], &plan[..]].concat();
        let mut asker = objects::pod(ASKER, &words, "Never");
        asker["spec"]["dnsConfig"] = json!({"options": [{"name": "attempts", "value": "1"}]});
        cluster.create("/api/v1/namespaces/default/pods", &asker)?;
        for (name, _) in WAYS {
            cluster.wait_pod_ready(name)?;
        }
        cluster.wait_pod_ready(ASKER)?;
        let mut hosts = Vec::new();
        for (name, way) in WAYS {
            let mut client = command(cluster.demo_program());
            client.args(["load", &service]).args(plan).args(*way);
            let client = client.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
            hosts.push((format!("{name} of the host"), client.context("skep-demo")?));
        }
        Ok(Load { cluster, wanted, hosts, restarts: restarts(cluster)? })
    }

    /// Waits for the end of all: no request failed, no container was restarted, and every client was at work in those spans.
    /// Gives how many requests were begun, and how many of them in one of the spans.
    fn end(self, spans: &[Range<u64>]) -> Result<(u64, u64)> {
        let mut outcomes: Vec<(String, Outcome)> = Vec::new();
        for (name, client) in self.hosts {
            let output = client.wait_with_output()?;
            outcomes.push((name, serde_json::from_slice(&output.stdout)?));
        }
        for name in WAYS.iter().map(|(name, _)| *name).chain([ASKER]) {
            outcomes.push((name.to_owned(), self.cluster.outcome(name)?));
        }
        let (mut all, mut within) = (0, 0);
        for (who, outcome) in &outcomes {
            let counts = (outcome.failed, outcome.answers());
            assert_eq!(counts, (0, self.wanted), "{who}: {:?}", outcome.errors);
            let timeline = outcome.timeline.iter();
            let own: u64 =
                timeline.filter(|(at, _)| spans.iter().any(|span| span.contains(at))).map(|(_, n)| n).sum();
            assert!(own > 0, "{who} was idle when it mattered");
            eprintln!(
                "{who}: {own} of {} requests meanwhile, the slowest took {} ms",
                self.wanted, outcome.slowest_ms
            );
            all += self.wanted;
            within += own;
        }
        assert_eq!(restarts(self.cluster)?, self.restarts, "a container was restarted");
        Ok((all, within))
    }
}

#[test]
fn no_request_fails_while_the_agent_dies_twenty_times() -> Result<()> {
    let cluster = TestCluster::start()?;
    let other = another_build(&cluster)?;
    let kills = skep_tests::sample(KILLS);
    let load = Load::start(&cluster, MARGIN + REQUESTS_A_KILL * kills as u64)?;
    let mut dead = Vec::new();
    for round in 0..kills {
        if round % 4 == 3 {
            // This one is killed while it takes over from another build, a little later each time.
            end_agent(&cluster, Signal::SIGTERM)?;
            cluster.start_agent_of(&other)?;
            thread::sleep(Duration::from_millis(round as u64 * 37 % 500));
        }
        cluster.kill("skep-agent")?;
        let from = tenth();
        thread::sleep(Duration::from_millis(1700));
        dead.push(from + 1..tenth());
        cluster.start_agent()?;
        cluster.wait("the agent to be healthy", || cluster.agent_healthy())?;
        thread::sleep(Duration::from_millis(300));
    }
    // The agent is dead for more than half of the time that the clients are at work.
    let (all, while_dead) = load.end(&dead)?;
    assert!(while_dead * 2 >= all, "of {all} requests only {while_dead} were begun while the agent was dead");
    Ok(())
}

fn end_agent(cluster: &TestCluster, signal: Signal) -> Result<()> {
    let agent = cluster.process("skep-agent")?;
    agent.signal(signal);
    anyhow::ensure!(agent.wait_gone(Duration::from_secs(60)), "the agent does not end");
    Ok(())
}

#[test]
fn no_request_fails_while_the_agent_is_exchanged_for_other_builds() -> Result<()> {
    let cluster = TestCluster::start()?;
    let other = another_build(&cluster)?;
    let upgrades = skep_tests::sample(UPGRADES);
    let load = Load::start(&cluster, MARGIN + REQUESTS_A_KILL * upgrades as u64)?;
    let mut spans = Vec::new();
    let mut builds = vec![programs(&cluster)?];
    for round in 0..upgrades {
        let from = tenth();
        end_agent(&cluster, Signal::SIGTERM)?;
        if round % 2 == 0 {
            cluster.start_agent_of(&other)?
        } else {
            cluster.start_agent()?
        }
        cluster.wait("the agent to be healthy", || cluster.agent_healthy())?;
        spans.push(from..tenth() + 1);
        builds.push(programs(&cluster)?);
        thread::sleep(Duration::from_millis(700));
    }
    load.end(&spans)?;
    for two in builds.windows(2) {
        assert!(two[0].iter().all(|id| !two[1].contains(id)), "programs stayed: {builds:?}");
    }
    Ok(())
}

/// Numbers that the kernel gave to the programs in force.
fn programs(cluster: &TestCluster) -> Result<Vec<u32>> {
    let node = cluster.node(1)?;
    let pins = std::path::Path::new("/sys/fs/bpf");
    let status = skep_dataplane::status_from_pins(pins, &cluster.config.name, &node.name)?;
    Ok(status.programs.into_iter().map(|program| program.id).collect())
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
    cluster.api.merge(&path, &json!({"metadata": {"labels": {"app": "gone"}}}))?.success()?;
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
