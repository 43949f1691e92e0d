//! What `up` changed about the machine itself, written down before it is changed, so that `down` can put it back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::umount;
use serde::{Deserialize, Serialize};

use super::config::Config;
use crate::kernel;

/// Kernel settings, below `/proc/sys`, that a node needs of the machine when it is the machine. Nodes in namespaces have
/// settings of their own.
const SYSCTLS: &[(&str, &str)] = &[("net/ipv4/ip_forward", "1")];
/// The same for IPv6, which the agent sees to; here only what they were is kept.
const IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";
/// File systems a cluster needs: bpffs for pins, tracefs for tracepoints.
const FILE_SYSTEMS: &[(&str, &str)] = &[("bpf", "/sys/fs/bpf"), ("tracefs", "/sys/kernel/tracing")];

/// Changes to put back. Lies below `/run`: like the changes, it does not outlive a boot.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// Mounted by us.
    mounted: Vec<PathBuf>,
    /// Former values of kernel settings.
    sysctls: BTreeMap<String, String>,
}

impl Undo {
    fn file(run_dir: &Path) -> PathBuf {
        run_dir.join("undo.json")
    }

    fn read(run_dir: &Path) -> Self {
        fs::read(Self::file(run_dir))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    fn write(&self, run_dir: &Path) -> Result<()> {
        fs::create_dir_all(run_dir)?;
        let file = Self::file(run_dir);
        fs::write(&file, serde_json::to_vec(self)?).with_context(|| format!("{}", file.display()))
    }

    /// Makes the machine fit for a cluster, recording each change first.
    ///
    /// # Errors
    /// When a file system cannot be mounted or a setting not be written.
    pub fn prepare(config: &Config) -> Result<()> {
        let run = config.run_dir();
        let mut undo = Self::read(&run);
        for &(kind, at) in FILE_SYSTEMS {
            let at = Path::new(at);
            if kernel::ensure_mounted(kind, at)? {
                undo.mounted.push(at.to_path_buf());
                undo.write(&run)?;
            }
        }
        for &(name, wanted) in if config.lan.is_none() { SYSCTLS } else { &[] } {
            let found = kernel::sysctl(name)?;
            if found != wanted {
                undo.sysctls.entry(name.to_owned()).or_insert(found);
                undo.write(&run)?;
                kernel::set_sysctl(name, wanted)?;
            }
        }
        if config.lan.is_none() && config.ipv6.is_some() {
            for name in [IPV6_FORWARDING.to_owned()].into_iter().chain(default_route_settings()) {
                let found = kernel::sysctl(&name)?;
                undo.sysctls.entry(name).or_insert(found);
            }
            undo.write(&run)?;
        }
        Ok(())
    }

    /// Puts everything back; what another cluster still needs is handed over to it. Gives what could not be undone.
    #[must_use]
    pub fn revert(config: &Config) -> Vec<String> {
        let run = config.run_dir();
        let mut undo = Self::read(&run);
        let other = kernel::subdirectories(Path::new("/run/skep")).into_iter().find(|dir| *dir != run);
        if let Some(other) = other {
            let mut theirs = Self::read(&other);
            theirs.mounted.append(&mut undo.mounted);
            theirs.sysctls.append(&mut undo.sysctls);
            return theirs.write(&other).err().map(|error| format!("{error:#}")).into_iter().collect();
        }
        let mut left = Vec::new();
        for (name, value) in &undo.sysctls {
            if let Err(error) = kernel::set_sysctl(name, value) {
                left.push(format!("{error:#}"));
            }
        }
        for at in undo.mounted.iter().rev() {
            // Somebody else may have pinned something in the meantime: unmounting would destroy it.
            let used = at.ends_with("bpf") && holds_pins(at);
            if !used && let Err(error) = umount(at) {
                left.push(format!("cannot unmount {}: {error}", at.display()));
            }
        }
        left
    }
}

/// Whether the interface of the default route takes router advertisements: a host that forwards must be told to go on.
fn default_route_settings() -> Option<String> {
    let routes = fs::read_to_string("/proc/net/route").ok()?;
    let default = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        (fields.next()? == "00000000").then(|| format!("net/ipv6/conf/{name}/accept_ra"))
    };
    routes.lines().skip(1).find_map(default).filter(|name| kernel::sysctl(name).is_ok())
}

/// Whether a BPF file system holds anything but the two iterators that the kernel itself puts there.
fn holds_pins(at: &Path) -> bool {
    let Ok(entries) = fs::read_dir(at) else { return false };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    names.any(|name| name != "maps.debug" && name != "progs.debug")
}
