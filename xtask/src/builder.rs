//! `cargo xtask build`: release binaries, static programs for images, and the eBPF object, gathered in one folder.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cluster::containerd::replace;
use crate::ebpf::{self, EbpfOptions};
use crate::layout::Layout;
use crate::prereq;
use crate::run::{cargo, passthrough};

/// Packages and the binaries they give.
const BINARIES: &[(&str, &str)] = &[
    ("skep-server", "skep-server"),
    ("skep-agent", "skep-agent"),
    ("skep-cni", "skep-cni"),
    ("skep-dns", "skep-dns"),
    ("skep-kubectl", "kubectl-skep"),
];
/// Binaries of the package `skep-images`.
const STATIC: &[&str] = &["skep-pause", "skep-demo"];

/// Builds everything a cluster runs.
///
/// # Errors
/// What cargo or a missing prerequisite said.
pub fn build(layout: &Layout) -> Result<()> {
    prereq::ensure(&[prereq::BUILD])?;
    build_binaries(layout)?;
    build_static(layout)?;
    build_ebpf(layout)
}

/// Builds the server, the agent, the CNI plugin, the DNS server and the plugin of kubectl.
///
/// # Errors
/// What cargo said.
pub fn build_binaries(layout: &Layout) -> Result<()> {
    eprintln!("... building skep-server, skep-agent, skep-cni, skep-dns and kubectl-skep (release)");
    let mut build = cargo();
    build
        .current_dir(&layout.root)
        .args(["build", "--release", "--locked"])
        .arg("--target-dir")
        .arg(&layout.target);
    for (package, binary) in BINARIES {
        build.args(["--package", package, "--bin", binary]);
    }
    passthrough(&mut build)?;
    for (_, binary) in BINARIES {
        collect(layout, &layout.target.join("release").join(binary))?;
    }
    Ok(())
}

/// Builds the programs of the pause and demo images, without any shared library.
///
/// # Errors
/// What cargo said.
pub fn build_static(layout: &Layout) -> Result<()> {
    eprintln!("... building the programs of the pause and demo images (static)");
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = cargo();
    // With an explicit target the flags do not reach build scripts, which must stay dynamic.
    build.current_dir(&layout.root).args(["build", "--release", "--locked", "--package", "skep-images"]);
    build.args(["--target", &target]).arg("--target-dir").arg(&layout.target);
    build.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    passthrough(&mut build)?;
    for binary in STATIC {
        collect(layout, &layout.target.join(&target).join("release").join(binary))?;
    }
    Ok(())
}

/// Builds the eBPF object.
///
/// # Errors
/// What the build said, or what is missing for it.
pub fn build_ebpf(layout: &Layout) -> Result<()> {
    let options = EbpfOptions { target: layout.target.clone(), log: false, install: true };
    ebpf::build_ebpf(&layout.root, &options).map(|_| ())
}

/// Puts a file into the folder of finished binaries, unless the same bytes are there: who runs from it is left alone.
fn collect(layout: &Layout, from: &Path) -> Result<()> {
    let bin = layout.bin();
    fs::create_dir_all(&bin)?;
    let to = bin.join(from.file_name().context("a binary has a name")?);
    let fresh = fs::read(from).with_context(|| format!("{}", from.display()))?;
    if fs::read(&to).is_ok_and(|old| old == fresh) {
        return Ok(());
    }
    replace(from, &to)
}
