//! Where things are pinned, and the table of programs and maps.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use aya_obj::generated::bpf_attach_type;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::{Error, Result};
use crate::sys;

/// Every map of the object, by its name there, which is also the name of its pin.
pub(crate) const MAPS: &[&str] = &[
    "CONFIG",
    "META",
    "SERVICES",
    "SLOTS",
    "BACKENDS",
    "NODE_ADDRS",
    "RANGES",
    "AFFINITY",
    "UDP_REVERSE",
    "UDP_STICKY",
    "TCP_PEERS",
    "CONNTRACK",
    "FRAGMENTS",
    "ENDPOINTS",
    "PODS",
    "COUNTERS",
    "DROPS",
];

/// Where a program belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The node's cgroup, at this hook.
    Cgroup(bpf_attach_type),
    /// The host's side of each pod's veth.
    Pod(Direction),
    /// The uplink.
    Uplink(Direction),
}

/// Direction of an interface's hook, seen from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    pub(crate) const fn tcx(self) -> bpf_attach_type {
        match self {
            Self::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
            Self::Egress => bpf_attach_type::BPF_TCX_EGRESS,
        }
    }
}

/// One program of the object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    /// Name of the program and of its pin.
    pub(crate) program: &'static str,
    /// Where it is attached.
    pub(crate) place: Place,
    /// What that place is called in reports.
    pub(crate) label: &'static str,
}

const fn cgroup(program: &'static str, at: bpf_attach_type, label: &'static str) -> Hook {
    Hook { program, place: Place::Cgroup(at), label }
}

/// Every program of the object.
pub(crate) const HOOKS: &[Hook] = &[
    cgroup("skep_connect4", bpf_attach_type::BPF_CGROUP_INET4_CONNECT, "connect4"),
    cgroup("skep_connect6", bpf_attach_type::BPF_CGROUP_INET6_CONNECT, "connect6"),
    cgroup("skep_sendmsg4", bpf_attach_type::BPF_CGROUP_UDP4_SENDMSG, "sendmsg4"),
    cgroup("skep_sendmsg6", bpf_attach_type::BPF_CGROUP_UDP6_SENDMSG, "sendmsg6"),
    cgroup("skep_recvmsg4", bpf_attach_type::BPF_CGROUP_UDP4_RECVMSG, "recvmsg4"),
    cgroup("skep_recvmsg6", bpf_attach_type::BPF_CGROUP_UDP6_RECVMSG, "recvmsg6"),
    cgroup("skep_getpeer4", bpf_attach_type::BPF_CGROUP_INET4_GETPEERNAME, "getpeername4"),
    cgroup("skep_getpeer6", bpf_attach_type::BPF_CGROUP_INET6_GETPEERNAME, "getpeername6"),
    Hook { program: "skep_from_pod", place: Place::Pod(Direction::Ingress), label: "ingress" },
    Hook { program: "skep_to_pod", place: Place::Pod(Direction::Egress), label: "egress" },
    Hook { program: "skep_from_net", place: Place::Uplink(Direction::Ingress), label: "ingress" },
    Hook { program: "skep_to_net", place: Place::Uplink(Direction::Egress), label: "egress" },
];

/// The pins of one node.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
}

/// The directory of a node, of every layout. The BPF file system takes no dots in names, and names of nodes
/// and clusters (DNS subdomains) no underscores, so the one stands for the other.
pub(crate) fn node_dir(bpffs: &Path, cluster: &str, node: &str) -> Result<PathBuf> {
    let part = |what: &str, name: &str| {
        let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if name.is_empty() || name.len() > 253 || !name.chars().all(ok) {
            return Err(Error::Invalid(format!("{what} {name:?} is not a DNS subdomain")));
        }
        Ok(name.replace('.', "_"))
    };
    Ok(bpffs.join("skep").join(part("cluster name", cluster)?).join(part("node name", node)?))
}

impl Pins {
    /// The pins of this layout.
    pub(crate) fn of(bpffs: &Path, cluster: &str, node: &str) -> Result<Self> {
        let root = node_dir(bpffs, cluster, node)?.join(format!("v{}", skep_abi::LAYOUT));
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The pins of other layouts, with their numbers.
    pub(crate) fn others(&self) -> Result<Vec<(u32, Self)>> {
        let Some(dir) = self.root.parent() else { return Ok(Vec::new()) };
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(file("cannot list", dir)(e)),
        };
        let mut others = Vec::new();
        for entry in entries {
            let root = entry.map_err(file("cannot list", dir))?.path();
            let name = root.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let layout = name.strip_prefix('v').and_then(|number| number.parse().ok());
            if let Some(layout) = layout.filter(|_| root != self.root) {
                others.push((layout, Self { root }));
            }
        }
        Ok(others)
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.root.join("programs").join(name)
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The link of a hook of the cgroup or the uplink.
    pub(crate) fn node_link(&self, hook: &Hook) -> PathBuf {
        let kind = if matches!(hook.place, Place::Cgroup(_)) { "cgroup" } else { "uplink" };
        self.links().join(format!("{kind}_{}", hook.label))
    }

    /// The link of a hook of a pod's interface.
    pub(crate) fn pod_link(&self, ifindex: u32, direction: Direction) -> PathBuf {
        self.links().join(format!("pod_{ifindex}_{}", direction.name()))
    }

    /// Makes the directories, mounting the BPF file system if none is there, and takes the node's locks: of this layout, and
    /// of every other one that is there, so that no two agents of whatever layout are at work.
    pub(crate) fn prepare(&self, bpffs: &Path) -> Result<Vec<Flock<fs::File>>> {
        mount_bpffs(bpffs).map_err(|source| Error::Bpffs { path: bpffs.to_owned(), source })?;
        for dir in ["maps", "programs", "links"] {
            let dir = self.root.join(dir);
            fs::create_dir_all(&dir).map_err(file("cannot make", &dir))?;
        }
        let mut locks = vec![lock(&self.root)?];
        for (_, other) in self.others()? {
            locks.push(lock(&other.root)?);
        }
        Ok(locks)
    }
}

fn lock(at: &Path) -> Result<Flock<fs::File>> {
    let dir = fs::File::open(at).map_err(file("cannot open", at))?;
    Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => Error::Locked { path: at.to_owned() },
        other => file("cannot lock", at)(other.into()),
    })
}

/// Makes the conversion of an I/O error on `path`.
pub(crate) fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { action, path: path.clone(), source }
}

/// Makes the conversion of a failed `bpf(2)` call.
pub(crate) fn syscall(call: &'static str, what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Syscall { call, what, source }
}

fn mount_bpffs(at: &Path) -> io::Result<()> {
    match statfs(at) {
        Ok(stat) if stat.filesystem_type() == BPF_FS_MAGIC => return Ok(()),
        Ok(_) => {}
        Err(nix::errno::Errno::ENOENT) => fs::create_dir_all(at)?,
        Err(errno) => return Err(errno.into()),
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), at, Some("bpf"), flags, Some("mode=0700"))?;
    Ok(())
}

/// Opens a pin; `None` if there is none.
pub(crate) fn open_pin(at: &Path) -> Result<Option<OwnedFd>> {
    match sys::obj_get(at) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(syscall("BPF_OBJ_GET", at.display().to_string())(e)),
    }
}

/// Opens a pinned program.
pub(crate) fn open_program(pins: &Pins, name: &str) -> Result<OwnedFd> {
    let missing = || Error::Program { name: name.to_owned(), reason: "its pin is missing".to_owned() };
    open_pin(&pins.program(name))?.ok_or_else(missing)
}

/// Pins an object in the place of another, in one step.
pub(crate) fn replace_pin(fd: &OwnedFd, at: &Path) -> Result<()> {
    let mut name = at.file_name().unwrap_or_default().to_owned();
    name.push("_new");
    let beside = at.with_file_name(name);
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(file("cannot remove", &beside)(e)),
        _ => {}
    }
    sys::obj_pin(fd.as_fd(), &beside).map_err(syscall("BPF_OBJ_PIN", beside.display().to_string()))?;
    fs::rename(&beside, at).map_err(file("cannot rename to", at))
}

/// Removes a pin; one that is not there is as good as removed.
pub(crate) fn unpin(at: &Path) -> Result<bool> {
    match fs::remove_file(at) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(file("cannot remove", at)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_without_dots_and_stay_apart() {
        let dir = |node| node_dir(Path::new("/b"), "skep", node);
        assert_eq!(dir("n1.example.org").unwrap(), Path::new("/b/skep/skep/n1_example_org"));
        assert_ne!(dir("a.b").unwrap(), dir("a-b").unwrap());
        for bad in ["", "..", "a/b", "a_b", "A"] {
            let result = dir(bad);
            assert!(result.is_err() || bad == "..", "{bad}: {result:?}");
        }
        assert_eq!(dir("..").unwrap(), Path::new("/b/skep/skep/__"), "dots cannot lead out");
    }
}
