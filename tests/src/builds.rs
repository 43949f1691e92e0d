//! What an upgrade brings: another build of the agent and of its programs.

use std::fs;
use std::io::Write as _;

use anyhow::{Context, Result};
use xtask::ebpf::{EbpfOptions, build_ebpf};
use xtask::layout::Layout;

use crate::TestCluster;

/// Another build, in the cluster's directory: an agent that is another file, with programs that are compiled otherwise (they
/// write log records, into a map that the others do not have).
///
/// # Errors
/// What the compiler said, or the file system.
pub fn another_build(cluster: &TestCluster) -> Result<Layout> {
    let own = &cluster.layout;
    let other = Layout { root: own.root.clone(), target: cluster.config.dir.join("another-build") };
    fs::create_dir_all(other.bin()).with_context(|| format!("{}", other.bin().display()))?;
    let options = EbpfOptions { target: own.target.clone(), log: true, install: true };
    fs::copy(build_ebpf(&own.root, &options)?, other.bin().join("skep-ebpf.o"))?;
    let agent = other.bin().join("skep-agent");
    fs::copy(own.bin().join("skep-agent"), &agent)?;
    fs::OpenOptions::new().append(true).open(&agent)?.write_all(&[0])?;
    Ok(other)
}
