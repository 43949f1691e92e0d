//! Real packets through a node: two pods, the host, and a world outside, each in a network namespace of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use aya::programs::TcAttachType;
use aya::programs::tc::qdisc_detach_program;
use common::{Netns, Sandbox, sandboxed, wire};
use skep_dataplane::{
    Config, Dataplane, Endpoint, PodAttachment, PortSpec, Protocol, ServiceSpec, ServiceView, TcMode,
};

const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const PODS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 244, 0, 5), Ipv4Addr::new(10, 244, 0, 6)];
const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const WAIT: Option<Duration> = Some(Duration::from_secs(10));

struct Node {
    dataplane: Dataplane,
    world: Netns,
    pods: [Netns; 2],
    veths: [u32; 2],
}

fn node(sandbox: &Sandbox, tc: TcMode) -> Node {
    for name in ["net/ipv4/ip_forward", "net/ipv4/conf/default/proxy_arp"] {
        std::fs::write(format!("/proc/sys/{name}"), "1").unwrap();
    }
    let (world, pods) = (Netns::new(), [Netns::new(), Netns::new()]);
    let uplink = wire::veth("uplink", &world);
    wire::address(uplink, NODE, 24);
    // The world has no route to pods: what it answers, it answers to the node.
    world.run(|| wire::address(wire::index("eth0"), WORLD, 24));
    let config = Config { uplink: Some("uplink".into()), tc, ..sandbox.config() };
    let dataplane = Dataplane::open(config).unwrap_or_else(|e| panic!("{e}"));
    let mut veths = [0; 2];
    for (i, (netns, addr)) in pods.iter().zip(PODS).enumerate() {
        let ifindex = wire::veth(&format!("veth{i}"), netns);
        wire::address(ifindex, GATEWAY, 32);
        wire::route(ifindex, addr, 32, None);
        netns.run(move || {
            wire::address(wire::index("eth0"), addr, 32);
            wire::route(wire::index("eth0"), Ipv4Addr::UNSPECIFIED, 0, Some(GATEWAY));
        });
        let attachment = PodAttachment {
            ifindex,
            addresses: vec![addr.into()],
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
fn tcp_server(at: Ipv4Addr, port: u16, n: usize) -> std::thread::JoinHandle<()> {
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

fn everything_flows(sandbox: &Sandbox, tc: TcMode) -> Node {
    let node = node(sandbox, tc);
    let bulk = 300_000;
    // Pod to pod, both ways round.
    let server = node.pods[1].spawn(|| tcp_server(PODS[1], 80, 2)).join().unwrap();
    assert_eq!(node.pods[0].run(move || ask((PODS[1], 80).into(), bulk)), format!("{} {bulk}", PODS[0]));
    // Host to pod: the host is seen by the address its route gives it.
    assert!(ask((PODS[1], 80).into(), 10).ends_with(" 10"));
    server.join().unwrap();
    // Pod to host.
    let server = tcp_server(NODE, 8080, 1);
    assert_eq!(node.pods[0].run(|| ask((NODE, 8080).into(), 10)), format!("{} 10", PODS[0]));
    server.join().unwrap();
    // Pod to the world, under the node's address: TCP with bulk, UDP with fragments, ICMP by its error.
    let server = node.world.spawn(|| tcp_server(WORLD, 443, 2)).join().unwrap();
    for pod in &node.pods {
        assert_eq!(pod.run(move || ask((WORLD, 443).into(), bulk)), format!("{NODE} {bulk}"));
    }
    server.join().unwrap();
    let echo = node.world.spawn(|| {
        let socket = UdpSocket::bind((WORLD, 53)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 9000];
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..n], from).unwrap();
            from
        })
    });
    let echo = echo.join().unwrap();
    node.pods[0].run(|| {
        let socket = UdpSocket::bind((PODS[0], 0)).unwrap();
        socket.set_read_timeout(WAIT).unwrap();
        let sent: Vec<u8> = (0..4000_u32).map(|i| i as u8).collect();
        socket.send_to(&sent, (WORLD, 53)).unwrap();
        let mut buffer = vec![0; 9000];
        let (n, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..n], from), (&sent[..], (WORLD, 53).into()), "in three fragments each way");
    });
    assert_eq!(echo.join().unwrap().ip(), IpAddr::from(NODE));
    node.pods[0].run(|| {
        let socket = UdpSocket::bind((PODS[0], 0)).unwrap();
        socket.set_read_timeout(WAIT).unwrap();
        socket.connect((WORLD, 9)).unwrap();
        socket.send(b"?").unwrap();
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "the world's ICMP error came back");
    });
    // What the programs counted is no less than what was sent, and each saw both directions.
    let counters = node.dataplane.counters().unwrap();
    for veth in node.veths {
        let traffic = counters.pods.iter().find(|p| p.pod.ifindex == veth).unwrap().traffic;
        assert!(traffic.tx_bytes > bulk as u64 && traffic.tx_packets > 0, "{traffic:?}");
        assert!(traffic.rx_packets > 0 && traffic.rx_bytes >= 54 * traffic.rx_packets / 2, "{traffic:?}");
    }
    let received = counters.pods.iter().find(|p| p.pod.ifindex == node.veths[1]).unwrap().traffic.rx_bytes;
    assert!(received > bulk as u64, "what the other pod sent by the short way is counted: {received}");
    assert!(counters.node_drops.is_empty(), "{:?}", counters.node_drops);
    node
}

#[test]
fn everything_flows_by_tcx() {
    sandboxed(|sandbox| drop(everything_flows(sandbox, TcMode::Probe)));
}

#[test]
fn everything_flows_by_clsact() {
    sandboxed(|sandbox| {
        let Node { dataplane, world: _world, pods: _pods, .. } = everything_flows(sandbox, TcMode::Clsact);
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

/// A Service on port 80 of [`VIP`] and port 30080 of the node, with these backends on port 8080.
fn service(protocol: Protocol, backends: &[Ipv4Addr]) -> ServiceView {
    let endpoint = |addr: &Ipv4Addr| Endpoint::ready((*addr).into(), 8080, PODS.contains(addr));
    ServiceView {
        services: vec![ServiceSpec {
            namespace: "default".into(),
            name: "web".into(),
            cluster_ips: vec![VIP.into()],
            ports: vec![PortSpec {
                name: String::new(),
                protocol,
                port: 80,
                node_port: Some(30_080),
                endpoints: backends.iter().map(endpoint).collect(),
            }],
            ..ServiceSpec::default()
        }],
        ..ServiceView::default()
    }
}

#[test]
fn a_service_is_reached_from_pod_and_host() {
    sandboxed(|sandbox| {
        let node = node(sandbox, TcMode::Probe);
        node.dataplane.sync_services(&service(Protocol::Tcp, &[PODS[1]])).unwrap();
        let server = node.pods[1].spawn(|| tcp_server(PODS[1], 8080, 4)).join().unwrap();
        // Outside of the node's cgroup no socket hook runs: the packets themselves are translated.
        assert_eq!(node.pods[0].run(|| ask((VIP, 80).into(), 300_000)), format!("{} 300000", PODS[0]));
        // The pod itself is shown the node, as its own address would never be answered.
        assert_eq!(node.pods[1].run(|| ask((VIP, 80).into(), 300_000)), format!("{NODE} 300000"));
        sandbox.enter_cgroup();
        assert_eq!(node.pods[0].run(|| ask((VIP, 80).into(), 1000)), format!("{} 1000", PODS[0]));
        assert!(ask((VIP, 80).into(), 1000).ends_with(" 1000"));
        server.join().unwrap();
    });
}

/// A pod of another node, for which the world stands in.
const FAR_POD: Ipv4Addr = Ipv4Addr::new(10, 244, 9, 9);
const NODE_PORT: (Ipv4Addr, u16) = (NODE, 30_080);

fn far_pod(node: &Node) {
    node.world.run(|| {
        wire::address(1, FAR_POD, 32);
        // The other node knows the way to this one's pods.
        wire::route(wire::index("eth0"), Ipv4Addr::new(10, 244, 0, 0), 24, Some(NODE));
    });
    wire::route(wire::index("uplink"), FAR_POD, 32, Some(WORLD));
}

#[test]
fn a_node_port_is_reached_from_outside() {
    sandboxed(|sandbox| {
        let node = node(sandbox, TcMode::Probe);
        far_pod(&node);
        let bulk = 300_000;
        node.dataplane.sync_services(&service(Protocol::Tcp, &[PODS[0]])).unwrap();
        let server = node.pods[0].spawn(|| tcp_server(PODS[0], 8080, 2)).join().unwrap();
        let seen = node.world.run(move || ask(NODE_PORT.into(), bulk));
        assert_eq!(seen, format!("{WORLD} {bulk}"), "a pod of the node sees the client");
        let seen = node.pods[1].run(move || ask(NODE_PORT.into(), bulk));
        assert_eq!(seen, format!("{} {bulk}", PODS[1]), "also a pod that no socket hook helps");
        server.join().unwrap();
        node.dataplane.sync_services(&service(Protocol::Tcp, &[FAR_POD])).unwrap();
        let server = node.world.spawn(|| tcp_server(FAR_POD, 8080, 2)).join().unwrap();
        let seen = node.world.run(move || ask(NODE_PORT.into(), bulk));
        assert_eq!(seen, format!("{NODE} {bulk}"), "a pod elsewhere sees the node");
        let seen = node.pods[1].run(move || ask(NODE_PORT.into(), bulk));
        assert_eq!(seen, format!("{} {bulk}", PODS[1]));
        server.join().unwrap();
    });
}

#[test]
fn datagrams_to_a_node_port_come_back_whole_or_with_the_error() {
    sandboxed(|sandbox| {
        let node = node(sandbox, TcMode::Probe);
        far_pod(&node);
        for pod in [PODS[0], FAR_POD] {
            node.dataplane.sync_services(&service(Protocol::Udp, &[pod])).unwrap();
            let place = if pod == FAR_POD { &node.world } else { &node.pods[0] };
            let socket = place.run(move || UdpSocket::bind((pod, 8080)).unwrap());
            let echo = std::thread::spawn(move || {
                let mut buffer = vec![0; 9000];
                let (n, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(&buffer[..n], from).unwrap();
            });
            node.world.run(|| {
                let socket = UdpSocket::bind((WORLD, 0)).unwrap();
                socket.set_read_timeout(WAIT).unwrap();
                let sent: Vec<u8> = (0..4000_u32).map(|i| i as u8).collect();
                socket.send_to(&sent, NODE_PORT).unwrap();
                let mut buffer = vec![0; 9000];
                let (n, from) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..n], from), (&sent[..], NODE_PORT.into()));
            });
            echo.join().unwrap();
            // Nobody listens there any more, and the client is told.
            assert_refused(&node.world, WORLD);
        }
        // No endpoint at all: the node itself says so.
        node.dataplane.sync_services(&service(Protocol::Udp, &[])).unwrap();
        assert_refused(&node.world, WORLD);
        assert_refused(&node.pods[0], PODS[0]);
    });
}

fn assert_refused(place: &Netns, from: Ipv4Addr) {
    place.run(move || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_read_timeout(WAIT).unwrap();
        socket.connect(NODE_PORT).unwrap();
        socket.send(b"?").unwrap();
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn without_endpoints_connections_are_refused_at_once() {
    sandboxed(|sandbox| {
        let node = node(sandbox, TcMode::Probe);
        node.dataplane.sync_services(&service(Protocol::Tcp, &[])).unwrap();
        let refused = |to: (Ipv4Addr, u16)| {
            let error = TcpStream::connect_timeout(&to.into(), WAIT.unwrap()).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{to:?}");
        };
        node.world.run(move || refused(NODE_PORT));
        node.pods[0].run(move || {
            refused(NODE_PORT);
            refused((VIP, 80));
        });
    });
}
