//! The whole machine at one moment: what a cluster may add to it and must take away again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use xtask::{kernel, proc};

/// What the machine holds, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    kinds: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Snapshot {
    /// Looks at everything.
    #[must_use]
    pub fn take() -> Self {
        let mounts: BTreeSet<String> =
            kernel::mounts().iter().map(|mount| format!("{} {}", mount.kind, mount.at.display())).collect();
        let cgroups = kernel::cgroup_roots().iter().flat_map(|root| tree(root)).collect();
        let pins = tree(Path::new("/sys/fs/bpf"));
        let run = tree(Path::new("/run/skep"));
        let shims = names(Path::new("/run/containerd/s"));
        let kinds = BTreeMap::from([
            ("mount", mounts),
            ("cgroup", cgroups),
            ("pin", pins),
            ("file below /run", run.into_iter().chain(shims).collect()),
            ("interface", names(Path::new("/sys/class/net"))),
            ("network namespace", namespaces()),
            ("process", processes()),
            ("eBPF program", programs()),
            ("route", lines("/proc/net/route")),
            ("ip_forward", lines("/proc/sys/net/ipv4/ip_forward")),
            ("forwarding of IPv6", lines("/proc/sys/net/ipv6/conf/all/forwarding")),
        ]);
        Snapshot { kinds }
    }

    /// What `later` has that this has not, one line each.
    #[must_use]
    pub fn added(&self, later: &Snapshot) -> Vec<String> {
        let nothing = BTreeSet::new();
        let added = |(kind, items): (&&'static str, &BTreeSet<String>)| {
            let before = self.kinds.get(kind).unwrap_or(&nothing);
            items.difference(before).map(|item| format!("{kind}: {item}")).collect::<Vec<_>>()
        };
        later.kinds.iter().flat_map(added).collect()
    }

    /// What is there now and was not then, after giving the kernel time to let go of what is no longer used.
    #[must_use]
    pub fn added_since(&self) -> Vec<String> {
        let mut added = Vec::new();
        let _ = proc::until(Duration::from_secs(20), || {
            added = self.added(&Snapshot::take());
            added.is_empty()
        });
        added
    }
}

fn tree(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for child in kernel::subdirectories(&folder) {
            found.insert(child.display().to_string());
            folders.push(child);
        }
        if !folder.starts_with("/sys/fs/cgroup") {
            found.extend(names(&folder).into_iter().map(|name| folder.join(name).display().to_string()));
        }
    }
    found
}

fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn lines(file: &str) -> BTreeSet<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Network namespaces that any process is in.
fn namespaces() -> BTreeSet<String> {
    let link = |pid: &i32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    proc::all().keys().filter_map(link).map(|target| target.display().to_string()).collect()
}

/// Processes of the kinds a cluster starts.
fn processes() -> BTreeSet<String> {
    let ours =
        |name: &str| name.starts_with("skep-") || name.starts_with("containerd") || name.starts_with("runc");
    let all = proc::all();
    all.iter()
        .filter(|(_, stat)| stat.state != 'Z' && ours(&stat.name))
        .map(|(pid, stat)| format!("{} {pid}", stat.name))
        .collect()
}

/// Programs the kernel holds, attached or not.
fn programs() -> BTreeSet<String> {
    aya::programs::loaded_programs()
        .flatten()
        .map(|program| format!("{} {}", program.id(), program.name_as_str().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_named_with_its_kind() {
        let before =
            Snapshot { kinds: BTreeMap::from([("mount", BTreeSet::from(["a".to_owned(), "b".to_owned()]))]) };
        let after = Snapshot {
            kinds: BTreeMap::from([
                ("mount", BTreeSet::from(["b".to_owned(), "c".to_owned()])),
                ("pin", BTreeSet::from(["p".to_owned()])),
            ]),
        };
        assert_eq!(before.added(&after), ["mount: c", "pin: p"]);
        assert_eq!(after.added(&after), Vec::<String>::new());
    }

    #[test]
    fn a_machine_has_interfaces_and_cgroups_to_see() {
        let now = Snapshot::take();
        assert!(now.kinds["interface"].contains("lo"));
        assert!(!now.kinds["mount"].is_empty());
    }
}
