//! What the machine must have: found, named with its reason, and installed where a distribution's package manager allows.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cluster::containerd::loopback_plugin;
use crate::kernel;
use crate::run::{command, passthrough, text, which};
use crate::ui::Step;

/// Something that must be on the machine.
pub struct Need {
    /// What, as people know it.
    pub what: &'static str,
    /// Why Skep needs it.
    pub why: &'static str,
    /// The Debian and Ubuntu package that brings it.
    pub package: &'static str,
    /// Whether it is there.
    pub present: fn() -> bool,
}

/// Needed to build.
pub const BUILD: &[Need] = &[
    Need {
        what: "protoc",
        why: "the CRI client is generated from its protocol definition",
        package: "protobuf-compiler",
        present: || which("protoc").is_some(),
    },
    Need {
        what: "a C compiler and the C library's static archive",
        why: "the programs of the pause and demo images are linked statically",
        package: "libc6-dev",
        present: || {
            let archive = command("cc").arg("-print-file-name=libc.a").output();
            archive
                .is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_absolute())
        },
    },
];

/// Needed to run a cluster.
pub const RUN: &[Need] = &[
    Need {
        what: "containerd",
        why: "it runs the containers; the cluster starts one of its own and leaves the system's alone",
        package: "containerd",
        present: || which("containerd").is_some() && which("ctr").is_some(),
    },
    Need {
        what: "runc",
        why: "containerd starts containers with it",
        package: "runc",
        present: || which("runc").is_some(),
    },
    Need {
        what: "the CNI plugin `loopback`",
        why: "containerd sets up a pod's loopback interface with it",
        package: "containernetworking-plugins",
        present: || loopback_plugin().is_some(),
    },
    Need {
        what: "ip",
        why: "it joins the nodes of a cluster that has several",
        package: "iproute2",
        present: || which("ip").is_some(),
    },
];

/// Needed by the end-to-end tests alone.
pub const TEST: &[Need] = &[
    Need {
        what: "iptables-save",
        why: "a test shows that Skep writes no rule",
        package: "iptables",
        present: || which("iptables-save").is_some() && which("ip6tables-save").is_some(),
    },
    Need {
        what: "nft",
        why: "a test shows that Skep writes no rule",
        package: "nftables",
        present: || which("nft").is_some(),
    },
    Need {
        what: "python3 with venv",
        why: "a test drives the server by the Python client",
        package: "python3-venv",
        present: || {
            let import = command("python3").args(["-c", "import ensurepip, venv"]).output();
            import.is_ok_and(|output| output.status.success())
        },
    },
];

/// What of `needs` is missing.
#[must_use]
pub fn missing<'a>(needs: &[&'a [Need]]) -> Vec<&'a Need> {
    needs.iter().flat_map(|group| group.iter()).filter(|need| !(need.present)()).collect()
}

/// Makes sure that everything in `needs` is there: says what is missing and why, then installs it.
///
/// # Errors
/// One sentence with the remedy, when this machine cannot be made ready.
pub fn ensure(needs: &[&[Need]]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("Missing on this machine:");
    for need in &missing {
        eprintln!("  - {} (package {}): {}", need.what, need.package, need.why);
    }
    let packages: BTreeSet<&str> = missing.iter().map(|need| need.package).collect();
    let list = packages.iter().copied().collect::<Vec<_>>().join(" ");
    install(&packages)
        .with_context(|| format!("these packages could not be installed; install them by hand: {list}"))?;
    match missing.iter().find(|need| !(need.present)()) {
        Some(need) => bail!(
            "{} is still not found after installing {}: install it by hand and try again",
            need.what,
            need.package
        ),
        None => Ok(()),
    }
}

/// Installs packages of the distribution.
///
/// # Errors
/// One sentence with the remedy: no apt-get, not root, or what apt-get said.
pub fn install(packages: &BTreeSet<&str>) -> Result<()> {
    let list = packages.iter().copied().collect::<Vec<_>>().join(" ");
    if which("apt-get").is_none() {
        bail!("this is not Debian or Ubuntu (no apt-get): install what your distribution calls {list}");
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "installing needs root: run `sudo apt-get install --no-install-recommends {list}`, then try again"
        );
    }
    eprintln!("Installing with apt-get: {list}");
    // A machine may hold no package lists, or lists that are too old: one update, then a second attempt.
    let install = || -> Command {
        let mut install = command("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        install.args(["install", "--yes", "--no-install-recommends", "-qq"]).args(packages);
        install
    };
    if passthrough(&mut install()).is_err() {
        let step = Step::begin("updating the package lists");
        text(command("apt-get").args(["update", "-qq"]))?;
        step.done("");
        passthrough(&mut install())?;
    }
    Ok(())
}

/// Whether the kernel lets this process load eBPF and find a cgroup2 hierarchy; if not, one sentence with the remedy.
///
/// # Errors
/// That sentence.
pub fn kernel_ready() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "a node needs root (containers, eBPF, network namespaces): run `sudo -E env PATH=\"$PATH\" cargo xtask up`"
        );
    }
    if kernel::mounted("cgroup2").is_none() {
        bail!(
            "cgroup2 is not mounted: run `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified` (or boot with systemd.unified_cgroup_hierarchy=1)"
        );
    }
    if !Path::new("/sys/fs/bpf").is_dir() {
        bail!(
            "this kernel has no BPF file system (CONFIG_BPF_SYSCALL): Skep needs Linux 5.15 or later with eBPF"
        );
    }
    let release = kernel::sysctl("kernel/osrelease")?;
    if version(&release).is_some_and(|version| version < (5, 10)) {
        bail!("Linux {release} is too old: Skep needs 5.15 or later");
    }
    Ok(())
}

/// Major and minor number of a kernel release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_absent_is_missing() {
        const NEEDS: &[Need] = &[
            Need { what: "a", why: "", package: "a", present: || true },
            Need { what: "b", why: "", package: "b", present: || false },
        ];
        assert_eq!(missing(&[NEEDS]).iter().map(|need| need.what).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn kernel_releases_compare_by_number() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert!(version("5.9.12") < version("5.10.0"));
        assert_eq!(version("odd"), None);
    }
}
