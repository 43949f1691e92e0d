//! Services: answered from pods and from the host, by ready pods only, without a netfilter rule.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use skep_images::load::Outcome;
use skep_tests::TestCluster;
use xtask::cluster::traffic;
use xtask::run::{command, text, which};

/// All that netfilter knows, of either family and either generation.
fn netfilter() -> Result<String> {
    let mut rules = String::new();
    for program in ["iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save"] {
        if let Some(program) = which(program) {
            let saved = text(&mut command(program))?;
            // Comments carry the time, and chains their counters.
            let lines = saved.lines().filter(|line| !line.starts_with('#'));
            rules.extend(lines.map(|line| format!("{}\n", line.split('[').next().unwrap_or(line))));
        }
    }
    let nft = which("nft").context("nft")?;
    rules.push_str(&text(command(nft).args(["list", "ruleset"]))?);
    Ok(rules)
}

fn expect_all(outcome: &Outcome, requests: u64, who: &str) {
    assert_eq!((outcome.answers(), outcome.failed), (requests, 0), "{who}: {outcome:?}");
}

#[test]
fn a_cluster_ip_answers_from_everywhere_and_netfilter_knows_nothing() -> Result<()> {
    let before = netfilter()?;
    let cluster = TestCluster::start()?;
    let service = cluster.serve("web", 3)?;
    let modes: [&[&str]; 3] = [&[], &["--udp"], &["--udp", "--unconnected"]];
    for (number, mode) in modes.into_iter().enumerate() {
        let arguments = [&[service.as_str(), "--requests", "300"], mode].concat();
        let pod = format!("client-{number}");
        cluster.start_load(&pod, &arguments)?;
        let from_pod = cluster.outcome(&pod)?;
        expect_all(&from_pod, 300, "pod");
        assert_eq!(from_pod.answered.len(), 3, "some backend got nothing: {from_pod:?}");
        let from_host = cluster.load_from_host(&arguments)?;
        expect_all(&from_host, 300, "host");
        assert_eq!(from_host.answered.len(), 3, "some backend got nothing: {from_host:?}");
    }
    // The backends' own addresses, and from pod to pod on them.
    for pod in cluster.pods_of("web")? {
        let (name, ip) = (pod["metadata"]["name"].as_str(), pod["status"]["podIP"].as_str());
        let (name, ip) = (name.context("a name")?, ip.context("an address")?);
        let answer = cluster.load_from_host(&[&format!("{ip}:8080"), "--requests", "3"])?;
        assert_eq!(answer.answered.get(name), Some(&3), "{answer:?}");
    }
    assert_eq!(netfilter()?, before);

    // What the kernel counted covers at least the requests: a connection takes several packets each way.
    let traffic = traffic::pods(&cluster.config, "default")?;
    for pod in cluster.pods_of("web")? {
        let name = pod["metadata"]["name"].as_str().context("a name")?;
        let counted =
            traffic.get(name).with_context(|| format!("{name} is not among the pods that were counted"))?;
        assert!(counted.in_packets > 20 && counted.out_packets > 20, "{name}: {counted:?}");
        assert!(
            counted.in_bytes > counted.in_packets * 20 && counted.out_bytes > counted.out_packets * 20,
            "{name}: {counted:?}"
        );
    }
    Ok(())
}

#[test]
fn a_pod_that_is_not_ready_gets_no_new_connection() -> Result<()> {
    let cluster = TestCluster::start()?;
    let service = cluster.serve("web", 2)?;
    let pods = cluster.pods_of("web")?;
    let (name, ip) = (pods[0]["metadata"]["name"].as_str(), pods[0]["status"]["podIP"].as_str());
    let (name, ip) = (name.context("a name")?, ip.context("an address")?);
    let switch = |path: &str| -> Result<()> {
        let target = format!("{ip}:8080").parse()?;
        let answer = skep_images::load::get(target, path, Duration::from_secs(5))?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    };
    let hits = || -> Result<u64> {
        let outcome = cluster.load_from_host(&[&service, "--requests", "60"])?;
        expect_all(&outcome, 60, "host");
        Ok(outcome.answered.get(name).copied().unwrap_or(0))
    };
    assert!(hits()? > 0, "a ready pod gets its share");
    switch("/ready/off")?;
    cluster.wait_endpoints("web", 1)?;
    // The slice says so; a second later the kernel must.
    let known = Instant::now();
    thread::sleep(Duration::from_secs(1).saturating_sub(known.elapsed()));
    assert_eq!(hits()?, 0);
    switch("/ready/on")?;
    cluster.wait_endpoints("web", 2)?;
    cluster.wait("the pod to get connections again", || hits().is_ok_and(|hits| hits > 0))
}
