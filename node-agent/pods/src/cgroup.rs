//! The cgroups of pods: made before a pod's sandbox, removed after it, in every hierarchy the kernel has.

use crate::core::resize::{Now, Step};
use crate::core::resources::{Kernel, PERIOD_US, Qos, weight};
use crate::core::sandbox::{Node, qos_cgroup};
use std::io;
use std::path::{Path, PathBuf};

/// The mounted hierarchies of this machine.
#[derive(Debug, Clone, Default)]
pub struct Cgroups {
    v1: Vec<(Vec<String>, PathBuf)>,
    v2: Option<PathBuf>,
}

impl Cgroups {
    /// Reads the mounts of this process.
    pub fn discover() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/mounts").unwrap_or_default())
    }

    /// Reads a table of mounts.
    pub fn parse(mounts: &str) -> Self {
        let mut out = Self::default();
        for line in mounts.lines() {
            let f: Vec<&str> = line.split_whitespace().collect();
            let [_, at, kind, options, ..] = f.as_slice() else { continue };
            match *kind {
                "cgroup" => {
                    let known = [
                        "cpu",
                        "cpuacct",
                        "cpuset",
                        "memory",
                        "devices",
                        "freezer",
                        "blkio",
                        "pids",
                        "systemd",
                        "hugetlb",
                        "net_cls",
                        "net_prio",
                        "perf_event",
                        "rdma",
                        "misc",
                    ];
                    let own = options
                        .split(',')
                        .map(|o| o.strip_prefix("name=").unwrap_or(o))
                        .filter(|o| known.contains(o))
                        .map(str::to_owned)
                        .collect();
                    out.v1.push((own, PathBuf::from(at)));
                }
                "cgroup2" if out.v2.is_none() => out.v2 = Some(PathBuf::from(at)),
                _ => {}
            }
        }
        out
    }

    /// Where the cgroup2 hierarchy is mounted.
    pub fn unified(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    /// Whether cgroup2 holds the controllers (no v1 hierarchy does).
    pub fn pure_v2(&self) -> bool {
        !self.v1.iter().any(|(c, _)| c.iter().any(|c| c == "memory" || c == "cpu"))
    }

    /// Reads a file of a cgroup where its controller is; none where there is none.
    pub fn read(&self, controller: &str, path: &str, file: &str) -> Option<String> {
        let root = self.root(controller)?;
        std::fs::read_to_string(root.join(path.trim_start_matches('/')).join(file)).ok()
    }

    /// Where the hierarchy of a controller is mounted.
    fn root(&self, controller: &str) -> Option<&Path> {
        if self.pure_v2() {
            return self.v2.as_deref();
        }
        self.v1.iter().find(|(c, _)| c.iter().any(|c| c == controller)).map(|(_, root)| root.as_path())
    }

    fn roots(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|(_, p)| p.as_path()).chain(self.v2.as_deref())
    }

    /// Makes a cgroup in every hierarchy, with its limits where the controller is. Idempotent.
    pub fn ensure(&self, path: &str, k: Option<&Kernel>) -> io::Result<()> {
        for root in self.roots() {
            let mut dir = root.to_path_buf();
            for part in path.split('/').filter(|p| !p.is_empty()) {
                if self.pure_v2() {
                    // Controllers have to be handed down level by level.
                    let have = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
                    for c in have.split_whitespace() {
                        let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("+{c}"));
                    }
                }
                let parent = dir.clone();
                dir.push(part);
                match std::fs::create_dir(&dir) {
                    Ok(()) => inherit_cpuset(&parent, &dir),
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(e),
                }
            }
        }
        if let Some(k) = k {
            self.limit(path, k);
        }
        Ok(())
    }

    /// Writes limits; a controller that is missing or refuses is no reason not to run the pod.
    fn limit(&self, path: &str, k: &Kernel) {
        let put = |root: &Path, file: &str, value: String| {
            let at = root.join(path.trim_start_matches('/')).join(file);
            if let Err(error) = std::fs::write(&at, value) {
                tracing::debug!(path = %at.display(), %error, "cgroup limit not written");
            }
        };
        for (controllers, root) in &self.v1 {
            let has = |c: &str| controllers.iter().any(|x| x == c);
            if has("cpu") {
                put(root, "cpu.shares", k.shares.to_string());
                if k.quota > 0 {
                    put(root, "cpu.cfs_period_us", k.period.to_string());
                    put(root, "cpu.cfs_quota_us", k.quota.to_string());
                }
            }
            if has("memory") && k.memory > 0 {
                put(root, "memory.limit_in_bytes", k.memory.to_string());
            }
        }
        if let Some(root) = self.v2.as_deref().filter(|_| self.pure_v2()) {
            put(root, "cpu.weight", weight(k.shares).to_string());
            if k.quota > 0 {
                put(root, "cpu.max", format!("{} {}", k.quota, k.period));
            }
            if k.memory > 0 {
                put(root, "memory.max", k.memory.to_string());
            }
        }
    }

    /// What a pod's cgroup may use now.
    pub fn now(&self, path: &str) -> Now {
        let number = |controller: &str, file: &str| -> Option<i64> {
            self.read(controller, path, file)?.split_whitespace().next()?.parse().ok()
        };
        if self.pure_v2() {
            let weight = number("cpu", "cpu.weight").unwrap_or(1).clamp(1, 10_000);
            return Now {
                memory: number("memory", "memory.max"),
                quota: number("cpu", "cpu.max"),
                shares: (weight - 1) * 262_142 / 9999 + 2,
            };
        }
        Now {
            // Without a limit the kernel shows the largest number of whole pages.
            memory: number("memory", "memory.limit_in_bytes").filter(|n| *n < i64::MAX / 2),
            quota: number("cpu", "cpu.cfs_quota_us").filter(|n| *n > 0),
            shares: number("cpu", "cpu.shares").unwrap_or(2),
        }
    }

    /// Bytes that a cgroup uses, caches included.
    pub fn memory_used(&self, path: &str) -> Option<i64> {
        let file = if self.pure_v2() { "memory.current" } else { "memory.usage_in_bytes" };
        self.read("memory", path, file)?.trim().parse().ok()
    }

    /// Changes one thing that a pod's cgroup may use.
    pub fn resize(&self, path: &str, step: &Step) -> io::Result<()> {
        let v2 = self.pure_v2();
        let (controller, file, value) = match (step, v2) {
            (Step::Container { .. }, _) => return Ok(()),
            (Step::PodMemory(n), true) => ("memory", "memory.max", n.to_string()),
            (Step::PodMemory(n), false) => ("memory", "memory.limit_in_bytes", n.to_string()),
            (Step::PodQuota(n), true) => ("cpu", "cpu.max", format!("{n} {PERIOD_US}")),
            (Step::PodQuota(n), false) => ("cpu", "cpu.cfs_quota_us", n.to_string()),
            (Step::PodShares(n), true) => ("cpu", "cpu.weight", weight(*n).to_string()),
            (Step::PodShares(n), false) => ("cpu", "cpu.shares", n.to_string()),
        };
        // A node without the controller limits nothing; that is no fault of the pod.
        let Some(root) = self.root(controller) else { return Ok(()) };
        let at = root.join(path.trim_start_matches('/')).join(file);
        std::fs::write(&at, value).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", at.display())))
    }

    /// Removes a cgroup and what is left below it, in every hierarchy. What is in use stays, with an error.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let mut worst = Ok(());
        for root in self.roots() {
            if let Err(e) = remove_tree(&root.join(path.trim_start_matches('/'))) {
                worst = Err(e);
            }
        }
        worst
    }

    /// Uids of pods that have a cgroup on this node.
    pub fn pods(&self, node: &Node) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for class in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            let parent = qos_cgroup(node, class);
            for root in self.roots() {
                let Ok(dir) = std::fs::read_dir(root.join(parent.trim_start_matches('/'))) else { continue };
                for e in dir.flatten() {
                    let name = e.file_name().to_string_lossy().into_owned();
                    if let Some(uid) = name.strip_prefix("pod") {
                        let entry = (uid.to_owned(), format!("{parent}/{name}"));
                        if !out.contains(&entry) {
                            out.push(entry);
                        }
                    }
                }
            }
        }
        out
    }
}

fn inherit_cpuset(parent: &Path, dir: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(v) = std::fs::read_to_string(parent.join(file)) {
            let _ = std::fs::write(dir.join(file), v.trim());
        }
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(e) => e,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for e in entries.flatten() {
        if e.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&e.path())?;
        }
    }
    match std::fs::remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
