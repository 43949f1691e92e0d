//! What IPv6 alone has, on golden packets: extension headers, Neighbor Discovery, and a node without an address of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use std::net::{IpAddr, Ipv4Addr};

use common::node::{DROP, NEXT, Node, REDIRECT, V6, run};
use common::packet::{Ip, Packet, segment};
use common::{Sandbox, sandboxed, wire};
use skep_dataplane::{Config, Dataplane, DropReason, Endpoint, PortSpec, Protocol, ServiceSpec, ServiceView};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;

/// A header of `units` times eight bytes of padding.
fn options(kind: u8, units: u8) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; usize::from(units) * 8];
    bytes[1..4].copy_from_slice(&[units - 1, 1, units * 8 - 4]);
    (kind, bytes)
}

/// A routing header of one address, of which so many are left to visit.
fn routing(left: u8) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; 24];
    bytes[1..4].copy_from_slice(&[2, 4, left]);
    (ROUTING, bytes)
}

fn fragment(offset: u16, more: bool, id: u32) -> (u8, Vec<u8>) {
    let place = offset << 3 | u16::from(more);
    (FRAGMENT, [&[0, 0][..], &place.to_be_bytes(), &id.to_be_bytes()].concat())
}

fn tcp(src: IpAddr, dst: IpAddr, extensions: &[(u8, Vec<u8>)]) -> Packet {
    Packet::with_extensions(Ip::new(src, dst), extensions, TCP, &segment(40_000, 80, SYN)).seal(16)
}

fn sync(node: &Node, backends: &[IpAddr]) {
    let endpoints = backends.iter().map(|ip| Endpoint::ready(*ip, 8080, true)).collect();
    let port =
        PortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: None, endpoints };
    let service = ServiceSpec {
        namespace: "default".into(),
        name: "web".into(),
        cluster_ips: vec![V6.vip],
        ports: vec![port],
        ..ServiceSpec::default()
    };
    node.dataplane.sync_services(&ServiceView { services: vec![service], ..ServiceView::default() }).unwrap();
}

#[test]
fn extension_headers_are_walked_and_kept() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        sync(&node, &[V6.pod_b]);
        let chains = [
            vec![options(HOP_BY_HOP, 1)],
            vec![options(OPTIONS, 3)],
            vec![routing(0)],
            vec![options(HOP_BY_HOP, 2), options(OPTIONS, 1), routing(0), options(OPTIONS, 4)],
            // A packet in one piece (RFC 6946).
            vec![fragment(0, false, 9), options(OPTIONS, 1)],
            [0; 6].map(|_| options(OPTIONS, 1)).to_vec(),
        ];
        for chain in chains {
            let packet = tcp(V6.pod_a, V6.outside, &chain);
            let (verdict, out) = run(sandbox, "skep_to_net", node.uplink, &packet);
            assert_eq!((verdict, out.src(), out.dst()), (NEXT, V6.node, V6.outside), "{chain:?}");
            out.check();
            assert_eq!(out.0.len(), packet.0.len());
            assert_eq!(out.0[54..out.l4()], packet.0[54..packet.l4()], "headers between are as they were");
            let packet = tcp(V6.pod_a, V6.vip, &chain);
            let (verdict, out) = run(sandbox, "skep_from_pod", node.a, &packet);
            assert_eq!((verdict, out.dst(), out.ports()), (REDIRECT, V6.pod_b, (40_000, 8080)), "{chain:?}");
            out.check();
        }
        assert!(node.drops().is_empty());
    });
}

#[test]
fn what_cannot_be_walked_does_not_leave_under_the_pods_address() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        let many = tcp(V6.pod_a, V6.outside, &[0; 7].map(|_| options(OPTIONS, 1)));
        let mut short = tcp(V6.pod_a, V6.outside, &[options(OPTIONS, 2)]);
        short.0.truncate(54 + 4);
        for packet in [&many, &short] {
            assert_eq!(run(sandbox, "skep_to_net", node.uplink, packet).0, DROP);
        }
        assert_eq!(node.drops(), [(DropReason::Malformed, false, 2)]);
        // Not a pod's: the stack's to refuse.
        let many = tcp(V6.outside, V6.node, &[0; 7].map(|_| options(OPTIONS, 1)));
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &many), (NEXT, many));
        // What is to visit other places first is not at its end: it is left alone.
        sync(&node, &[V6.pod_b]);
        let visits = tcp(V6.pod_a, V6.vip, &[routing(1)]);
        assert_eq!(run(sandbox, "skep_from_pod", node.a, &visits), (NEXT, visits));
    });
}

#[test]
fn fragments_are_told_apart_by_all_of_their_identification() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        let id = 0x0102_0007;
        let at = |frag, id| Ip { frag, id, ..Ip::new(V6.outside, V6.node) };
        let asked = Packet::udp(Ip::new(V6.pod_a, V6.outside), 40_000, 53, true);
        let port = run(sandbox, "skep_to_net", node.uplink, &asked).1.ports().0;
        let first = Packet::udp(at(0x2000, id), 53, port, true);
        let (verdict, out) = run(sandbox, "skep_from_net", node.uplink, &first);
        assert_eq!((verdict, out.dst(), out.ports()), (NEXT, V6.pod_a, (53, 40_000)));
        for other in [id ^ 1, id ^ 0x0100_0000] {
            let later = Packet::fragment(at(3, other), UDP);
            assert_eq!(run(sandbox, "skep_from_net", node.uplink, &later), (NEXT, later), "{other:x}");
        }
        let later = Packet::fragment(at(3, id), UDP);
        let (verdict, out) = run(sandbox, "skep_from_net", node.uplink, &later);
        assert_eq!((verdict, out.dst(), out.payload()), (NEXT, V6.pod_a, later.payload()));
        // Its next header need not be that of the first fragment (RFC 8200, 4.5), but what is between them is.
        let extra = Packet::with_extensions(
            Ip::new(V6.outside, V6.node),
            &[options(HOP_BY_HOP, 1), fragment(6, false, id)],
            UDP,
            &[7; 8],
        );
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &extra).1.dst(), V6.pod_a);
    });
}

#[test]
fn neighbor_discovery_passes() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        sync(&node, &[V6.pod_b]);
        let (gateway, link_local): (IpAddr, IpAddr) =
            ("fe80::1".parse().unwrap(), "fe80::ff:fe00:5".parse().unwrap());
        let group: IpAddr = "ff02::1:ff00:1".parse().unwrap();
        for (program, ifindex, src, dst) in [
            ("skep_from_pod", node.a, V6.pod_a, group),
            ("skep_from_pod", node.a, link_local, gateway),
            ("skep_to_pod", node.a, gateway, V6.pod_a),
            ("skep_to_net", node.uplink, V6.node, group),
            ("skep_to_net", node.uplink, V6.node, V6.neighbor),
            ("skep_from_net", node.uplink, V6.neighbor, V6.node),
            ("skep_from_net", node.uplink, V6.neighbor, group),
        ] {
            let packet = Packet::neighbor_solicitation(Ip::new(src, dst), V6.node);
            assert_eq!(run(sandbox, program, ifindex, &packet), (NEXT, packet), "{program}: {src} to {dst}");
        }
        assert!(node.drops().is_empty());
    });
}

/// The tables hold IPv4 addresses in this form: a packet that has it must not be taken for one of IPv4.
#[test]
fn forms_of_ipv4_addresses_are_nobodys() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        let mapped = |ip| IpAddr::from(Ipv4Addr::to_ipv6_mapped(&ip));
        let (pod, vip) = (mapped(Ipv4Addr::new(10, 244, 0, 6)), mapped(Ipv4Addr::new(10, 96, 0, 10)));
        let view = |vip: IpAddr, backend: IpAddr| {
            let endpoints = vec![Endpoint::ready(backend, 8080, true)];
            let port = PortSpec {
                name: String::new(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: None,
                endpoints,
            };
            let service = ServiceSpec { cluster_ips: vec![vip], ports: vec![port], ..ServiceSpec::default() };
            ServiceView { services: vec![service], ..ServiceView::default() }
        };
        let (of_v4, to) = (Ipv4Addr::new(10, 96, 0, 10).into(), Ipv4Addr::new(10, 244, 0, 6).into());
        node.dataplane.sync_services(&view(of_v4, to)).unwrap();
        for (src, dst) in [(V6.pod_a, vip), (V6.pod_a, pod), (pod, V6.pod_b)] {
            let packet = tcp(src, dst, &[]);
            for (program, ifindex) in
                [("skep_from_pod", node.a), ("skep_from_net", node.uplink), ("skep_to_net", node.uplink)]
            {
                assert_eq!(run(sandbox, program, ifindex, &packet), (NEXT, packet.clone()), "{program}");
            }
        }
    });
}

#[test]
fn a_node_without_an_ipv6_address_leaves_it_alone_on_the_uplink() {
    sandboxed(|sandbox: &Sandbox| {
        let far = common::Netns::new();
        let uplink = wire::veth("uplink", &far);
        wire::address(uplink, common::node::V4.node, 24);
        let config = Config { uplink: Some("uplink".into()), ..sandbox.config() };
        let dataplane = Dataplane::open(config).unwrap_or_else(|e| panic!("{e}"));
        let packet = tcp(V6.pod_a, V6.outside, &[]);
        assert_eq!(run(sandbox, "skep_to_net", uplink, &packet), (NEXT, packet));
        let packet = tcp(V6.outside, V6.pod_a, &[]);
        assert_eq!(run(sandbox, "skep_from_net", uplink, &packet), (NEXT, packet));
        assert!(dataplane.counters().unwrap().node_drops.is_empty());
    });
}
