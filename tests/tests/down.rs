//! `down` leaves nothing behind, whatever state the cluster is in, and `up` adopts what runs.

use anyhow::Result;
use skep_tests::{Snapshot, TestCluster};
use xtask::cluster::{parts, up};

#[test]
fn a_second_up_adopts_what_runs_and_down_removes_it_all() -> Result<()> {
    let before = Snapshot::take();
    let cluster = TestCluster::start()?;
    cluster.serve("web", 2)?;
    let first = cluster.processes()?;
    assert!(first.iter().all(Option::is_some), "{first:?}");
    up::up(&cluster.config, &cluster.layout)?;
    assert_eq!(cluster.processes()?, first);
    let added = before.added(&Snapshot::take());
    for kind in ["process", "pin", "cgroup", "mount", "interface", "network namespace", "eBPF program"] {
        assert!(
            added.iter().any(|line| line.starts_with(kind)),
            "a running cluster adds no {kind}? {added:?}"
        );
    }
    assert_eq!(cluster.stop(), Vec::<String>::new());
    assert_eq!(before.added_since(), Vec::<String>::new());
    Ok(())
}

#[test]
fn down_works_when_everything_is_dead_already() -> Result<()> {
    let before = Snapshot::take();
    let cluster = TestCluster::start()?;
    cluster.serve("web", 2)?;
    for part in parts(&cluster.config) {
        cluster.kill(part.program)?;
    }
    assert_eq!(cluster.stop(), Vec::<String>::new());
    assert_eq!(before.added_since(), Vec::<String>::new());
    Ok(())
}
