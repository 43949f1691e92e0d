//! containerd and images without a registry, before any of Skep's own processes.

use anyhow::Result;
use skep_tests::{Snapshot, TestCluster};
use xtask::cluster::containerd::{self, DEMO_IMAGE, PAUSE_IMAGE};
use xtask::cluster::program::{self, CONTAINERD};
use xtask::cluster::{down, up};
use xtask::run::{captured, text};

#[test]
fn images_run_without_a_registry_and_nothing_stays() -> Result<()> {
    let before = Snapshot::take();
    let (config, layout) = TestCluster::plan()?;
    let node = &config.nodes[0];
    let checks = || -> Result<()> {
        up::prepare(&config)?;
        program::start(&CONTAINERD, &config, node, &layout)?;
        containerd::import_images(&config, &layout)?;
        // A second import of the same bytes is no fault.
        containerd::import_images(&config, &layout)?;
        let images = text(containerd::ctr(&config, node).args(["images", "ls"]))?;
        for image in [PAUSE_IMAGE, DEMO_IMAGE] {
            let line = images
                .lines()
                .find(|line| line.starts_with(image))
                .unwrap_or_else(|| panic!("{image} in {images}"));
            assert!(line.contains("io.cri-containerd.image=managed"), "CRI does not see {line}");
        }
        let run = |arguments: &[&str]| {
            let name = format!("{}-{}", config.name, arguments[0]);
            let mut ctr = containerd::ctr(&config, node);
            ctr.args([
                "run",
                "--rm",
                "--cgroup",
                &format!("/skep/{}/run", config.name),
                DEMO_IMAGE,
                &name,
                "/skep-demo",
            ]);
            captured(ctr.args(arguments))
        };
        assert_eq!(
            String::from_utf8_lossy(&run(&["log", "--count", "2", "--every-ms", "0"])?.stdout),
            "line 0\nline 1\n"
        );
        let error = run(&["exit", "7"]).unwrap_err().to_string();
        assert!(error.contains("7"), "{error}");
        // A container that is still running when the cluster goes.
        let name = format!("{}-stays", config.name);
        let mut ctr = containerd::ctr(&config, node);
        ctr.args([
            "run",
            "--detach",
            "--cgroup",
            &format!("/skep/{}/stays", config.name),
            DEMO_IMAGE,
            &name,
            "/skep-demo",
            "sleep",
        ]);
        captured(&mut ctr)?;
        Ok(())
    };
    let result = checks();
    let left = down::down(&config, false);
    result?;
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(before.added_since(), Vec::<String>::new());
    Ok(())
}
