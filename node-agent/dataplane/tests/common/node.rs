//! A node with an uplink and two pods, whose programs are run on golden packets.

use std::net::Ipv4Addr;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use skep_dataplane::{Config, Counters, Dataplane, DropReason, PodAttachment};

use super::packet::Packet;
use super::{Netns, Sandbox, wire};

pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub const POD_A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 5);
pub const POD_B: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 6);
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 244, 9, 9);

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
        wire::address(uplink, NODE, 24);
        let config = Config { uplink: Some("uplink".into()), ..sandbox.config() };
        let dataplane = Dataplane::open(config).unwrap_or_else(|e| panic!("{e}"));
        let (a, b) = (wire::veth("vetha", &far[1]), wire::veth("vethb", &far[2]));
        for (ifindex, addr, name) in [(a, POD_A, "a"), (b, POD_B, "b")] {
            assert!(!dataplane.attach_pod(&pod(ifindex, addr, name)).unwrap());
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

pub fn pod(ifindex: u32, addr: Ipv4Addr, name: &str) -> PodAttachment {
    PodAttachment {
        ifindex,
        addresses: vec![addr.into()],
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
