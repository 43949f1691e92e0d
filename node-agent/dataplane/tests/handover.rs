//! An agent takes over from one whose maps had another layout, with connections of every kind open meanwhile, and killed
//! before each of the system calls by which it does so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
#![allow(unsafe_code)] // a process that is stopped at system calls

mod common;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use aya::maps::MapData;
use aya_obj::generated::{bpf_cmd, bpf_map_type};
use common::{Netns, Sandbox, sandboxed, wire};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use skep_dataplane::{
    Config, Dataplane, Endpoint, Error, PodAttachment, PortSpec, Protocol, ServiceSpec, ServiceView,
};

const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const PODS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 244, 0, 5), Ipv4Addr::new(10, 244, 0, 6)];
const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const WAIT: Option<Duration> = Some(Duration::from_secs(10));

/// The layout before this one.
const FORMER: u32 = skep_abi::LAYOUT - 1;

fn config(sandbox: &Sandbox) -> Config {
    Config { uplink: Some("uplink".into()), ..sandbox.config() }
}

fn open(sandbox: &Sandbox) -> Dataplane {
    Dataplane::open(config(sandbox)).unwrap_or_else(|e| panic!("{e}"))
}

/// Answers with what it hears, on port 8080.
fn echo(at: Ipv4Addr) {
    let listener = TcpListener::bind((at, 8080)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..n]).unwrap();
                }
            });
        }
    });
    let socket = UdpSocket::bind((at, 8080)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..n], from).unwrap();
        }
    });
}

/// A connection that is kept.
enum Kept {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Kept {
    fn tcp(to: impl Into<SocketAddr>) -> Self {
        let stream = TcpStream::connect_timeout(&to.into(), WAIT.unwrap()).unwrap();
        stream.set_read_timeout(WAIT).unwrap();
        Self::Tcp(stream)
    }

    fn udp(to: impl Into<SocketAddr>) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(WAIT).unwrap();
        socket.connect(to.into()).unwrap();
        Self::Udp(socket)
    }

    fn peer(&self) -> SocketAddr {
        match self {
            Self::Tcp(stream) => stream.peer_addr(),
            Self::Udp(socket) => socket.peer_addr(),
        }
        .unwrap()
    }

    /// A word there and back.
    fn lives(&mut self, word: u32) {
        let (sent, mut heard) = (word.to_be_bytes(), [0; 4]);
        match self {
            Self::Tcp(stream) => {
                stream.write_all(&sent).unwrap();
                stream.read_exact(&mut heard).unwrap();
            }
            Self::Udp(socket) => {
                socket.send(&sent).unwrap();
                assert_eq!(socket.recv(&mut heard).unwrap(), 4);
            }
        }
        assert_eq!(heard, sent);
    }
}

struct World {
    pods: [Netns; 2],
    veths: [u32; 2],
    world: Netns,
    kept: Vec<Kept>,
    words: u32,
}

impl World {
    /// A node whose agent is gone, with a connection of each kind.
    fn new(sandbox: &Sandbox) -> Self {
        for name in ["net/ipv4/ip_forward", "net/ipv4/conf/default/proxy_arp"] {
            std::fs::write(format!("/proc/sys/{name}"), "1").unwrap();
        }
        let (world, pods) = (Netns::new(), [Netns::new(), Netns::new()]);
        wire::address(wire::veth("uplink", &world), NODE, 24);
        world.run(|| {
            wire::address(wire::index("eth0"), WORLD, 24);
            echo(WORLD);
        });
        like_the_layout_before(sandbox);
        let dataplane = open(sandbox);
        let mut veths = [0; 2];
        for (i, (netns, addr)) in pods.iter().zip(PODS).enumerate() {
            veths[i] = wire::veth(&format!("veth{i}"), netns);
            wire::address(veths[i], GATEWAY, 32);
            wire::route(veths[i], addr, 32, None);
            netns.run(move || {
                wire::address(wire::index("eth0"), addr, 32);
                wire::route(wire::index("eth0"), Ipv4Addr::UNSPECIFIED, 0, Some(GATEWAY));
            });
            let attachment = PodAttachment {
                ifindex: veths[i],
                addresses: vec![addr.into()],
                uid: format!("uid-{i}"),
                namespace: "default".into(),
                name: format!("pod-{i}"),
            };
            dataplane.attach_pod(&attachment).unwrap();
        }
        pods[1].run(|| echo(PODS[1]));
        dataplane.sync_services(&view()).unwrap();
        // Outside of the node's cgroup packets are translated, inside it addresses of sockets.
        let mut kept = pods[0].run(|| vec![Kept::tcp((VIP, 80)), Kept::udp((VIP, 80))]);
        kept.extend(pods[0].run(|| vec![Kept::tcp((WORLD, 8080)), Kept::udp((WORLD, 8080))]));
        sandbox.enter_cgroup();
        kept.extend([Kept::tcp((VIP, 80)), Kept::udp((VIP, 80))]);
        Self { pods, veths, world, kept, words: 0 }
    }

    /// What lived lives, and what is new succeeds.
    fn lives(&mut self) {
        self.words += 1;
        let word = self.words;
        self.kept.iter_mut().for_each(|kept| kept.lives(word));
        for socket in &self.kept[4..] {
            assert_eq!(socket.peer(), (VIP, 80).into(), "getpeername shows the Service");
        }
        Kept::tcp((VIP, 80)).lives(word);
        Kept::udp((VIP, 80)).lives(word);
        self.pods[0].run(move || {
            Kept::tcp((VIP, 80)).lives(word);
            Kept::udp((WORLD, 8080)).lives(word);
        });
    }
}

fn view() -> ServiceView {
    let port = |protocol| PortSpec {
        name: format!("{protocol:?}"),
        protocol,
        port: 80,
        node_port: None,
        endpoints: vec![Endpoint::ready(PODS[1].into(), 8080, true)],
    };
    ServiceView {
        services: vec![ServiceSpec {
            namespace: "default".into(),
            name: "web".into(),
            cluster_ips: vec![VIP.into()],
            ports: vec![port(Protocol::Tcp), port(Protocol::Udp)],
            affinity_seconds: Some(600),
            ..ServiceSpec::default()
        }],
        ..ServiceView::default()
    }
}

fn pins(sandbox: &Sandbox, layout: u32) -> PathBuf {
    sandbox.dir.join(format!("skep/test/n1_example_org/v{layout}"))
}

/// Where the layout before this one had another kind of map, makes it, so that the first agent works with it.
fn like_the_layout_before(sandbox: &Sandbox) {
    let dir = pins(sandbox, skep_abi::LAYOUT).join("maps");
    std::fs::create_dir_all(&dir).unwrap();
    let kind = bpf_map_type::BPF_MAP_TYPE_LRU_HASH as u32;
    let shape = aya_obj::Map::new_from_params(kind, 40, 40, 65_536, 0);
    MapData::create(shape, "CONNTRACK", None).unwrap().pin(dir.join("CONNTRACK")).unwrap();
}

/// Makes what an agent left look as one of the layout before had left it.
fn age(sandbox: &Sandbox) {
    let old = pins(sandbox, FORMER);
    std::fs::rename(pins(sandbox, skep_abi::LAYOUT), &old).unwrap();
    std::fs::remove_file(old.join("maps/FRAGMENTS")).unwrap();
}

/// The kernel's numbers of every link, by the name of its pin.
fn links(sandbox: &Sandbox, layout: u32) -> BTreeMap<String, u32> {
    let mut links = BTreeMap::new();
    for entry in std::fs::read_dir(pins(sandbox, layout).join("links")).unwrap() {
        let entry = entry.unwrap();
        let link = aya::programs::links::PinnedLink::from_pin(entry.path()).unwrap();
        let link = aya::programs::links::FdLink::from(link);
        let id = aya::programs::links::FdLink::info(&link).unwrap().id();
        links.insert(entry.file_name().into_string().unwrap(), id);
    }
    links
}

#[test]
fn connections_of_every_kind_live_through_another_layout() {
    sandboxed(|sandbox| {
        let mut world = World::new(sandbox);
        world.lives();
        age(sandbox);
        let before = links(sandbox, FORMER);
        assert_eq!(before.len(), 8 + 2 + 4);
        world.lives();

        let dataplane = open(sandbox);
        let opened = dataplane.opened();
        assert_eq!((opened.former_layout, opened.links_created), (Some(FORMER), 0), "{opened:?}");
        // Both halves of the five connections that were translated packet by packet, at least.
        assert!(opened.entries_carried >= 10, "{opened:?}");
        assert_eq!(
            links(sandbox, skep_abi::LAYOUT),
            before,
            "every link is the same, only its program is not"
        );
        assert!(!pins(sandbox, FORMER).exists());
        assert_eq!(dataplane.sync_services(&view()).unwrap().writes, 0, "the tables were taken over whole");
        world.lives();
        let counters = dataplane.counters().unwrap();
        for veth in world.veths {
            let pod = counters.pods.iter().find(|p| p.pod.ifindex == veth).unwrap();
            assert!(pod.traffic.rx_packets > 30, "counted all along: {:?}", pod.traffic);
        }
        assert!(dataplane.list_attached().unwrap().iter().all(|p| p.attached));
        let status = dataplane.status().unwrap();
        let places: usize = status.programs.iter().map(|p| p.attach_points.len()).sum();
        assert_eq!(places, before.len());
        drop(world.world);
    });
}

/// Whether a system call changes what is pinned, loaded, attached or stored.
fn changes(number: u64, first: u64) -> bool {
    use bpf_cmd::*;
    let bpf = [
        BPF_MAP_CREATE,
        BPF_MAP_UPDATE_ELEM,
        BPF_MAP_DELETE_ELEM,
        BPF_PROG_LOAD,
        BPF_OBJ_PIN,
        BPF_LINK_CREATE,
        BPF_LINK_UPDATE,
        BPF_LINK_DETACH,
    ];
    let files = [
        libc::SYS_rename,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_unlink,
        libc::SYS_unlinkat,
        libc::SYS_mkdir,
        libc::SYS_mkdirat,
        libc::SYS_rmdir,
    ];
    if number == libc::SYS_bpf as u64 {
        bpf.iter().any(|cmd| *cmd as u64 == first)
    } else {
        files.iter().any(|file| *file as u64 == number)
    }
}

/// An agent that opens the dataplane in a process of its own and is killed when it is about to make its `at`th change; says
/// how many it was about to make, and whether it came to its end.
fn agent_killed_at(sandbox: &Sandbox, at: usize) -> (usize, bool) {
    let config = config(sandbox);
    // SAFETY: the child only opens the dataplane and ends; locks of other threads do not matter to it but for the
    // allocator's, which the C library keeps whole over a fork.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let traced = ptrace::traceme().is_ok() && raise(Signal::SIGSTOP).is_ok();
            let opened = traced && Dataplane::open(config).is_ok();
            // SAFETY: ends the process, without what others had to do at its end.
            unsafe { libc::_exit(if opened { 0 } else { 1 }) }
        }
    };
    assert!(matches!(waitpid(child, None).unwrap(), WaitStatus::Stopped(..)));
    ptrace::setoptions(child, ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL)
        .unwrap();
    let mut made = 0;
    loop {
        ptrace::syscall(child, None).unwrap();
        match waitpid(child, None).unwrap() {
            WaitStatus::PtraceSyscall(_) => {}
            WaitStatus::Exited(_, code) => {
                assert_eq!(code, 0, "an agent that nobody killed");
                return (made, true);
            }
            other => panic!("{other:?}"),
        }
        if !about_to_change(child) {
            continue;
        }
        made += 1;
        if made == at {
            kill(child, Signal::SIGKILL).unwrap();
            while !matches!(waitpid(child, None).unwrap(), WaitStatus::Signaled(..)) {}
            return (made, false);
        }
    }
}

fn about_to_change(child: Pid) -> bool {
    let info = ptrace::syscall_info(child).unwrap();
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return false;
    }
    // SAFETY: the kernel says that this is the part that it filled.
    let entry = unsafe { info.u.entry };
    changes(entry.nr, entry.args[0])
}

#[test]
fn an_agent_killed_before_any_of_its_changes_is_followed_by_one_that_finishes() {
    sandboxed(|sandbox| {
        let mut world = World::new(sandbox);
        age(sandbox);
        let before = links(sandbox, FORMER);
        let (all, ended) = agent_killed_at(sandbox, usize::MAX);
        assert!(ended && all > 100, "{all} changes");
        world.lives();
        // Every one of them with SKEP_TEST_LONG, and some of each stretch otherwise.
        let step = if std::env::var_os("SKEP_TEST_LONG").is_some() { 1 } else { all / 24 };
        for at in (1..=all).step_by(step) {
            age(sandbox);
            let (_, ended) = agent_killed_at(sandbox, at);
            world.lives();
            let dataplane = open(sandbox);
            assert!(!ended || dataplane.opened().former_layout.is_none());
            assert_eq!(links(sandbox, skep_abi::LAYOUT), before, "killed before change {at} of {all}");
            assert!(!pins(sandbox, FORMER).exists(), "killed before change {at} of {all}");
            assert_eq!(dataplane.sync_services(&view()).unwrap().writes, 0);
            assert_eq!(dataplane.list_attached().unwrap().len(), 2);
            drop(dataplane);
            world.lives();
        }
    });
}

#[test]
fn what_a_newer_build_pinned_is_left_alone_unless_it_never_came_into_force() {
    sandboxed(|sandbox| {
        let newer = pins(sandbox, skep_abi::LAYOUT + 1);
        drop(sandbox.open());
        for dir in ["maps", "programs", "links"] {
            std::fs::create_dir_all(newer.join(dir)).unwrap();
        }
        drop(sandbox.open());
        assert!(!newer.exists(), "nothing of it was in force");
        std::fs::rename(pins(sandbox, skep_abi::LAYOUT), &newer).unwrap();
        let before = links(sandbox, skep_abi::LAYOUT + 1);
        let error = Dataplane::open(sandbox.config()).unwrap_err();
        assert!(matches!(error, Error::Layout { found, .. } if found == skep_abi::LAYOUT + 1), "{error}");
        assert_eq!(links(sandbox, skep_abi::LAYOUT + 1), before);
    });
}

#[test]
fn an_object_that_cannot_be_loaded_leaves_the_older_layout_in_force() {
    sandboxed(|sandbox| {
        let mut world = World::new(sandbox);
        age(sandbox);
        let before = links(sandbox, FORMER);
        let object = std::env::temp_dir().join(format!("skep-dataplane-test-{}.o", std::process::id()));
        // Whole enough to be read; a program of another type than its place asks for is found late.
        let mut bytes = std::fs::read(config(sandbox).object).unwrap();
        let (from, to) = (b"skep_to_net", b"skep_to_nut");
        while let Some(at) = bytes.windows(from.len()).position(|w| w == from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
        std::fs::write(&object, bytes).unwrap();
        let error = Dataplane::open(Config { object: object.clone(), ..config(sandbox) }).unwrap_err();
        assert!(matches!(error, Error::Program { .. }), "{error}");
        std::fs::remove_file(object).unwrap();
        assert_eq!(links(sandbox, FORMER), before);
        world.lives();
        assert_eq!(open(sandbox).opened().former_layout, Some(FORMER));
        world.lives();
    });
}
