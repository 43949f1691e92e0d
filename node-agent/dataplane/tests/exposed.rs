//! What leads into the cluster from outside (node ports, external addresses, load balancers), on golden packets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;

use common::Sandbox;
use common::node::{DROP, NEXT, Node, Plan, REDIRECT, both, run};
use common::packet::{Ip, Packet, Trouble};
use skep_dataplane::{DropReason, Endpoint, Network, PortSpec, Protocol, ServiceSpec, ServiceView};

const NODE_PORT: u16 = 30_080;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A Service on port 80 of [`Plan::vip`], [`Plan::balancer`] and on [`NODE_PORT`], for TCP and UDP.
fn exposed(p: &Plan, backends: &[IpAddr]) -> ServiceSpec {
    let endpoint = |addr: &IpAddr| Endpoint::ready(*addr, 8080, [p.pod_a, p.pod_b].contains(addr));
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
        cluster_ips: vec![p.vip],
        load_balancer_ips: vec![p.balancer],
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

fn ends(packet: &Packet) -> ((IpAddr, u16), (IpAddr, u16)) {
    let (sport, dport) = packet.ports();
    ((packet.src(), sport), (packet.dst(), dport))
}

#[test]
fn clients_outside_reach_a_pod_of_the_node_under_their_own_address() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        sync(&node, exposed(p, &[p.pod_b]));
        for (to, port, sport) in [(p.node, NODE_PORT, 50_000), (p.balancer, 80, 50_010), (p.vip, 80, 50_020)]
        {
            for packet in [
                Packet::tcp(Ip::new(p.outside, to), sport, port, SYN),
                Packet::udp(Ip::new(p.outside, to), sport, port, true),
                Packet::udp(Ip::new(p.outside, to), sport + 1, port, false),
            ] {
                let sport = packet.ports().0;
                let out = enter(sandbox, &node, &packet);
                assert_eq!(ends(&out), ((p.outside, sport), (p.pod_b, 8080)));
                out.check();
                let back = leave(sandbox, &node, &out.answer());
                assert_eq!(ends(&back), ((to, port), (p.outside, sport)));
                back.check();
            }
        }
        let other = Packet::tcp(Ip::new(p.outside, p.node), 50_000, 30_081, SYN);
        assert_eq!(enter(sandbox, &node, &other), other, "another port of the node");
        let other = Packet::tcp(Ip::new(p.outside, p.balancer), 50_000, NODE_PORT, SYN);
        assert_eq!(enter(sandbox, &node, &other), other, "an address that is not the node's");
        let own = Packet::tcp(Ip::new(p.pod_b, p.outside), 8080, 443, SYN);
        assert_eq!(leave(sandbox, &node, &own).src(), p.node, "a connection of the pod's own");
    });
}

#[test]
fn a_pod_elsewhere_answers_by_way_of_the_node() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        sync(&node, exposed(p, &[p.elsewhere]));
        for packet in [
            Packet::tcp(Ip::new(p.outside, p.node), 50_000, NODE_PORT, SYN),
            Packet::udp(Ip::new(p.outside, p.node), 50_000, NODE_PORT, true),
        ] {
            let inside = enter(sandbox, &node, &packet);
            assert_eq!(ends(&inside), ((p.outside, 50_000), (p.elsewhere, 8080)));
            let sent = leave(sandbox, &node, &inside);
            let (from, port) = ends(&sent).0;
            assert_eq!((from, ends(&sent).1), (p.node, (p.elsewhere, 8080)));
            assert!(port >= 61_000, "{port}");
            sent.check();
            let back = enter(sandbox, &node, &sent.answer());
            assert_eq!(ends(&back), ((p.elsewhere, 8080), (p.outside, 50_000)));
            let back = leave(sandbox, &node, &back);
            assert_eq!(ends(&back), ((p.node, NODE_PORT), (p.outside, 50_000)));
            back.check();
        }
        let passing = Packet::tcp(Ip::new(p.outside, p.elsewhere), 50_001, 8080, SYN);
        assert_eq!(leave(sandbox, &node, &passing), passing, "what this node did not send there");
    });
}

#[test]
fn a_local_policy_keeps_clients_outside_to_the_pods_of_the_node() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        let policy = |backends: &[IpAddr]| ServiceSpec { external_local: true, ..exposed(p, backends) };
        sync(&node, policy(&[p.elsewhere, p.pod_b]));
        for sport in 50_000..50_020 {
            let packet = Packet::tcp(Ip::new(p.outside, p.node), sport, NODE_PORT, SYN);
            assert_eq!(ends(&enter(sandbox, &node, &packet)), ((p.outside, sport), (p.pod_b, 8080)));
        }
        sync(&node, policy(&[p.elsewhere]));
        let packet = Packet::tcp(Ip::new(p.outside, p.node), 50_100, NODE_PORT, SYN);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &packet).0, DROP, "not a word");
        assert_eq!(node.drops(), [(DropReason::NoLocalBackend, true, 1)]);
        // A pod of the cluster is no client outside.
        let packet = Packet::tcp(Ip::new(p.pod_a, p.node), 50_100, NODE_PORT, SYN);
        let (verdict, out) = run(sandbox, "skep_from_pod", node.a, &packet);
        assert_eq!((verdict, ends(&out)), (NEXT, ((p.pod_a, 50_100), (p.elsewhere, 8080))));
        // For a cluster address the policy of the inside counts.
        sync(&node, ServiceSpec { internal_local: true, ..exposed(p, &[p.elsewhere]) });
        let packet = Packet::tcp(Ip::new(p.pod_a, p.vip), 50_101, 80, SYN);
        assert_eq!(run(sandbox, "skep_from_pod", node.a, &packet).0, DROP);
        assert_eq!(node.drops_of(node.a), [DropReason::NoLocalBackend]);
        let of_host = Packet::tcp(Ip::new(p.node, p.vip), 50_102, 80, SYN);
        assert_eq!(run(sandbox, "skep_to_net", node.uplink, &of_host).0, DROP, "nor does it leave the node");
    });
}

#[test]
fn source_ranges_bind_the_balancers_addresses_alone() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        let stranger = p.client(7);
        let range = |text: &str| vec![Network::parse(text).unwrap()];
        sync(&node, ServiceSpec { source_ranges: range(p.outside_net), ..exposed(p, &[p.pod_b]) });
        let syn = |from, to, port| Packet::tcp(Ip::new(from, to), 20_000 + port, port, SYN);
        assert_eq!(enter(sandbox, &node, &syn(p.outside, p.balancer, 80)).dst(), p.pod_b);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &syn(stranger, p.balancer, 80)).0, DROP);
        assert_eq!(node.drops(), [(DropReason::SourceRange, true, 1)]);
        assert_eq!(
            enter(sandbox, &node, &syn(stranger, p.node, NODE_PORT)).dst(),
            p.pod_b,
            "the node port is open"
        );
        assert_eq!(
            run(sandbox, "skep_from_pod", node.a, &syn(p.pod_a, p.balancer, 80)).0,
            DROP,
            "pods are asked, too"
        );
        sync(
            &node,
            ServiceSpec { source_ranges: range(&format!("{stranger}/{}", p.bits)), ..exposed(p, &[p.pod_b]) },
        );
        let again = Packet::tcp(Ip::new(stranger, p.balancer), 50_001, 80, SYN);
        assert_eq!(enter(sandbox, &node, &again).dst(), p.pod_b);
        let again = Packet::tcp(Ip::new(p.outside, p.balancer), 50_001, 80, SYN);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &again).0, DROP);
    });
}

#[test]
fn a_service_without_endpoints_refuses_aloud() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        sync(&node, exposed(p, &[]));
        for (program, ifindex, from, to, port) in [
            ("skep_from_net", node.uplink, p.outside, p.node, NODE_PORT),
            ("skep_from_net", node.uplink, p.outside, p.balancer, 80),
            ("skep_from_pod", node.a, p.pod_a, p.vip, 80),
            ("skep_from_pod", node.a, p.pod_a, p.node, NODE_PORT),
        ] {
            let syn = Packet::tcp(Ip::new(from, to), 50_000, port, SYN);
            let (verdict, out) = run(sandbox, program, ifindex, &syn);
            assert_eq!((verdict, ends(&out)), (REDIRECT, ((to, port), (from, 50_000))), "{to}:{port}");
            assert_eq!((out.flags(), out.0.len()), (0x14, 14 + p.header + 20));
            assert_eq!((&out.0[..6], &out.0[6..12]), (&syn.0[6..12], &syn.0[..6]), "back where it came from");
            out.check();
            for checksum in [true, false] {
                let datagram = Packet::udp(Ip::new(from, to), 50_000, port, checksum);
                let (verdict, out) = run(sandbox, program, ifindex, &datagram);
                assert_eq!((verdict, out.src(), out.dst()), (REDIRECT, to, from));
                let refused = Packet::icmp_error(Ip::new(to, from), Trouble::PortClosed, &datagram);
                assert_eq!(out.icmp_type(), refused.icmp_type());
                assert_eq!(ends(&out.quoted()), ends(&datagram));
                out.check();
            }
        }
        let reset = Packet::tcp(Ip::new(p.outside, p.node), 50_000, NODE_PORT, 0x04);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &reset).0, DROP, "nothing answers a reset");
        let options = Packet::tcp(Ip { options: 1, ..Ip::new(p.outside, p.node) }, 50_000, NODE_PORT, SYN);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &options).0, DROP);
    });
}

#[test]
fn fragments_from_outside_follow_their_first_to_a_pod_elsewhere() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        sync(&node, exposed(p, &[p.elsewhere]));
        let at = |src, dst, id, frag| Ip { frag, id, ..Ip::new(src, dst) };
        let first = Packet::udp(at(p.outside, p.node, 7, 0x2000), 50_000, NODE_PORT, false);
        let sent = leave(sandbox, &node, &enter(sandbox, &node, &first));
        let later = Packet::fragment(at(p.outside, p.node, 7, 3), 17);
        let out = leave(sandbox, &node, &enter(sandbox, &node, &later));
        assert_eq!((out.src(), out.dst(), out.payload()), (p.node, p.elsewhere, later.payload()));
        out.check_ip();
        let port = ends(&sent).0.1;
        let first = Packet::udp(at(p.elsewhere, p.node, 8, 0x2000), 8080, port, false);
        let back = leave(sandbox, &node, &enter(sandbox, &node, &first));
        assert_eq!(ends(&back), ((p.node, NODE_PORT), (p.outside, 50_000)));
        let later = Packet::fragment(at(p.elsewhere, p.node, 8, 3), 17);
        let out = leave(sandbox, &node, &enter(sandbox, &node, &later));
        assert_eq!((out.src(), out.dst(), out.payload()), (p.node, p.outside, later.payload()));
        out.check_ip();
    });
}

#[test]
fn icmp_errors_about_translated_packets_reach_both_sides() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        sync(&node, exposed(p, &[p.pod_b]));
        let asked = Packet::udp(Ip::new(p.outside, p.node), 50_000, NODE_PORT, true);
        let inside = enter(sandbox, &node, &asked);
        // The pod's port is closed: the client hears of the node port.
        let out = leave(
            sandbox,
            &node,
            &Packet::icmp_error(Ip::new(p.pod_b, p.outside), Trouble::PortClosed, &inside),
        );
        assert_eq!((out.src(), out.dst(), ends(&out.quoted())), (p.node, p.outside, ends(&asked)));
        out.check();
        out.quoted().check_ip();
        // A router cannot carry the answer: the pod hears of the client.
        let answer = inside.answer();
        let sent = leave(sandbox, &node, &answer);
        let out =
            enter(sandbox, &node, &Packet::icmp_error(Ip::new(p.router, p.node), Trouble::TooBig, &sent));
        assert_eq!((out.src(), out.dst(), ends(&out.quoted())), (p.router, p.pod_b, ends(&answer)));
        out.check();
        out.quoted().check_ip();

        sync(&node, exposed(p, &[p.elsewhere]));
        let asked = Packet::udp(Ip::new(p.outside, p.node), 50_001, NODE_PORT, true);
        let sent = leave(sandbox, &node, &enter(sandbox, &node, &asked));
        let error = Packet::icmp_error(Ip::new(p.elsewhere, p.node), Trouble::PortClosed, &sent);
        let out = leave(sandbox, &node, &enter(sandbox, &node, &error));
        assert_eq!((out.src(), out.dst(), ends(&out.quoted())), (p.node, p.outside, ends(&asked)));
        out.check();
        let answer = sent.answer();
        let back = leave(sandbox, &node, &enter(sandbox, &node, &answer));
        let error = Packet::icmp_error(Ip::new(p.outside, p.node), Trouble::PortClosed, &back);
        let out = leave(sandbox, &node, &enter(sandbox, &node, &error));
        assert_eq!((out.dst(), ends(&out.quoted())), (p.elsewhere, ends(&answer)));
        out.check();

        // Between pods, by a cluster address.
        sync(&node, exposed(p, &[p.pod_b]));
        let asked = Packet::udp(Ip::new(p.pod_a, p.vip), 50_002, 80, true);
        let sent = run(sandbox, "skep_from_pod", node.a, &asked).1;
        let error = Packet::icmp_error(Ip::new(p.pod_b, p.pod_a), Trouble::PortClosed, &sent);
        let (verdict, out) = run(sandbox, "skep_from_pod", node.b, &error);
        assert_eq!((verdict, out.src(), out.dst()), (REDIRECT, p.vip, p.pod_a));
        assert_eq!(ends(&out.quoted()), ends(&asked));
        out.check();
    });
}

#[test]
fn a_pod_reaches_itself_by_its_service() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        sync(&node, exposed(p, &[p.pod_a]));
        for (to, port) in [(p.vip, 80), (p.node, NODE_PORT)] {
            let asked = Packet::tcp(Ip::new(p.pod_a, to), 20_000 + port, port, SYN);
            let (verdict, out) = run(sandbox, "skep_from_pod", node.a, &asked);
            assert_eq!((verdict, out.src(), ends(&out).1), (REDIRECT, p.node, (p.pod_a, 8080)));
            out.check();
            let (verdict, back) = run(sandbox, "skep_from_pod", node.a, &out.answer());
            assert_eq!((verdict, ends(&back)), (REDIRECT, ((to, port), (p.pod_a, 20_000 + port))));
            back.check();
        }
    });
}

#[test]
fn a_client_stays_with_its_backend_while_affinity_lasts() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        let pods = [p.pod_a, p.pod_b, p.elsewhere];
        let sticky =
            |backends: &[IpAddr]| ServiceSpec { affinity_seconds: Some(3600), ..exposed(p, backends) };
        let reached = |from: IpAddr, ports: std::ops::Range<u16>| -> BTreeSet<IpAddr> {
            let syn = |sport| Packet::tcp(Ip::new(from, p.node), sport, NODE_PORT, SYN);
            ports.map(|sport| enter(sandbox, &node, &syn(sport)).dst()).collect()
        };
        sync(&node, sticky(&pods));
        let first = reached(p.outside, 20_000..20_040);
        assert_eq!(first.len(), 1);
        // By another address of the same port, too.
        let syn = Packet::tcp(Ip::new(p.outside, p.balancer), 20_100, 80, SYN);
        assert_eq!(enter(sandbox, &node, &syn).dst(), *first.first().unwrap());
        // 40 other clients are not all sent to the same place: a chance of 1 in 3^39.
        let others: BTreeSet<IpAddr> = (1..=40).flat_map(|n| reached(p.client(n), 20_000..20_001)).collect();
        assert!(others.len() > 1, "{others:?}");
        // The backend goes: another is chosen, and kept.
        let left: Vec<IpAddr> = pods.into_iter().filter(|p| !first.contains(p)).collect();
        sync(&node, sticky(&left));
        let second = reached(p.outside, 21_000..21_040);
        assert_eq!(second.len(), 1);
        assert!(left.contains(second.first().unwrap()));
        // Affinity is switched off: 40 throws at two, one side only with a chance of 1 in 2^39.
        sync(&node, exposed(p, &left));
        assert_eq!(reached(p.outside, 22_000..22_040).len(), 2);
    });
}

#[test]
fn a_new_connection_takes_no_living_ones_place() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        sync(&node, exposed(p, &[p.pod_b]));
        let one = enter(sandbox, &node, &Packet::tcp(Ip::new(p.outside, p.node), 50_000, NODE_PORT, SYN));
        leave(sandbox, &node, &one.answer());
        let other = |flags| Packet::tcp(Ip::new(p.outside, p.balancer), 50_000, 80, flags);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &other(SYN)).0, DROP);
        assert_eq!(node.drops(), [(DropReason::TupleInUse, true, 1)]);
        assert_eq!(leave(sandbox, &node, &one.answer()).src(), p.node, "the first goes on");
        enter(sandbox, &node, &Packet::tcp(Ip::new(p.outside, p.node), 50_000, NODE_PORT, 0x01 | ACK));
        assert_eq!(enter(sandbox, &node, &other(SYN)).dst(), p.pod_b, "once the first has ended");
        assert_eq!(leave(sandbox, &node, &one.answer()).src(), p.balancer);
    });
}

#[test]
fn consistent_hashing_keeps_a_client_with_its_backend_while_others_come_and_go() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        let pods = [p.pod_a, p.pod_b, p.elsewhere];
        let hashed = |backends: &[IpAddr]| ServiceSpec { consistent: true, ..exposed(p, backends) };
        let mut port = 20_000;
        let mut reached = |client: u8| {
            port += 1;
            let syn = Packet::tcp(Ip::new(p.client(client), p.node), port, NODE_PORT, SYN);
            enter(sandbox, &node, &syn).dst()
        };
        sync(&node, hashed(&pods));
        let first: Vec<IpAddr> = (1..=60).map(&mut reached).collect();
        assert_eq!((1..=60).map(&mut reached).collect::<Vec<_>>(), first, "without any memory of them");
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3);
        // One goes: nearly all clients of the others stay, and its own are spread.
        sync(&node, hashed(&pods[..2]));
        let second: Vec<IpAddr> = (1..=60).map(&mut reached).collect();
        let moved = first.iter().zip(&second).filter(|(a, b)| **a != p.elsewhere && a != b).count();
        assert!(moved <= 6, "{moved} of 60");
        assert!(!second.contains(&p.elsewhere));
        // It returns, and so do its clients.
        sync(&node, hashed(&[p.elsewhere, p.pod_b, p.pod_a]));
        assert_eq!((1..=60).map(&mut reached).collect::<Vec<_>>(), first);
        // Of clients inside, too, and on a node's own backends alone where a policy says so.
        let syn = |sport| Packet::tcp(Ip::new(p.pod_a, p.vip), sport, 80, SYN);
        let inside: BTreeSet<IpAddr> =
            (1..=20).map(|n| run(sandbox, "skep_from_pod", node.a, &syn(n)).1.dst()).collect();
        assert_eq!(inside.len(), 1);
        sync(&node, ServiceSpec { external_local: true, ..hashed(&[p.elsewhere, p.pod_b]) });
        assert_eq!((1..=60).map(&mut reached).collect::<BTreeSet<_>>(), [p.pod_b].into());
    });
}
