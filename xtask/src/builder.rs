//! `cargo xtask build`: release binaries, static programs for images, and the eBPF object, gathered in one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::containerd::replace;
use crate::ebpf::{self, EbpfOptions};
use crate::kernels::Guest;
use crate::kernels::table::LEFT_OUT;
use crate::layout::Layout;
use crate::prereq;
use crate::run::{captured, cargo, passthrough};

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
    let mut build = static_cargo(layout, "build");
    passthrough(build.args(["--package", "skep-images"]))?;
    for binary in STATIC {
        collect(layout, &static_dir(layout).join(binary))?;
    }
    Ok(())
}

/// Builds what a virtual machine is given that tries a kernel: its first program and the dataplane's tests (but for a few),
/// both without any shared library. The object is that of the last build.
///
/// # Errors
/// What cargo said.
pub fn build_guest(layout: &Layout) -> Result<Guest> {
    eprintln!("... building what is run on other kernels (static)");
    passthrough(static_cargo(layout, "build").args(["--package", "skep-guest"]))?;
    let mut build = static_cargo(layout, "test");
    build.args(["--no-run", "--package", "skep-dataplane", "--test", "*", "--message-format", "json"]);
    let output = captured(&mut build)?;
    let mut tests = test_programs(&String::from_utf8_lossy(&output.stdout));
    tests.retain(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
    let init = static_dir(layout).join("skep-guest");
    Ok(Guest { init, object: layout.bin().join("skep-ebpf.o"), tests })
}

/// The programs of integration tests among cargo's messages.
fn test_programs(messages: &str) -> Vec<(String, PathBuf)> {
    let of = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let target = &message["target"];
        if target["kind"][0] != "test" {
            return None;
        }
        Some((target["name"].as_str()?.to_owned(), PathBuf::from(message["executable"].as_str()?)))
    };
    messages.lines().filter_map(of).collect()
}

fn static_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn static_dir(layout: &Layout) -> PathBuf {
    layout.target.join(static_target()).join("release")
}

/// A cargo that links without any shared library.
fn static_cargo(layout: &Layout, verb: &str) -> Command {
    let mut build = cargo();
    // With an explicit target the flags do not reach build scripts, which must stay dynamic.
    build.current_dir(&layout.root).args([verb, "--release", "--locked", "--target", &static_target()]);
    build.arg("--target-dir").arg(&layout.target);
    build.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    build
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_among_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"kind\":[\"lib\"],\"name\":\"a\"},\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"kind\":[\"test\"],\"name\":\"packets\"},\"executable\":\"/t/packets-1\"}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(test_programs(messages), [("packets".to_owned(), PathBuf::from("/t/packets-1"))]);
    }
}
