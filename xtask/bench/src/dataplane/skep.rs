//! A node with Skep's own programs and tables, in a BPF file system and a cgroup of this process alone.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use skep_dataplane::{
    Config, Dataplane, Endpoint, PodAttachment, PortSpec, Protocol, ServiceSpec, ServiceView, TcMode,
};

use crate::netns::Netns;
use crate::node::{Node, WIRES};
use crate::rules::{CLUSTER_IPS, Entry, PODS, PORT, entries};
use crate::worker::Metric;

/// Mounts of this process alone, before any thread exists.
pub(crate) fn private_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace (this needs root)")?;
    let all = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    Ok(mount(None::<&str>, "/", None::<&str>, all, None::<&str>)?)
}

/// A directory that goes with its owner.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

/// The node.
pub(crate) struct Skep {
    dataplane: Option<Dataplane>,
    config: Config,
    /// Before the directories: its processes leave the cgroup when they end.
    pub(crate) node: Node,
    _bpffs: Dir,
    _cgroup: Dir,
}

/// Where the cgroup2 hierarchy is mounted.
fn cgroups() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (at, kind) = (words.nth(1)?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    });
    found.context("cgroup2 is not mounted")
}

/// What the API would say: Services with one endpoint each.
fn view(services: usize) -> ServiceView {
    let service = |(number, Entry { vip, backend }): (usize, Entry)| ServiceSpec {
        namespace: "bench".into(),
        name: format!("service-{number}"),
        cluster_ips: vec![vip.into()],
        ports: vec![PortSpec {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: PORT,
            node_port: None,
            endpoints: vec![Endpoint::ready(IpAddr::from(backend), PORT, true)],
        }],
        ..ServiceSpec::default()
    };
    ServiceView { services: entries(services).map(service).collect(), ..ServiceView::default() }
}

fn open(config: &Config, netns: &Netns) -> Result<Dataplane> {
    netns.run(|| {
        let dataplane = Dataplane::open(config.clone())?;
        for (name, address) in WIRES {
            dataplane.attach_pod(&PodAttachment {
                ifindex: nix::net::if_::if_nametoindex(name)?,
                addresses: vec![address.into()],
                uid: format!("uid-{name}"),
                namespace: "bench".into(),
                name: name.into(),
            })?;
        }
        Ok(dataplane)
    })
}

impl Skep {
    /// The node, with the programs of this object file.
    pub(crate) fn new(object: &Path) -> Result<Self> {
        let name = format!("skep-bench-{}", std::process::id());
        let bpffs = Dir(std::env::temp_dir().join(&name));
        fs::create_dir_all(&bpffs.0)?;
        mount(Some("bpf"), &bpffs.0, Some("bpf"), MsFlags::empty(), None::<&str>)?;
        let cgroup = Dir(cgroups()?.join(&name));
        fs::create_dir_all(&cgroup.0)?;
        let node = Node::new(Some(&cgroup.0))?;
        let config = Config {
            cluster: "bench".into(),
            node: "bench".into(),
            bpffs: bpffs.0.clone(),
            cgroup_root: cgroup.0.clone(),
            object: object.to_owned(),
            cluster_cidr: PODS.parse()?,
            service_cidr: CLUSTER_IPS.parse()?,
            cluster_cidr6: None,
            service_cidr6: None,
            uplink: None,
            node_addr: None,
            node_addr6: None,
            tc: TcMode::Probe,
        };
        let dataplane = Some(open(&config, &node.netns)?);
        Ok(Skep { dataplane, config, node, _bpffs: bpffs, _cgroup: cgroup })
    }

    fn dataplane(&self) -> Result<&Dataplane> {
        self.dataplane.as_ref().context("the dataplane is closed")
    }

    /// Brings the tables to so many Services.
    pub(crate) fn load(&self, services: usize) -> Result<()> {
        self.dataplane()?.sync_services(&view(services))?;
        Ok(())
    }

    /// Time from nothing at all, no program loaded and no map made, to so many Services in the tables.
    pub(crate) fn cold(&mut self, services: usize) -> Result<Duration> {
        let view = view(services);
        drop(self.dataplane.take());
        let config = &self.config;
        self.node.netns.run(|| {
            Ok(skep_dataplane::remove_all(&config.bpffs, &config.cluster, &config.node).map(drop)?)
        })?;
        let begun = Instant::now();
        let dataplane = open(&self.config, &self.node.netns)?;
        dataplane.sync_services(&view)?;
        self.dataplane = Some(dataplane);
        Ok(begun.elapsed())
    }

    /// Memory that the kernel charges for the maps, in bytes.
    pub(crate) fn map_bytes(&self) -> Result<u64> {
        Ok(self.dataplane()?.kernel_map_bytes()?)
    }

    /// What each program took while a client was at work: nanoseconds a run, and runs for each unit of work.
    pub(crate) fn nanoseconds(
        &mut self,
        metric: Metric,
        to: std::net::Ipv4Addr,
        window: Duration,
    ) -> Result<BTreeMap<String, (f64, u64)>> {
        let names: BTreeMap<u32, String> = self
            .dataplane()?
            .status()?
            .programs
            .into_iter()
            .map(|program| (program.id, program.name))
            .collect();
        // The kernel counts for as long as this is open.
        let counting = enable_stats(Stats::RunTime)?;
        let before = runs(&names)?;
        self.node.sample(metric, to, window)?;
        let after = runs(&names)?;
        drop(counting);
        let mut found = BTreeMap::new();
        for (name, (time, count)) in after {
            let (time_before, count_before) = before.get(&name).copied().unwrap_or_default();
            let count = count - count_before;
            if count > 0 {
                found.insert(name, ((time - time_before).as_nanos() as f64 / count as f64, count));
            }
        }
        Ok(found)
    }
}

/// Time and number of runs of some programs, which are given by their numbers.
fn runs(names: &BTreeMap<u32, String>) -> Result<BTreeMap<String, (Duration, u64)>> {
    let mut found = BTreeMap::new();
    for program in loaded_programs() {
        let program = program?;
        if let Some(name) = names.get(&program.id()) {
            found.insert(name.clone(), (program.run_time(), program.run_count()));
        }
    }
    Ok(found)
}
