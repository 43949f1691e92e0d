//! What the kernel holds for a cluster besides processes: mounts, cgroups, pins, sysctls.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// Where.
    pub at: PathBuf,
    /// File system type.
    pub kind: String,
}

/// Every mount this process sees, in the order they were made.
#[must_use]
pub fn mounts() -> Vec<Mount> {
    parse_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn parse_mounts(text: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let at = unescape(left.split(' ').nth(4)?);
        Some(Mount { at: PathBuf::from(at), kind: right.split(' ').next()?.to_owned() })
    };
    text.lines().filter_map(line).collect()
}

/// Spaces, tabs, newlines and backslashes come as octal escapes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Where a file system of this type is mounted first.
#[must_use]
pub fn mounted(kind: &str) -> Option<PathBuf> {
    mounts().into_iter().find(|mount| mount.kind == kind).map(|mount| mount.at)
}

/// Mounts a kernel file system (`bpf`, `tracefs`); gives whether it had to.
///
/// # Errors
/// When mounting fails.
pub fn ensure_mounted(kind: &str, at: &Path) -> Result<bool> {
    if mounts().iter().any(|mount| mount.kind == kind && mount.at == at) {
        return Ok(false);
    }
    mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>).with_context(|| {
        let need = "a node needs CAP_SYS_ADMIN and a kernel with eBPF (a plain container has neither)";
        format!("cannot mount {kind} at {}: {need}", at.display())
    })?;
    Ok(true)
}

/// Unmounts everything at or below a path, the latest first.
pub fn unmount_below(path: &Path) {
    for mount in mounts().into_iter().rev().filter(|mount| mount.at.starts_with(path)) {
        let _ = umount2(&mount.at, MntFlags::MNT_DETACH);
    }
}

/// Whether a file stands for a network namespace.
fn is_netns(at: &Path) -> bool {
    mounts().iter().any(|mount| mount.at == at && mount.kind == "nsfs")
}

/// Makes a network namespace that lives as long as `at` is mounted; one that is there stays.
///
/// # Errors
/// When the kernel refuses.
pub fn ensure_netns(at: &Path) -> Result<()> {
    if is_netns(at) {
        return Ok(());
    }
    if let Some(dir) = at.parent() {
        fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
    }
    fs::File::create(at).with_context(|| format!("{}", at.display()))?;
    // Only the calling thread changes over, and it ends at once.
    let made = thread::scope(|scope| {
        let make = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(Some("/proc/thread-self/ns/net"), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        });
        make.join()
    });
    made.map_err(|_| anyhow!("a thread panicked"))?
        .with_context(|| format!("cannot make the network namespace {}", at.display()))
}

/// Does something in a network namespace: in this one for `None`; in an empty one where the file stands for none, because
/// it went.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn in_netns<T: Send>(at: Option<&Path>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let Some(at) = at else { return Ok(work()) };
    let done = thread::scope(|scope| {
        let inside = scope.spawn(|| -> Result<T> {
            if is_netns(at) {
                setns(fs::File::open(at)?, CloneFlags::CLONE_NEWNET)?;
            } else {
                unshare(CloneFlags::CLONE_NEWNET)?;
            }
            Ok(work())
        });
        inside.join()
    });
    done.map_err(|_| anyhow!("a thread panicked"))?
        .with_context(|| format!("cannot enter the network namespace {}", at.display()))
}

/// Roots of every cgroup hierarchy: the v1 controllers' and the unified one.
#[must_use]
pub fn cgroup_roots() -> BTreeSet<PathBuf> {
    mounts().into_iter().filter(|mount| mount.kind.starts_with("cgroup")).map(|mount| mount.at).collect()
}

/// Makes a cgroup, given as path below the roots, in every hierarchy.
///
/// # Errors
/// When the kernel refuses.
pub fn make_cgroup(path: &Path) -> Result<()> {
    for root in cgroup_roots() {
        let mut dir = root;
        for part in path {
            let parent = dir.clone();
            dir.push(part);
            if dir.is_dir() {
                continue;
            }
            fs::create_dir(&dir).with_context(|| format!("{}", dir.display()))?;
            // A version 1 cpuset takes no process before it has processors and memory.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = fs::read(parent.join(file)) {
                    let _ = fs::write(dir.join(file), value);
                }
            }
        }
    }
    Ok(())
}

/// Pids in a cgroup and all below it.
#[must_use]
pub fn cgroup_pids(dir: &Path) -> BTreeSet<i32> {
    let mut pids: BTreeSet<i32> = fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    for child in subdirectories(dir) {
        pids.extend(cgroup_pids(&child));
    }
    pids
}

/// Removes a cgroup and all below it; gives whether it is gone. Cgroups hold only virtual files: each directory goes by itself.
#[must_use]
pub fn remove_cgroup(dir: &Path) -> bool {
    for child in subdirectories(dir) {
        let _ = remove_cgroup(&child);
    }
    match fs::remove_dir(dir) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// The directories directly in `dir`.
#[must_use]
pub fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect()
}

/// A kernel setting below `/proc/sys`.
///
/// # Errors
/// When it cannot be read.
pub fn sysctl(name: &str) -> Result<String> {
    let file = Path::new("/proc/sys").join(name);
    Ok(fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?.trim().to_owned())
}

/// Whether the kernel has IPv6, and new interfaces of this network namespace too.
#[must_use]
pub fn has_ipv6() -> bool {
    sysctl("net/ipv6/conf/all/disable_ipv6").is_ok_and(|disabled| disabled == "0")
}

/// Sets a kernel setting below `/proc/sys`.
///
/// # Errors
/// When it cannot be written.
pub fn set_sysctl(name: &str, value: &str) -> Result<()> {
    let file = Path::new("/proc/sys").join(name);
    fs::write(&file, value).with_context(|| format!("cannot write {value} to {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_with_optional_fields_and_escapes() {
        let text = "36 35 98:0 / /mnt/a\\040b rw,noatime shared:1 master:2 - ext3 /dev/root rw\n\
                    37 35 0:26 / /sys/fs/bpf rw - bpf bpf rw\nnonsense\n";
        let expected = [("/mnt/a b", "ext3"), ("/sys/fs/bpf", "bpf")]
            .map(|(at, kind)| Mount { at: PathBuf::from(at), kind: kind.to_owned() });
        assert_eq!(parse_mounts(text), expected);
    }

    #[test]
    fn this_machine_has_proc_mounted() {
        assert_eq!(mounted("proc"), Some(PathBuf::from("/proc")));
    }
}
