//! Real packets through a node: two pods, the host, and a world outside, each in a network namespace of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use aya::programs::TcAttachType;
use aya::programs::tc::qdisc_detach_program;
use common::{Netns, Sandbox, sandboxed, wire};
use skep_dataplane::{
    Config, Dataplane, Endpoint, PodAttachment, PortSpec, Protocol, ServiceSpec, ServiceView, TcMode,
};

/// The addresses of one family.
#[derive(Debug)]
struct Plan {
    node: IpAddr,
    world: IpAddr,
    /// Prefix length of the network that both lie on.
    prefix: u8,
    /// What every pod has for its gateway, on the host's side of its wire.
    gateway: IpAddr,
    gateway_prefix: u8,
    pods: [IpAddr; 2],
    /// The network of this node's pods.
    pods_net: (IpAddr, u8),
    vip: IpAddr,
    /// A pod of another node, for which the world stands in.
    far_pod: IpAddr,
    /// Bits of an address.
    bits: u8,
    /// Every address.
    any: IpAddr,
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, c: u16, d: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, last))
}

const V4: Plan = Plan {
    node: v4(192, 0, 2, 10),
    world: v4(192, 0, 2, 1),
    prefix: 24,
    gateway: v4(169, 254, 1, 1),
    gateway_prefix: 32,
    pods: [v4(10, 244, 0, 5), v4(10, 244, 0, 6)],
    pods_net: (v4(10, 244, 0, 0), 24),
    vip: v4(10, 96, 0, 10),
    far_pod: v4(10, 244, 9, 9),
    bits: 32,
    any: v4(0, 0, 0, 0),
};

const V6: Plan = Plan {
    node: v6(0x2001, 0xdb8, 0, 2, 0x10),
    world: v6(0x2001, 0xdb8, 0, 2, 1),
    prefix: 64,
    gateway: v6(0xfe80, 0, 0, 0, 1),
    gateway_prefix: 64,
    pods: [v6(0xfd00, 0x10, 0x244, 0, 5), v6(0xfd00, 0x10, 0x244, 0, 6)],
    pods_net: (v6(0xfd00, 0x10, 0x244, 0, 0), 64),
    vip: v6(0xfd00, 0x10, 0x96, 0, 0x10),
    far_pod: v6(0xfd00, 0x10, 0x244, 9, 9),
    bits: 128,
    any: v6(0, 0, 0, 0, 0),
};
const NODE_PORT: u16 = 30_080;
const WAIT: Option<Duration> = Some(Duration::from_secs(10));

struct Node {
    dataplane: Dataplane,
    world: Netns,
    pods: [Netns; 2],
    veths: [u32; 2],
}

/// Runs a test in a sandbox for each family.
fn both(test: fn(&Sandbox, &'static Plan)) {
    for plan in [&V4, &V6] {
        sandboxed(move |sandbox| {
            println!("{} and its like", plan.node);
            test(sandbox, plan);
        });
    }
}

fn node(sandbox: &Sandbox, p: &'static Plan, tc: TcMode) -> Node {
    for name in ["net/ipv4/ip_forward", "net/ipv4/conf/default/proxy_arp", "net/ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/{name}"), "1").unwrap();
    }
    let (world, pods) = (Netns::new(), [Netns::new(), Netns::new()]);
    let uplink = wire::veth("uplink", &world);
    for plan in [&V4, &V6] {
        wire::address(uplink, plan.node, plan.prefix);
    }
    // The world has no route to pods: what it answers, it answers to the node.
    world.run(move || wire::address(wire::index("eth0"), p.world, p.prefix));
    let config = Config { uplink: Some("uplink".into()), tc, ..sandbox.config() };
    let dataplane = Dataplane::open(config).unwrap_or_else(|e| panic!("{e}"));
    let mut veths = [0; 2];
    for (i, (netns, addr)) in pods.iter().zip(p.pods).enumerate() {
        let ifindex = wire::veth(&format!("veth{i}"), netns);
        wire::address(ifindex, p.gateway, p.gateway_prefix);
        wire::route(ifindex, addr, p.bits, None);
        netns.run(move || {
            wire::address(wire::index("eth0"), addr, p.bits);
            wire::route(wire::index("eth0"), p.any, 0, Some(p.gateway));
        });
        let attachment = PodAttachment {
            ifindex,
            addresses: vec![addr],
            uid: format!("uid-{i}"),
            namespace: "default".into(),
            name: format!("pod-{i}"),
        };
        dataplane.attach_pod(&attachment).unwrap();
        veths[i] = ifindex;
    }
    Node { dataplane, world, pods, veths }
}

/// Listens; answers each of `n` connections with the address it sees, after reading a word and `bulk` bytes.
fn tcp_server(at: IpAddr, port: u16, n: usize) -> std::thread::JoinHandle<()> {
    let listener = TcpListener::bind((at, port)).unwrap();
    std::thread::spawn(move || {
        for _ in 0..n {
            let (mut stream, from) = listener.accept().unwrap();
            let mut text = Vec::new();
            stream.read_to_end(&mut text).unwrap();
            write!(stream, "{} {}", from.ip(), text.len()).unwrap();
        }
    })
}

fn ask(to: SocketAddr, bytes: usize) -> String {
    let mut stream = TcpStream::connect_timeout(&to, WAIT.unwrap()).unwrap();
    stream.set_read_timeout(WAIT).unwrap();
    stream.write_all(&vec![b'x'; bytes]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn everything_flows(sandbox: &Sandbox, p: &'static Plan, tc: TcMode) -> Node {
    let node = node(sandbox, p, tc);
    let bulk = 300_000;
    // Pod to pod, both ways round.
    let server = node.pods[1].spawn(move || tcp_server(p.pods[1], 80, 2)).join().unwrap();
    assert_eq!(node.pods[0].run(move || ask((p.pods[1], 80).into(), bulk)), format!("{} {bulk}", p.pods[0]));
    // Host to pod: the host is seen by the address its route gives it.
    assert!(ask((p.pods[1], 80).into(), 10).ends_with(" 10"));
    server.join().unwrap();
    // Pod to host.
    let server = tcp_server(p.node, 8080, 1);
    assert_eq!(node.pods[0].run(move || ask((p.node, 8080).into(), 10)), format!("{} 10", p.pods[0]));
    server.join().unwrap();
    // Pod to the world, under the node's address: TCP with bulk, UDP with fragments, ICMP by its error.
    let server = node.world.spawn(move || tcp_server(p.world, 443, 2)).join().unwrap();
    for pod in &node.pods {
        assert_eq!(pod.run(move || ask((p.world, 443).into(), bulk)), format!("{} {bulk}", p.node));
    }
    server.join().unwrap();
    let echo = node.world.spawn(move || {
        let socket = UdpSocket::bind((p.world, 53)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 9000];
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..n], from).unwrap();
            from
        })
    });
    let echo = echo.join().unwrap();
    node.pods[0].run(move || {
        let socket = UdpSocket::bind((p.pods[0], 0)).unwrap();
        socket.set_read_timeout(WAIT).unwrap();
        let sent: Vec<u8> = (0..4000_u32).map(|i| i as u8).collect();
        socket.send_to(&sent, (p.world, 53)).unwrap();
        let mut buffer = vec![0; 9000];
        let (n, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..n], from), (&sent[..], (p.world, 53).into()), "in three fragments each way");
    });
    assert_eq!(echo.join().unwrap().ip(), p.node);
    node.pods[0].run(move || {
        let socket = UdpSocket::bind((p.pods[0], 0)).unwrap();
        socket.set_read_timeout(WAIT).unwrap();
        socket.connect((p.world, 9)).unwrap();
        socket.send(b"?").unwrap();
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "the world's ICMP error came back");
    });
    // What the programs counted is no less than what was sent, and each saw both directions.
    let counters = node.dataplane.counters().unwrap();
    for veth in node.veths {
        let traffic = counters.pods.iter().find(|c| c.pod.ifindex == veth).unwrap().traffic;
        assert!(traffic.tx_bytes > bulk as u64 && traffic.tx_packets > 0, "{traffic:?}");
        assert!(traffic.rx_packets > 0 && traffic.rx_bytes >= 54 * traffic.rx_packets / 2, "{traffic:?}");
    }
    let received = counters.pods.iter().find(|c| c.pod.ifindex == node.veths[1]).unwrap().traffic.rx_bytes;
    assert!(received > bulk as u64, "what the other pod sent by the short way is counted: {received}");
    assert!(counters.node_drops.is_empty(), "{:?}", counters.node_drops);
    node
}

#[test]
fn everything_flows_by_tcx() {
    both(|sandbox, p| drop(everything_flows(sandbox, p, TcMode::Probe)));
}

#[test]
fn everything_flows_by_clsact() {
    both(|sandbox, p| {
        let Node { dataplane, world: _world, pods: _pods, .. } = everything_flows(sandbox, p, TcMode::Clsact);
        drop(dataplane);
        // Filters are taken over, exchanged in place, and removed with the rest.
        let config = Config { uplink: Some("uplink".into()), tc: TcMode::Clsact, ..sandbox.config() };
        let again = Dataplane::open(config).unwrap();
        assert_eq!(again.opened().links_created, 0);
        let points: Vec<String> =
            again.status().unwrap().programs.into_iter().flat_map(|p| p.attach_points).collect();
        assert!(points.contains(&"uplink egress (clsact)".to_owned()), "{points:?}");
        assert!(again.list_attached().unwrap().iter().all(|p| p.attached));
        drop(again);
        assert!(skep_dataplane::remove_all(&sandbox.dir, "test", "n1.example.org").unwrap());
        for name in ["uplink", "veth0", "veth1"] {
            for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
                for program in ["skep_from_pod", "skep_to_pod", "skep_from_net", "skep_to_net"] {
                    assert!(
                        qdisc_detach_program(name, direction, program).is_err(),
                        "{program} is left on {name}"
                    );
                }
            }
        }
    });
}

/// A Service on port 80 of [`Plan::vip`] and [`NODE_PORT`] of the node, with these backends on port 8080.
fn service(p: &Plan, protocol: Protocol, backends: &[IpAddr]) -> ServiceView {
    let endpoint = |addr: &IpAddr| Endpoint::ready(*addr, 8080, p.pods.contains(addr));
    ServiceView {
        services: vec![ServiceSpec {
            namespace: "default".into(),
            name: "web".into(),
            cluster_ips: vec![p.vip],
            ports: vec![PortSpec {
                name: String::new(),
                protocol,
                port: 80,
                node_port: Some(NODE_PORT),
                endpoints: backends.iter().map(endpoint).collect(),
            }],
            ..ServiceSpec::default()
        }],
        ..ServiceView::default()
    }
}

#[test]
fn a_service_is_reached_from_pod_and_host() {
    both(|sandbox, p| {
        let node = node(sandbox, p, TcMode::Probe);
        node.dataplane.sync_services(&service(p, Protocol::Tcp, &[p.pods[1]])).unwrap();
        let server = node.pods[1].spawn(move || tcp_server(p.pods[1], 8080, 4)).join().unwrap();
        // Outside of the node's cgroup no socket hook runs: the packets themselves are translated.
        assert_eq!(
            node.pods[0].run(move || ask((p.vip, 80).into(), 300_000)),
            format!("{} 300000", p.pods[0])
        );
        // The pod itself is shown the node, as its own address would never be answered.
        assert_eq!(node.pods[1].run(move || ask((p.vip, 80).into(), 300_000)), format!("{} 300000", p.node));
        sandbox.enter_cgroup();
        assert_eq!(node.pods[0].run(move || ask((p.vip, 80).into(), 1000)), format!("{} 1000", p.pods[0]));
        assert!(ask((p.vip, 80).into(), 1000).ends_with(" 1000"));
        server.join().unwrap();
    });
}

fn far_pod(node: &Node, p: &'static Plan) {
    node.world.run(move || {
        wire::address(1, p.far_pod, p.bits);
        // The other node knows the way to this one's pods.
        wire::route(wire::index("eth0"), p.pods_net.0, p.pods_net.1, Some(p.node));
    });
    wire::route(wire::index("uplink"), p.far_pod, p.bits, Some(p.world));
}

#[test]
fn a_node_port_is_reached_from_outside() {
    both(|sandbox, p| {
        let node = node(sandbox, p, TcMode::Probe);
        far_pod(&node, p);
        let bulk = 300_000;
        node.dataplane.sync_services(&service(p, Protocol::Tcp, &[p.pods[0]])).unwrap();
        let server = node.pods[0].spawn(move || tcp_server(p.pods[0], 8080, 2)).join().unwrap();
        let seen = node.world.run(move || ask((p.node, NODE_PORT).into(), bulk));
        assert_eq!(seen, format!("{} {bulk}", p.world), "a pod of the node sees the client");
        let seen = node.pods[1].run(move || ask((p.node, NODE_PORT).into(), bulk));
        assert_eq!(seen, format!("{} {bulk}", p.pods[1]), "also a pod that no socket hook helps");
        server.join().unwrap();
        node.dataplane.sync_services(&service(p, Protocol::Tcp, &[p.far_pod])).unwrap();
        let server = node.world.spawn(move || tcp_server(p.far_pod, 8080, 2)).join().unwrap();
        let seen = node.world.run(move || ask((p.node, NODE_PORT).into(), bulk));
        assert_eq!(seen, format!("{} {bulk}", p.node), "a pod elsewhere sees the node");
        let seen = node.pods[1].run(move || ask((p.node, NODE_PORT).into(), bulk));
        assert_eq!(seen, format!("{} {bulk}", p.pods[1]));
        server.join().unwrap();
    });
}

#[test]
fn datagrams_to_a_node_port_come_back_whole_or_with_the_error() {
    both(|sandbox, p| {
        let node = node(sandbox, p, TcMode::Probe);
        far_pod(&node, p);
        for pod in [p.pods[0], p.far_pod] {
            node.dataplane.sync_services(&service(p, Protocol::Udp, &[pod])).unwrap();
            let place = if pod == p.far_pod { &node.world } else { &node.pods[0] };
            let socket = place.run(move || UdpSocket::bind((pod, 8080)).unwrap());
            let echo = std::thread::spawn(move || {
                let mut buffer = vec![0; 9000];
                let (n, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(&buffer[..n], from).unwrap();
            });
            node.world.run(move || {
                let socket = UdpSocket::bind((p.world, 0)).unwrap();
                socket.set_read_timeout(WAIT).unwrap();
                let sent: Vec<u8> = (0..4000_u32).map(|i| i as u8).collect();
                socket.send_to(&sent, (p.node, NODE_PORT)).unwrap();
                let mut buffer = vec![0; 9000];
                let (n, from) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..n], from), (&sent[..], (p.node, NODE_PORT).into()));
            });
            echo.join().unwrap();
            // Nobody listens there any more, and the client is told.
            assert_refused(&node.world, p, p.world);
        }
        // No endpoint at all: the node itself says so.
        node.dataplane.sync_services(&service(p, Protocol::Udp, &[])).unwrap();
        assert_refused(&node.world, p, p.world);
        assert_refused(&node.pods[0], p, p.pods[0]);
    });
}

fn assert_refused(place: &Netns, p: &'static Plan, from: IpAddr) {
    place.run(move || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_read_timeout(WAIT).unwrap();
        socket.connect((p.node, NODE_PORT)).unwrap();
        socket.send(b"?").unwrap();
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn without_endpoints_connections_are_refused_at_once() {
    both(|sandbox, p| {
        let node = node(sandbox, p, TcMode::Probe);
        node.dataplane.sync_services(&service(p, Protocol::Tcp, &[])).unwrap();
        let refused = |to: (IpAddr, u16)| {
            let error = TcpStream::connect_timeout(&to.into(), WAIT.unwrap()).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{to:?}");
        };
        node.world.run(move || refused((p.node, NODE_PORT)));
        node.pods[0].run(move || {
            refused((p.node, NODE_PORT));
            refused((p.vip, 80));
        });
    });
}
