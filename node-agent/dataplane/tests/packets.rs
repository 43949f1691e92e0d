//! Every branch of every tc program, on golden packets: `BPF_PROG_TEST_RUN` hands the packet to the program and
//! gives back what became of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use std::net::IpAddr;

use aya::maps::{Array, Map, MapData};
use aya::util::KernelVersion;
use common::node::{DROP, NEXT, Node, Plan, REDIRECT, V4, V6, both, pod, run, traffic};
use common::packet::{Ip, Packet, Trouble};
use common::sandboxed;
use skep_dataplane::{Config, Dataplane, DropReason, Endpoint, PortSpec, Protocol, ServiceSpec, ServiceView};

#[test]
fn packets_of_pods_are_counted_and_handed_over() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        let to_b = Packet::tcp(Ip::new(p.pod_a, p.pod_b), 40_000, 80, 0x02);
        let len = to_b.0.len() as u64;
        let (verdict, out) = run(sandbox, "skep_from_pod", node.a, &to_b);
        assert_eq!((verdict, &out), (REDIRECT, &to_b), "to a pod of this node");
        let counters = node.dataplane.counters().unwrap();
        assert_eq!(traffic(&counters, node.a), (0, 0, 1, len));
        assert_eq!(traffic(&counters, node.b), (1, len, 0, 0));
        for (what, packet) in [
            ("outside", Packet::tcp(Ip::new(p.pod_a, p.outside), 40_000, 80, 0x02)),
            ("pod elsewhere", Packet::tcp(Ip::new(p.pod_a, p.elsewhere), 40_000, 80, 0x02)),
            ("itself", Packet::tcp(Ip::new(p.pod_a, p.pod_a), 40_000, 80, 0x02)),
            ("ARP", Packet::arp()),
        ] {
            assert_eq!(run(sandbox, "skep_from_pod", node.a, &packet), (NEXT, packet), "{what}");
        }
        assert_eq!(traffic(&node.dataplane.counters().unwrap(), node.a).2, 5);
        let (verdict, out) = run(sandbox, "skep_to_pod", node.a, &to_b);
        assert_eq!((verdict, out), (NEXT, to_b));
        assert_eq!(traffic(&node.dataplane.counters().unwrap(), node.a).0, 1);
        // An interface that is no pod's is not counted.
        assert_eq!(run(sandbox, "skep_to_pod", node.uplink, &Packet::arp()).0, NEXT);
        assert!(node.dataplane.detach_pod(node.b).unwrap());
        let to_b = Packet::tcp(Ip::new(p.pod_a, p.pod_b), 40_000, 80, 0x02);
        assert_eq!(run(sandbox, "skep_from_pod", node.a, &to_b).0, NEXT, "a pod that is gone");
    });
}

#[test]
fn connections_to_the_outside_carry_the_nodes_address_and_come_back() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        let packets = [
            Packet::tcp(Ip::new(p.pod_a, p.outside), 40_000, 443, 0x02),
            Packet::udp(Ip::new(p.pod_a, p.outside), 40_000, 53, true),
            Packet::udp(Ip::new(p.pod_a, p.outside), 40_001, 53, false),
            Packet::ping(Ip::new(p.pod_a, p.outside), 77),
            Packet::tcp(Ip { options: 2, ..Ip::new(p.pod_b, p.outside) }, 40_000, 443, 0x02),
        ];
        let mut ports = Vec::new();
        for packet in packets {
            let (verdict, out) = run(sandbox, "skep_to_net", node.uplink, &packet);
            assert_eq!(verdict, NEXT);
            assert_eq!((out.src(), out.dst()), (p.node, p.outside));
            out.check();
            assert!(out.ports().0 >= 61_000, "{}: beside the host's own range", out.ports().0);
            ports.push((packet.protocol(), out.ports()));
            let again = run(sandbox, "skep_to_net", node.uplink, &packet).1;
            assert_eq!(again, out, "a connection keeps its port");
            let answer = out.answer();
            let (verdict, back) = run(sandbox, "skep_from_net", node.uplink, &answer);
            assert_eq!(verdict, NEXT);
            back.check();
            assert_eq!((back.src(), back.dst()), (p.outside, packet.src()));
            assert_eq!(back.ports(), packet.answer().ports());
        }
        ports.sort_unstable();
        let all = ports.len();
        ports.dedup();
        assert_eq!(ports.len(), all, "no two connections share a port");
        let unset = Packet::udp(Ip::new(p.pod_a, p.outside), 40_002, 53, false);
        assert_eq!(run(sandbox, "skep_to_net", node.uplink, &unset).1.udp_checksum(), 0);
    });
}

#[test]
fn what_is_not_ours_leaves_and_enters_unchanged() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        for (what, packet) in [
            ("the host's own", Packet::tcp(Ip::new(p.node, p.outside), 40_000, 80, 0x02)),
            ("to a pod elsewhere", Packet::tcp(Ip::new(p.pod_a, p.elsewhere), 40_000, 80, 0x02)),
            ("multicast", Packet::udp(Ip::new(p.pod_a, p.multicast), 5353, 5353, true)),
            ("ARP", Packet::arp()),
            ("an answer to a ping", Packet::pong(Ip::new(p.pod_a, p.outside), 9)),
            ("another protocol", Packet::other(Ip::new(p.pod_a, p.outside), 47)),
        ] {
            assert_eq!(run(sandbox, "skep_to_net", node.uplink, &packet), (NEXT, packet), "{what}");
        }
        for (what, packet) in [
            ("to the host", Packet::tcp(Ip::new(p.outside, p.node), 443, 22, 0x02)),
            ("to nobody's port", Packet::tcp(Ip::new(p.outside, p.node), 443, 61_500, 0x10)),
            ("between others", Packet::tcp(Ip::new(p.outside, p.neighbor), 443, 61_500, 0x10)),
            ("ARP", Packet::arp()),
            ("from a pod elsewhere", Packet::tcp(Ip::new(p.elsewhere, p.pod_a), 40_000, 80, 0x02)),
        ] {
            assert_eq!(run(sandbox, "skep_from_net", node.uplink, &packet), (NEXT, packet), "{what}");
        }
        assert!(node.drops().is_empty());
    });
}

#[test]
fn a_connection_that_the_outside_opened_keeps_the_pods_address() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        let syn = Packet::tcp(Ip::new(p.outside, p.pod_a), 50_000, 80, 0x02);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &syn), (NEXT, syn.clone()));
        let answer = syn.answer();
        assert_eq!(run(sandbox, "skep_to_net", node.uplink, &answer), (NEXT, answer));
        let own = Packet::tcp(Ip::new(p.pod_a, p.outside), 80, 50_001, 0x02);
        assert_eq!(run(sandbox, "skep_to_net", node.uplink, &own).1.src(), p.node);
    });
}

#[test]
fn fragments_follow_their_first() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        let first = Packet::udp(Ip { frag: 0x2000, id: 7, ..Ip::new(p.pod_a, p.outside) }, 40_000, 53, false);
        let later = Packet::fragment(Ip { frag: 3, id: 7, ..Ip::new(p.pod_a, p.outside) }, 17);
        let sent = run(sandbox, "skep_to_net", node.uplink, &first).1;
        assert_eq!(sent.src(), p.node);
        let out = run(sandbox, "skep_to_net", node.uplink, &later).1;
        assert_eq!((out.src(), out.payload()), (p.node, later.payload()));
        out.check_ip();
        let (_, port) = sent.answer().ports();
        let first = Packet::udp(Ip { frag: 0x2000, id: 9, ..Ip::new(p.outside, p.node) }, 53, port, false);
        let later = Packet::fragment(Ip { frag: 3, id: 9, ..Ip::new(p.outside, p.node) }, 17);
        assert_eq!(
            run(sandbox, "skep_from_net", node.uplink, &later),
            (NEXT, later.clone()),
            "not known yet"
        );
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &first).1.dst(), p.pod_a);
        let back = run(sandbox, "skep_from_net", node.uplink, &later).1;
        assert_eq!((back.dst(), back.payload()), (p.pod_a, later.payload()));
        back.check_ip();
    });
}

#[test]
fn an_icmp_error_finds_the_pod_it_is_about() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        let packet = Packet::udp(Ip::new(p.pod_a, p.outside), 40_000, 53, true);
        let sent = run(sandbox, "skep_to_net", node.uplink, &packet).1;
        let error = Packet::icmp_error(Ip::new(p.router, p.node), Trouble::TooBig, &sent);
        let (verdict, out) = run(sandbox, "skep_from_net", node.uplink, &error);
        assert_eq!((verdict, out.src(), out.dst()), (NEXT, p.router, p.pod_a));
        out.check();
        let quoted = out.quoted();
        assert_eq!((quoted.src(), quoted.dst(), quoted.ports()), (p.pod_a, p.outside, packet.ports()));
        quoted.check_ip();
        let stranger = Packet::udp(Ip::new(p.node, p.outside), 61_999, 9, true);
        let error = Packet::icmp_error(Ip::new(p.router, p.node), Trouble::TooBig, &stranger);
        assert_eq!(run(sandbox, "skep_from_net", node.uplink, &error), (NEXT, error));
    });
}

#[test]
fn what_cannot_be_sent_is_dropped_with_its_reason() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        let mut short = Packet::tcp(Ip::new(p.pod_a, p.outside), 40_000, 80, 0x02);
        short.0.truncate(short.l4() + 6);
        assert_eq!(run(sandbox, "skep_to_net", node.uplink, &short).0, DROP);
        assert_eq!(node.drops(), [(DropReason::Malformed, false, 1)]);
        // A range of one port: the second connection to the same place has none.
        let map = MapData::from_pin(sandbox.map("CONFIG")).unwrap();
        let mut config: Array<_, [u8; 144]> = Map::Array(map).try_into().unwrap();
        let mut bytes = config.get(&0, 0).unwrap();
        bytes[28..30].copy_from_slice(&61_000_u16.to_ne_bytes());
        bytes[30..32].copy_from_slice(&61_000_u16.to_ne_bytes());
        config.set(0, bytes, 0).unwrap();
        let one = Packet::tcp(Ip::new(p.pod_a, p.outside), 40_000, 80, 0x02);
        let two = Packet::tcp(Ip::new(p.pod_a, p.outside), 40_001, 80, 0x02);
        let elsewhere = Packet::tcp(Ip::new(p.pod_a, p.outside), 40_001, 81, 0x02);
        assert_eq!(run(sandbox, "skep_to_net", node.uplink, &one).1.ports().0, 61_000);
        assert_eq!(run(sandbox, "skep_to_net", node.uplink, &two).0, DROP);
        assert_eq!(run(sandbox, "skep_to_net", node.uplink, &elsewhere).1.ports().0, 61_000);
        assert!(node.drops().contains(&(DropReason::NoPort, false, 1)), "{:?}", node.drops());
    });
}

#[test]
fn attachments_are_taken_over_and_forgotten() {
    sandboxed(|sandbox| {
        let p = &V4;
        let Node { dataplane, a, b, far: _far, .. } = Node::new(sandbox);
        assert!(
            dataplane.attach_pod(&pod(a, &[V4.pod_a, V6.pod_a], "a")).unwrap(),
            "a second time it is there"
        );
        run(sandbox, "skep_to_pod", a, &Packet::arp());
        drop(dataplane);
        let config = Config { uplink: Some("uplink".into()), ..sandbox.config() };
        let dataplane = Dataplane::open(config).unwrap();
        let opened = dataplane.opened();
        assert_eq!((opened.links_adopted, opened.links_created), (10, 0));
        let listed = dataplane.list_attached().unwrap();
        assert_eq!(
            listed.iter().map(|p| (p.pod.ifindex, p.attached)).collect::<Vec<_>>(),
            [(a, true), (b, true)]
        );
        assert_eq!(listed[0].pod, pod(a, &[V4.pod_a, V6.pod_a], "a"));
        assert_eq!(traffic(&dataplane.counters().unwrap(), a).0, 1, "counters go on");
        let status = dataplane.status().unwrap();
        let points =
            |name: &str| status.programs.iter().find(|p| p.name == name).unwrap().attach_points.clone();
        let how =
            if KernelVersion::current().unwrap() < KernelVersion::new(6, 6, 0) { "clsact" } else { "tcx" };
        assert_eq!(points("skep_from_pod"), ["vetha", "vethb"].map(|name| format!("{name} ingress ({how})")));
        assert_eq!(points("skep_to_net"), [format!("uplink egress ({how})")]);
        assert!(dataplane.kernel_map_bytes().unwrap() > 0);
        println!("maps: {} KiB", dataplane.kernel_map_bytes().unwrap() / 1024);
        // The address moves to another pod; the old one's end does not take it away.
        dataplane.attach_pod(&pod(b, &[p.pod_a], "b")).unwrap();
        assert!(dataplane.detach_pod(a).unwrap());
        let to_a = Packet::tcp(Ip::new(p.outside, p.pod_a), 1, 2, 2);
        assert_eq!(run(sandbox, "skep_from_pod", 1, &to_a).0, REDIRECT);
        assert!(!dataplane.detach_pod(a).unwrap());
        assert_eq!(dataplane.list_attached().unwrap().len(), 1);
        assert!(dataplane.attach_pod(&pod(4_000_000, &[p.pod_b], "c")).is_err());
        assert_eq!(dataplane.list_attached().unwrap().len(), 1);
    });
}

/// A Service on port 80 of [`Plan::vip`] with these backends on port 8080, for TCP and for UDP.
fn service(p: &Plan, backends: &[IpAddr]) -> ServiceView {
    let endpoint = |addr: &IpAddr| Endpoint::ready(*addr, 8080, true);
    let port = |protocol| PortSpec {
        name: format!("{protocol:?}"),
        protocol,
        port: 80,
        node_port: None,
        endpoints: backends.iter().map(endpoint).collect(),
    };
    ServiceView {
        services: vec![ServiceSpec {
            namespace: "default".into(),
            name: "web".into(),
            cluster_ips: vec![p.vip],
            ports: vec![port(Protocol::Tcp), port(Protocol::Udp)],
            ..ServiceSpec::default()
        }],
        ..ServiceView::default()
    }
}

#[test]
fn what_missed_the_socket_hook_is_translated_packet_by_packet() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        node.dataplane.sync_services(&service(p, &[p.pod_b])).unwrap();
        for packet in [
            Packet::tcp(Ip::new(p.pod_a, p.vip), 40_000, 80, 0x02),
            Packet::udp(Ip::new(p.pod_a, p.vip), 40_000, 80, true),
            Packet::udp(Ip::new(p.pod_a, p.vip), 40_001, 80, false),
        ] {
            let (verdict, out) = run(sandbox, "skep_from_pod", node.a, &packet);
            assert_eq!((verdict, out.src(), out.dst()), (REDIRECT, p.pod_a, p.pod_b));
            assert_eq!(out.ports(), (packet.ports().0, 8080));
            out.check();
            // The answer, by the short way from a pod here and by the stack from elsewhere.
            for (program, ifindex, expected) in
                [("skep_from_pod", node.b, REDIRECT), ("skep_to_pod", node.a, NEXT)]
            {
                let (verdict, back) = run(sandbox, program, ifindex, &out.answer());
                assert_eq!((verdict, back.src(), back.dst()), (expected, p.vip, p.pod_a), "{program}");
                assert_eq!(back.ports(), packet.answer().ports());
                back.check();
            }
        }
        let plain = Packet::tcp(Ip::new(p.pod_b, p.pod_a), 1234, 40_000, 0x10);
        assert_eq!(run(sandbox, "skep_from_pod", node.b, &plain).1, plain, "no answer of a Service");
        for (what, packet) in [
            ("a port that is no Service", Packet::tcp(Ip::new(p.pod_a, p.vip), 40_000, 81, 0x02)),
            ("a ping", Packet::ping(Ip::new(p.pod_a, p.vip), 1)),
        ] {
            assert_eq!(run(sandbox, "skep_from_pod", node.a, &packet), (NEXT, packet), "{what}");
        }
    });
}

#[test]
fn translated_connections_outlive_their_backends_place_in_the_service() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        node.dataplane.sync_services(&service(p, &[p.pod_b])).unwrap();
        let to = |packet: Packet| run(sandbox, "skep_from_pod", node.a, &packet).1.dst();
        let tcp = |flags| Packet::tcp(Ip::new(p.pod_a, p.vip), 40_000, 80, flags);
        let udp = || Packet::udp(Ip::new(p.pod_a, p.vip), 40_000, 80, true);
        assert_eq!((to(tcp(0x02)), to(udp())), (p.pod_b, p.pod_b));
        node.dataplane.sync_services(&service(p, &[p.elsewhere])).unwrap();
        assert_eq!(to(tcp(0x10)), p.pod_b, "what is established stays");
        assert_eq!(to(udp()), p.elsewhere, "a datagram goes where there is someone");
        assert_eq!(to(tcp(0x02)), p.elsewhere, "and so does a new connection with the same ports");
        node.dataplane.sync_services(&service(p, &[])).unwrap();
        let new = Packet::tcp(Ip::new(p.pod_a, p.vip), 41_000, 80, 0x02);
        let (verdict, out) = run(sandbox, "skep_from_pod", node.a, &new);
        assert_eq!((verdict, out.src(), out.ports(), out.flags()), (REDIRECT, p.vip, (80, 41_000), 0x14));
        assert_eq!(node.drops_of(node.a), [DropReason::NoBackend]);
    });
}

#[test]
fn fragments_for_a_service_follow_their_first() {
    both(|sandbox, p| {
        let node = Node::new(sandbox);
        node.dataplane.sync_services(&service(p, &[p.pod_b])).unwrap();
        let first = Packet::udp(Ip { frag: 0x2000, id: 7, ..Ip::new(p.pod_a, p.vip) }, 40_000, 80, false);
        let later = Packet::fragment(Ip { frag: 3, id: 7, ..Ip::new(p.pod_a, p.vip) }, 17);
        assert_eq!(run(sandbox, "skep_from_pod", node.a, &first).1.dst(), p.pod_b);
        let (verdict, out) = run(sandbox, "skep_from_pod", node.a, &later);
        assert_eq!((verdict, out.dst(), out.payload()), (REDIRECT, p.pod_b, later.payload()));
        out.check_ip();
        let first = Packet::udp(Ip { frag: 0x2000, id: 8, ..Ip::new(p.pod_b, p.pod_a) }, 8080, 40_000, false);
        let later = Packet::fragment(Ip { frag: 3, id: 8, ..Ip::new(p.pod_b, p.pod_a) }, 17);
        assert_eq!(run(sandbox, "skep_from_pod", node.b, &first).1.src(), p.vip);
        let out = run(sandbox, "skep_from_pod", node.b, &later).1;
        assert_eq!(out.src(), p.vip);
        out.check_ip();
    });
}
