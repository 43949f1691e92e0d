//! What leads into the cluster from outside (node ports, external addresses, load balancers), on golden packets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use common::node::{DROP, ELSEWHERE, NEXT, NODE, Node, OUTSIDE, POD_A, POD_B, REDIRECT, run};
use common::packet::{Ip, Packet};
use common::{Sandbox, sandboxed};
use skep_dataplane::{DropReason, Endpoint, Network, PortSpec, Protocol, ServiceSpec, ServiceView};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const BALANCER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const NODE_PORT: u16 = 30_080;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A Service on port 80 of [`VIP`], [`BALANCER`] and on [`NODE_PORT`], for TCP and UDP.
fn exposed(backends: &[Ipv4Addr]) -> ServiceSpec {
    let endpoint = |addr: &Ipv4Addr| Endpoint::ready((*addr).into(), 8080, [POD_A, POD_B].contains(addr));
    let port = |protocol| PortSpec {
        name: format!("{protocol:?}"),
        protocol,
        port: 80,
        node_port: Some(NODE_PORT),
        endpoints: backends.iter().map(endpoint).collect(),
    };
    ServiceSpec {
        namespace: "default".into(),
        name: "web".into(),
        cluster_ips: vec![VIP.into()],
        load_balancer_ips: vec![BALANCER.into()],
        ports: vec![port(Protocol::Tcp), port(Protocol::Udp)],
        ..ServiceSpec::default()
    }
}

fn sync(node: &Node, service: ServiceSpec) {
    let view = ServiceView { services: vec![service], ..ServiceView::default() };
    assert!(node.dataplane.sync_services(&view).unwrap().conflicts.is_empty());
}

/// In by the uplink.
fn enter(sandbox: &Sandbox, node: &Node, packet: &Packet) -> Packet {
    let (verdict, out) = run(sandbox, "skep_from_net", node.uplink, packet);
    assert_eq!(verdict, NEXT, "{packet:x?}");
    out
}

/// Out by the uplink.
fn leave(sandbox: &Sandbox, node: &Node, packet: &Packet) -> Packet {
    let (verdict, out) = run(sandbox, "skep_to_net", node.uplink, packet);
    assert_eq!(verdict, NEXT, "{packet:x?}");
    out
}

fn ends(packet: &Packet) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
    let (sport, dport) = packet.ports();
    ((packet.src(), sport), (packet.dst(), dport))
}

#[test]
fn clients_outside_reach_a_pod_of_the_node_under_their_own_address() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        sync(&node, exposed(&[POD_B]));
        for (to, port, sport) in [(NODE, NODE_PORT, 50_000), (BALANCER, 80, 50_010), (VIP, 80, 50_020)] {
            for packet in [
                Packet::tcp(Ip::new(OUTSIDE, to), sport, port, SYN),
                Packet::udp(Ip::new(OUTSIDE, to), sport, port, true),
                Packet::udp(Ip::new(OUTSIDE, to), sport + 1, port, false),
            ] {
                let sport = packet.ports().0;
                let out = enter(sandbox, &node, &packet);
                assert_eq!(ends(&out), ((OUTSIDE, sport), (POD_B, 8080)));
                out.check();
                let back = leave(sandbox, &node, &out.answer());
                assert_eq!(ends(&back), ((to, port), (OUTSIDE, sport)));
                back.check();
            }
        }
        let other = Packet::tcp(Ip::new(OUTSIDE, NODE), 50_000, 30_081, SYN);
        assert_eq!(enter(sandbox, &node, &other), other, "another port of the node");
        let other = Packet::tcp(Ip::new(OUTSIDE, BALANCER), 50_000, NODE_PORT, SYN);
        assert_eq!(enter(sandbox, &node, &other), other, "an address that is not the node's");
        let own = Packet::tcp(Ip::new(POD_B, OUTSIDE), 8080, 443, SYN);
        assert_eq!(leave(sandbox, &node, &own).src(), NODE, "a connection of the pod's own");
    });
}

#[test]
fn a_pod_elsewhere_answers_by_way_of_the_node() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        sync(&node, exposed(&[ELSEWHERE]));
        for packet in [
            Packet::tcp(Ip::new(OUTSIDE, NODE), 50_000, NODE_PORT, SYN),
            Packet::udp(Ip::new(OUTSIDE, NODE), 50_000, NODE_PORT, true),
        ] {
            let inside = enter(sandbox, &node, &packet);
            assert_eq!(ends(&inside), ((OUTSIDE, 50_000), (ELSEWHERE, 8080)));
            let sent = leave(sandbox, &node, &inside);
            let (from, port) = ends(&sent).0;
            assert_eq!((from, ends(&sent).1), (NODE, (ELSEWHERE, 8080)));
            assert!(port >= 61_000, "{port}");
            sent.check();
            let back = enter(sandbox, &node, &sent.answer());
            assert_eq!(ends(&back), ((ELSEWHERE, 8080), (OUTSIDE, 50_000)));
            let back = leave(sandbox, &node, &back);
            assert_eq!(ends(&back), ((NODE, NODE_PORT), (OUTSIDE, 50_000)));
            back.check();
        }
        let passing = Packet::tcp(Ip::new(OUTSIDE, ELSEWHERE), 50_001, 8080, SYN);
        assert_eq!(leave(sandbox, &node, &passing), passing, "what this node did not send there");
    });
}

#[test]
fn a_local_policy_keeps_clients_outside_to_the_pods_of_the_node() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        let policy = |backends: &[Ipv4Addr]| ServiceSpec { external_local: true, ..exposed(backends) };
        sync(&node, policy(&[ELSEWHERE, POD_B]));
        for sport in 50_000..50_020 {
            let packet = Packet::tcp(Ip::new(OUTSIDE, NODE), sport, NODE_PORT, SYN);
            assert_eq!(ends(&enter(sandbox, &node, &packet)), ((OUTSIDE, sport), (POD_B, 8080)));
        }
        sync(&node, policy(&[ELSEWHERE]));
        let packet = Packet::tcp(Ip::new(OUTSIDE, NODE), 50_100, NODE_PORT, SYN);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &packet).0, DROP, "not a word");
        assert_eq!(node.drops(), [(DropReason::NoLocalBackend, true, 1)]);
        // A pod of the cluster is no client outside.
        let packet = Packet::tcp(Ip::new(POD_A, NODE), 50_100, NODE_PORT, SYN);
        let (verdict, out) = run(sandbox, "skep_from_pod", node.a, &packet);
        assert_eq!((verdict, ends(&out)), (NEXT, ((POD_A, 50_100), (ELSEWHERE, 8080))));
        // For a cluster address the policy of the inside counts.
        sync(&node, ServiceSpec { internal_local: true, ..exposed(&[ELSEWHERE]) });
        let packet = Packet::tcp(Ip::new(POD_A, VIP), 50_101, 80, SYN);
        assert_eq!(run(sandbox, "skep_from_pod", node.a, &packet).0, DROP);
        assert_eq!(node.drops_of(node.a), [DropReason::NoLocalBackend]);
        let of_host = Packet::tcp(Ip::new(NODE, VIP), 50_102, 80, SYN);
        assert_eq!(run(sandbox, "skep_to_net", node.uplink, &of_host).0, DROP, "nor does it leave the node");
    });
}

#[test]
fn source_ranges_bind_the_balancers_addresses_alone() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        let stranger = Ipv4Addr::new(198, 51, 101, 7);
        let range = |text| vec![Network::parse(text).unwrap()];
        sync(&node, ServiceSpec { source_ranges: range("198.51.100.0/24"), ..exposed(&[POD_B]) });
        let syn = |from, to, port| Packet::tcp(Ip::new(from, to), 20_000 + port, port, SYN);
        assert_eq!(enter(sandbox, &node, &syn(OUTSIDE, BALANCER, 80)).dst(), POD_B);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &syn(stranger, BALANCER, 80)).0, DROP);
        assert_eq!(node.drops(), [(DropReason::SourceRange, true, 1)]);
        assert_eq!(
            enter(sandbox, &node, &syn(stranger, NODE, NODE_PORT)).dst(),
            POD_B,
            "the node port is open"
        );
        assert_eq!(
            run(sandbox, "skep_from_pod", node.a, &syn(POD_A, BALANCER, 80)).0,
            DROP,
            "pods are asked, too"
        );
        sync(&node, ServiceSpec { source_ranges: range("198.51.101.7/32"), ..exposed(&[POD_B]) });
        let again = Packet::tcp(Ip::new(stranger, BALANCER), 50_001, 80, SYN);
        assert_eq!(enter(sandbox, &node, &again).dst(), POD_B);
        let again = Packet::tcp(Ip::new(OUTSIDE, BALANCER), 50_001, 80, SYN);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &again).0, DROP);
    });
}

#[test]
fn a_service_without_endpoints_refuses_aloud() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        sync(&node, exposed(&[]));
        for (program, ifindex, from, to, port) in [
            ("skep_from_net", node.uplink, OUTSIDE, NODE, NODE_PORT),
            ("skep_from_net", node.uplink, OUTSIDE, BALANCER, 80),
            ("skep_from_pod", node.a, POD_A, VIP, 80),
            ("skep_from_pod", node.a, POD_A, NODE, NODE_PORT),
        ] {
            let syn = Packet::tcp(Ip::new(from, to), 50_000, port, SYN);
            let (verdict, out) = run(sandbox, program, ifindex, &syn);
            assert_eq!((verdict, ends(&out)), (REDIRECT, ((to, port), (from, 50_000))), "{to}:{port}");
            assert_eq!((out.flags(), out.0.len()), (0x14, 54));
            assert_eq!((&out.0[..6], &out.0[6..12]), (&syn.0[6..12], &syn.0[..6]), "back where it came from");
            out.check();
            for checksum in [true, false] {
                let datagram = Packet::udp(Ip::new(from, to), 50_000, port, checksum);
                let (verdict, out) = run(sandbox, program, ifindex, &datagram);
                assert_eq!((verdict, out.src(), out.dst()), (REDIRECT, to, from));
                assert_eq!(&out.payload()[..2], [3, 3], "port unreachable");
                assert_eq!(ends(&out.quoted()), ends(&datagram));
                out.check();
            }
        }
        let reset = Packet::tcp(Ip::new(OUTSIDE, NODE), 50_000, NODE_PORT, 0x04);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &reset).0, DROP, "nothing answers a reset");
        let options = Packet::tcp(Ip { options: 1, ..Ip::new(OUTSIDE, NODE) }, 50_000, NODE_PORT, SYN);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &options).0, DROP);
    });
}

#[test]
fn fragments_from_outside_follow_their_first_to_a_pod_elsewhere() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        sync(&node, exposed(&[ELSEWHERE]));
        let at = |src, dst, id, frag| Ip { frag, id, ..Ip::new(src, dst) };
        let first = Packet::udp(at(OUTSIDE, NODE, 7, 0x2000), 50_000, NODE_PORT, false);
        let sent = leave(sandbox, &node, &enter(sandbox, &node, &first));
        let later = Packet::fragment(at(OUTSIDE, NODE, 7, 3), 17);
        let out = leave(sandbox, &node, &enter(sandbox, &node, &later));
        assert_eq!((out.src(), out.dst(), out.payload()), (NODE, ELSEWHERE, later.payload()));
        out.check_ip();
        let port = ends(&sent).0.1;
        let first = Packet::udp(at(ELSEWHERE, NODE, 8, 0x2000), 8080, port, false);
        let back = leave(sandbox, &node, &enter(sandbox, &node, &first));
        assert_eq!(ends(&back), ((NODE, NODE_PORT), (OUTSIDE, 50_000)));
        let later = Packet::fragment(at(ELSEWHERE, NODE, 8, 3), 17);
        let out = leave(sandbox, &node, &enter(sandbox, &node, &later));
        assert_eq!((out.src(), out.dst(), out.payload()), (NODE, OUTSIDE, later.payload()));
        out.check_ip();
    });
}

#[test]
fn icmp_errors_about_translated_packets_reach_both_sides() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        sync(&node, exposed(&[POD_B]));
        let asked = Packet::udp(Ip::new(OUTSIDE, NODE), 50_000, NODE_PORT, true);
        let inside = enter(sandbox, &node, &asked);
        // The pod's port is closed: the client hears of the node port.
        let out = leave(sandbox, &node, &Packet::icmp_error(Ip::new(POD_B, OUTSIDE), 3, 3, &inside));
        assert_eq!((out.src(), out.dst(), ends(&out.quoted())), (NODE, OUTSIDE, ends(&asked)));
        out.check();
        out.quoted().check_ip();
        // A router cannot carry the answer: the pod hears of the client.
        let answer = inside.answer();
        let sent = leave(sandbox, &node, &answer);
        let out = enter(sandbox, &node, &Packet::icmp_error(Ip::new(ROUTER, NODE), 3, 4, &sent));
        assert_eq!((out.src(), out.dst(), ends(&out.quoted())), (ROUTER, POD_B, ends(&answer)));
        out.check();
        out.quoted().check_ip();

        sync(&node, exposed(&[ELSEWHERE]));
        let asked = Packet::udp(Ip::new(OUTSIDE, NODE), 50_001, NODE_PORT, true);
        let sent = leave(sandbox, &node, &enter(sandbox, &node, &asked));
        let error = Packet::icmp_error(Ip::new(ELSEWHERE, NODE), 3, 3, &sent);
        let out = leave(sandbox, &node, &enter(sandbox, &node, &error));
        assert_eq!((out.src(), out.dst(), ends(&out.quoted())), (NODE, OUTSIDE, ends(&asked)));
        out.check();
        let answer = sent.answer();
        let back = leave(sandbox, &node, &enter(sandbox, &node, &answer));
        let error = Packet::icmp_error(Ip::new(OUTSIDE, NODE), 3, 3, &back);
        let out = leave(sandbox, &node, &enter(sandbox, &node, &error));
        assert_eq!((out.dst(), ends(&out.quoted())), (ELSEWHERE, ends(&answer)));
        out.check();

        // Between pods, by a cluster address.
        sync(&node, exposed(&[POD_B]));
        let asked = Packet::udp(Ip::new(POD_A, VIP), 50_002, 80, true);
        let sent = run(sandbox, "skep_from_pod", node.a, &asked).1;
        let error = Packet::icmp_error(Ip::new(POD_B, POD_A), 3, 3, &sent);
        let (verdict, out) = run(sandbox, "skep_from_pod", node.b, &error);
        assert_eq!((verdict, out.src(), out.dst()), (REDIRECT, VIP, POD_A));
        assert_eq!(ends(&out.quoted()), ends(&asked));
        out.check();
    });
}

#[test]
fn a_pod_reaches_itself_by_its_service() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        sync(&node, exposed(&[POD_A]));
        for (to, port) in [(VIP, 80), (NODE, NODE_PORT)] {
            let asked = Packet::tcp(Ip::new(POD_A, to), 20_000 + port, port, SYN);
            let (verdict, out) = run(sandbox, "skep_from_pod", node.a, &asked);
            assert_eq!((verdict, out.src(), ends(&out).1), (REDIRECT, NODE, (POD_A, 8080)));
            out.check();
            let (verdict, back) = run(sandbox, "skep_from_pod", node.a, &out.answer());
            assert_eq!((verdict, ends(&back)), (REDIRECT, ((to, port), (POD_A, 20_000 + port))));
            back.check();
        }
    });
}

#[test]
fn a_client_stays_with_its_backend_while_affinity_lasts() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        let pods = [POD_A, POD_B, ELSEWHERE];
        let sticky =
            |backends: &[Ipv4Addr]| ServiceSpec { affinity_seconds: Some(3600), ..exposed(backends) };
        let reached = |from: Ipv4Addr, ports: std::ops::Range<u16>| -> BTreeSet<Ipv4Addr> {
            let syn = |sport| Packet::tcp(Ip::new(from, NODE), sport, NODE_PORT, SYN);
            ports.map(|sport| enter(sandbox, &node, &syn(sport)).dst()).collect()
        };
        sync(&node, sticky(&pods));
        let first = reached(OUTSIDE, 20_000..20_040);
        assert_eq!(first.len(), 1);
        // By another address of the same port, too.
        let syn = Packet::tcp(Ip::new(OUTSIDE, BALANCER), 20_100, 80, SYN);
        assert_eq!(enter(sandbox, &node, &syn).dst(), *first.first().unwrap());
        // 40 other clients are not all sent to the same place: a chance of 1 in 3^39.
        let others: BTreeSet<Ipv4Addr> =
            (1..=40).flat_map(|n| reached(Ipv4Addr::new(198, 51, 101, n), 20_000..20_001)).collect();
        assert!(others.len() > 1, "{others:?}");
        // The backend goes: another is chosen, and kept.
        let left: Vec<Ipv4Addr> = pods.into_iter().filter(|p| !first.contains(p)).collect();
        sync(&node, sticky(&left));
        let second = reached(OUTSIDE, 21_000..21_040);
        assert_eq!(second.len(), 1);
        assert!(left.contains(second.first().unwrap()));
        // Affinity is switched off: 40 throws at two, one side only with a chance of 1 in 2^39.
        sync(&node, exposed(&left));
        assert_eq!(reached(OUTSIDE, 22_000..22_040).len(), 2);
    });
}

#[test]
fn a_new_connection_takes_no_living_ones_place() {
    sandboxed(|sandbox| {
        let node = Node::new(sandbox);
        sync(&node, exposed(&[POD_B]));
        let one = enter(sandbox, &node, &Packet::tcp(Ip::new(OUTSIDE, NODE), 50_000, NODE_PORT, SYN));
        leave(sandbox, &node, &one.answer());
        let other = |flags| Packet::tcp(Ip::new(OUTSIDE, BALANCER), 50_000, 80, flags);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &other(SYN)).0, DROP);
        assert_eq!(node.drops(), [(DropReason::TupleInUse, true, 1)]);
        assert_eq!(leave(sandbox, &node, &one.answer()).src(), NODE, "the first goes on");
        enter(sandbox, &node, &Packet::tcp(Ip::new(OUTSIDE, NODE), 50_000, NODE_PORT, 0x01 | ACK));
        assert_eq!(enter(sandbox, &node, &other(SYN)).dst(), POD_B, "once the first has ended");
        assert_eq!(leave(sandbox, &node, &one.answer()).src(), BALANCER);
    });
}
