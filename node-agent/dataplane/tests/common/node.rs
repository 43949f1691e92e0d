//! A node with an uplink and two pods, whose programs are run on golden packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use skep_dataplane::{Config, Counters, Dataplane, DropReason, PodAttachment};

use super::packet::Packet;
use super::{Netns, Sandbox, sandboxed, wire};

/// The addresses of a cluster in one family.
#[derive(Debug)]
pub struct Plan {
    pub node: IpAddr,
    /// On the node's own network.
    pub neighbor: IpAddr,
    pub outside: IpAddr,
    /// A network that holds [`Plan::outside`].
    pub outside_net: &'static str,
    pub router: IpAddr,
    pub pod_a: IpAddr,
    pub pod_b: IpAddr,
    /// A pod of another node.
    pub elsewhere: IpAddr,
    /// A ClusterIP.
    pub vip: IpAddr,
    /// An address of a load balancer.
    pub balancer: IpAddr,
    pub multicast: IpAddr,
    /// Bytes of an IP header.
    pub header: usize,
    /// Bits of an address.
    pub bits: u8,
}

impl Plan {
    /// Another client outside.
    pub fn client(&self, n: u8) -> IpAddr {
        match self.outside {
            IpAddr::V4(_) => Ipv4Addr::new(198, 51, 101, n).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0x101, 0, 0, 0, 0, n.into()).into(),
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, c: u16, d: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, last))
}

pub const V4: Plan = Plan {
    node: v4(192, 0, 2, 10),
    neighbor: v4(192, 0, 2, 99),
    outside: v4(198, 51, 100, 7),
    outside_net: "198.51.100.0/24",
    router: v4(203, 0, 113, 1),
    pod_a: v4(10, 244, 0, 5),
    pod_b: v4(10, 244, 0, 6),
    elsewhere: v4(10, 244, 9, 9),
    vip: v4(10, 96, 0, 10),
    balancer: v4(203, 0, 113, 80),
    multicast: v4(224, 0, 0, 251),
    header: 20,
    bits: 32,
};

pub const V6: Plan = Plan {
    node: v6(0x2001, 0xdb8, 0, 2, 0x10),
    neighbor: v6(0x2001, 0xdb8, 0, 2, 0x99),
    outside: v6(0x2001, 0xdb8, 0x100, 0, 7),
    outside_net: "2001:db8:100::/48",
    router: v6(0x2001, 0xdb8, 0x113, 0, 1),
    pod_a: v6(0xfd00, 0x10, 0x244, 0, 5),
    pod_b: v6(0xfd00, 0x10, 0x244, 0, 6),
    elsewhere: v6(0xfd00, 0x10, 0x244, 9, 9),
    vip: v6(0xfd00, 0x10, 0x96, 0, 0x10),
    balancer: v6(0x2001, 0xdb8, 0x113, 0, 0x80),
    multicast: v6(0xff02, 0, 0, 0, 0xfb),
    header: 40,
    bits: 128,
};

/// Runs a test in a sandbox for each family, on a node of its own that has both.
pub fn both(test: fn(&Sandbox, &'static Plan)) {
    for plan in [&V4, &V6] {
        sandboxed(move |sandbox| {
            println!("{} and its like", plan.outside);
            test(sandbox, plan);
        });
    }
}

/// Verdicts as `BPF_PROG_TEST_RUN` returns them.
pub const NEXT: u32 = u32::MAX;
pub const DROP: u32 = 2;
pub const REDIRECT: u32 = 7;

pub struct Node {
    pub dataplane: Dataplane,
    pub a: u32,
    pub b: u32,
    pub uplink: u32,
    pub far: [Netns; 3],
}

impl Node {
    pub fn new(sandbox: &Sandbox) -> Self {
        let far = [Netns::new(), Netns::new(), Netns::new()];
        let uplink = wire::veth("uplink", &far[0]);
        wire::address(uplink, V4.node, 24);
        wire::address(uplink, V6.node, 64);
        let config = Config { uplink: Some("uplink".into()), ..sandbox.config() };
        let dataplane = Dataplane::open(config).unwrap_or_else(|e| panic!("{e}"));
        let (a, b) = (wire::veth("vetha", &far[1]), wire::veth("vethb", &far[2]));
        for (ifindex, addr, name) in [(a, [V4.pod_a, V6.pod_a], "a"), (b, [V4.pod_b, V6.pod_b], "b")] {
            assert!(!dataplane.attach_pod(&pod(ifindex, &addr, name)).unwrap());
        }
        Self { dataplane, a, b, uplink, far }
    }

    pub fn drops(&self) -> Vec<(DropReason, bool, u64)> {
        let counters = self.dataplane.counters().unwrap();
        counters.node_drops.iter().map(|(_, d)| (d.reason, d.inbound, d.packets)).collect()
    }

    /// What a pod's interface dropped, by reason.
    pub fn drops_of(&self, ifindex: u32) -> Vec<DropReason> {
        let counters = self.dataplane.counters().unwrap();
        let pod = counters.pods.into_iter().find(|p| p.pod.ifindex == ifindex).unwrap();
        pod.drops.into_iter().map(|d| d.reason).collect()
    }
}

pub fn pod(ifindex: u32, addresses: &[IpAddr], name: &str) -> PodAttachment {
    PodAttachment {
        ifindex,
        addresses: addresses.to_vec(),
        uid: format!("uid-{name}"),
        namespace: "default".into(),
        name: name.into(),
    }
}

/// Runs a pinned program on a packet that is on an interface.
pub fn run(sandbox: &Sandbox, program: &str, ifindex: u32, packet: &Packet) -> (u32, Packet) {
    let program = SchedClassifier::from_pin(sandbox.program(program)).unwrap();
    let mut context = [0_u8; 192];
    context[40..44].copy_from_slice(&ifindex.to_ne_bytes()); // __sk_buff.ifindex
    let mut out = vec![0_u8; packet.0.len() + 64];
    let options = TestRunOptions {
        data_in: Some(&packet.0),
        data_out: Some(&mut out),
        ctx_in: Some(&context),
        ..TestRunOptions::default()
    };
    let result = program.test_run(options).unwrap();
    out.truncate(result.data_size_out as usize);
    (result.return_value, Packet(out))
}

pub fn traffic(counters: &Counters, ifindex: u32) -> (u64, u64, u64, u64) {
    let t = counters.pods.iter().find(|p| p.pod.ifindex == ifindex).unwrap().traffic;
    (t.rx_packets, t.rx_bytes, t.tx_packets, t.tx_bytes)
}
