//! What the kernel tests share: a network namespace, a BPF file system and a cgroup of their own, all of which
//! the kernel takes back when the test ends, however it ends.
#![allow(dead_code, unreachable_pub)] // each test binary uses its part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

pub mod node;
pub mod packet;
pub mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use skep_dataplane::{Config, Dataplane, TcMode};

/// Moving the process between cgroups allows one test at a time in a process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A place of its own for one test.
pub struct Sandbox {
    pub dir: PathBuf,
    pub cgroup: PathBuf,
    pub home_cgroup: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

/// Where the object is, as the gate says it or where `cargo xtask build` puts it.
pub fn object() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("SKEP_BPF_OBJECT")
        .map_or_else(|| root.join("target/skep/bin/skep-ebpf.o"), PathBuf::from)
}

/// Runs a test in a sandbox, in a thread with namespaces of its own. A machine that cannot is told so; with
/// `CI=true` that is a failure.
pub fn sandboxed(test: impl FnOnce(&Sandbox) + Send + 'static) {
    let lack = if !nix::unistd::geteuid().is_root() {
        Some("root".to_owned())
    } else if !object().is_file() {
        Some(format!("the eBPF object {} (run `cargo xtask build`)", object().display()))
    } else if mounted("cgroup2").is_none() {
        Some("a cgroup2 mount".to_owned())
    } else {
        None
    };
    if let Some(what) = lack {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "this test needs {what}");
        eprintln!("NOT RUN: this test needs {what}");
        return;
    }
    let run = std::thread::spawn(move || {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let sandbox = Sandbox::new(turn);
        test(&sandbox);
    });
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Sandbox {
    fn new(turn: MutexGuard<'static, ()>) -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        wire::quiet();
        wire::up(1);
        let name = format!("skep-dataplane-test-{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).unwrap();
        mount(Some("bpf"), &dir, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        let cgroups = mounted("cgroup2").unwrap();
        let cgroup = cgroups.join(&name);
        fs::create_dir_all(&cgroup).unwrap();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|l| l.strip_prefix("0::/")).unwrap_or_default();
        Self { dir, cgroup, home_cgroup: cgroups.join(own), _turn: turn }
    }

    /// The set-up of a node here, without an uplink.
    pub fn config(&self) -> Config {
        Config {
            cluster: "test".into(),
            node: "n1.example.org".into(),
            bpffs: self.dir.clone(),
            cgroup_root: self.cgroup.clone(),
            object: object(),
            cluster_cidr: "10.244.0.0/16".parse().unwrap(),
            service_cidr: "10.96.0.0/16".parse().unwrap(),
            cluster_cidr6: Some("fd00:10:244::/56".parse().unwrap()),
            service_cidr6: Some("fd00:10:96::/112".parse().unwrap()),
            uplink: None,
            node_addr: None,
            node_addr6: None,
            tc: TcMode::Probe,
        }
    }

    /// Opens the dataplane.
    pub fn open(&self) -> Dataplane {
        Dataplane::open(self.config()).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Moves this process into the node's cgroup.
    pub fn enter_cgroup(&self) {
        fs::write(self.cgroup.join("cgroup.procs"), "0").unwrap();
    }

    /// Path of a pinned program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.pins().join("programs").join(name)
    }

    /// Path of a pinned map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.pins().join("maps").join(name)
    }

    fn pins(&self) -> PathBuf {
        self.dir.join(format!("skep/test/n1_example_org/v{}", skep_abi::LAYOUT))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::write(self.home_cgroup.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.cgroup);
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Where a file system of this type is mounted.
pub fn mounted(kind: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (at, found) = (words.nth(1)?, words.next()?);
        (found == kind).then(|| PathBuf::from(at))
    })
}

/// Another network namespace, kept by a descriptor.
pub struct Netns(pub fs::File);

impl Netns {
    /// A new one, with its loopback up.
    pub fn new() -> Self {
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            wire::quiet();
            wire::up(1);
            fs::File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(thread.join().unwrap())
    }

    /// Runs something inside, in a thread of its own.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(f).join().unwrap()
    }

    /// Starts something inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = self.0.try_clone().unwrap();
        std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        })
    }
}
