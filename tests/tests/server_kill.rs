//! The server may be killed at any moment: what it acknowledged is there, and pods do not notice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use skep_tests::TestCluster;
use xtask::api::Api;

/// How often the server is killed: in the gate, and with `cargo xtask test --long`.
const KILLS: (usize, usize) = (20, 60);
const WRITERS: usize = 4;

/// Creates ConfigMaps until told to stop; gives the names that were acknowledged.
fn write(api: &Api, writer: usize, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let name = format!("w{writer}-{number}");
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"number": number.to_string()},
        });
        number += 1;
        match api.create("/api/v1/namespaces/default/configmaps", &object) {
            Ok(answer) if answer.status == 201 => acknowledged.push(name),
            _ => thread::sleep(Duration::from_millis(5)),
        }
    }
    acknowledged
}

#[test]
fn every_acknowledged_write_survives_twenty_kills_and_pods_do_not_notice() -> Result<()> {
    let cluster = TestCluster::start()?;
    let service = cluster.serve("web", 2)?;
    let containers = |cluster: &TestCluster| -> Result<BTreeSet<String>> {
        let pods = cluster.pods_of("web")?;
        Ok(pods.iter().map(|pod| pod["status"]["containerStatuses"][0]["containerID"].to_string()).collect())
    };
    let before = containers(&cluster)?;
    let rounds = skep_tests::sample(KILLS);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (api, stop) = (cluster.api.clone(), Arc::clone(&stop));
            thread::spawn(move || write(&api, writer, &stop))
        })
        .collect();
    let kills = || -> Result<()> {
        for round in 0..rounds {
            // Different lengths, so that kills fall into different moments of a write.
            thread::sleep(Duration::from_millis(120 + 37 * round as u64 % 400));
            cluster.kill("skep-server")?;
            let outcome = cluster.load_from_host(&[&service, "--requests", "20"])?;
            anyhow::ensure!(outcome.failed == 0, "without a server: {outcome:?}");
            cluster.start_server()?;
        }
        Ok(())
    };
    let killed = kills();
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        acknowledged.extend(writer.join().ok().context("a writer panicked")?);
    }
    killed?;
    assert!(acknowledged.len() > rounds * WRITERS, "only {} writes were acknowledged", acknowledged.len());
    let stored: BTreeSet<String> = cluster
        .api
        .list("/api/v1/namespaces/default/configmaps")?
        .iter()
        .filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned))
        .collect();
    let lost: Vec<&String> = acknowledged.difference(&stored).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged writes are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    assert_eq!(containers(&cluster)?, before, "a container was replaced");
    let outcome = cluster.load_from_host(&[&service, "--requests", "100"])?;
    assert_eq!(outcome.failed, 0, "{outcome:?}");
    Ok(())
}
