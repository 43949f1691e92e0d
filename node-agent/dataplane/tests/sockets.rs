//! The socket hooks, tried with real sockets in a cgroup and a network namespace of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Netns, sandboxed, wire};
use skep_dataplane::{Config, Dataplane, Endpoint, HostPort, PortSpec, Protocol, ServiceSpec, ServiceView};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

fn view(protocol: Protocol, backends: &[SocketAddr]) -> ServiceView {
    let endpoint = |at: &SocketAddr| Endpoint::ready(at.ip(), at.port(), true);
    let endpoints = backends.iter().map(endpoint).collect();
    ServiceView {
        services: vec![ServiceSpec {
            namespace: "default".into(),
            name: "web".into(),
            cluster_ips: vec![VIP.into(), "fd00:96::10".parse().unwrap()],
            ports: vec![PortSpec { name: String::new(), protocol, port: 80, node_port: None, endpoints }],
            ..ServiceSpec::default()
        }],
        ..ServiceView::default()
    }
}

/// A server on a loopback address that answers with its own name to everyone.
fn tcp_server(ip: &str) -> SocketAddr {
    let listener = TcpListener::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.write_all(at.to_string().as_bytes());
        }
    });
    at
}

fn udp_server(ip: &str) -> SocketAddr {
    udp_server_at((ip.parse::<IpAddr>().unwrap(), 0).into())
}

fn udp_server_at(at: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind(at).unwrap();
    let at = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(at.to_string().as_bytes(), from);
        }
    });
    at
}

fn ask(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn vip() -> SocketAddr {
    (VIP, 80).into()
}

fn say(socket: &UdpSocket, to: SocketAddr) -> (String, SocketAddr) {
    socket.send_to(b"?", to).unwrap();
    hear(socket)
}

fn hear(socket: &UdpSocket) -> (String, SocketAddr) {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 64];
    let (n, from) = socket.recv_from(&mut buffer).unwrap();
    (String::from_utf8_lossy(&buffer[..n]).into_owned(), from)
}

#[test]
fn tcp_reaches_every_backend_and_believes_in_the_service() {
    sandboxed(|sandbox| {
        let dataplane = sandbox.open();
        sandbox.enter_cgroup();
        let servers = ["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(tcp_server);
        dataplane.sync_services(&view(Protocol::Tcp, &servers)).unwrap();
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..300 {
            *answers.entry(ask(vip()).unwrap()).or_default() += 1;
        }
        let names: BTreeSet<String> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(answers.keys().cloned().collect::<BTreeSet<_>>(), names);
        // 300 fair throws among three: fewer than 40 for one has a chance below 1 in 10^14.
        assert!(answers.values().all(|n| *n >= 40), "{answers:?}");
        let stream = TcpStream::connect(vip()).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), vip(), "getpeername shows the Service");
        // Another port of the address is no Service.
        assert_ne!(SocketAddr::from((VIP, 81)), stream.peer_addr().unwrap());
    });
}

#[test]
fn dual_stack_sockets_and_ipv6_services_are_caught() {
    sandboxed(|sandbox| {
        let dataplane = sandbox.open();
        sandbox.enter_cgroup();
        let (four, six) = (tcp_server("127.0.0.2"), tcp_server("::1"));
        dataplane.sync_services(&view(Protocol::Tcp, &[four, six])).unwrap();
        let mapped = SocketAddr::from((VIP.to_ipv6_mapped(), 80));
        assert_eq!(ask(mapped).unwrap(), four.to_string());
        assert_eq!(TcpStream::connect(mapped).unwrap().peer_addr().unwrap(), mapped);
        assert_eq!(ask("[fd00:96::10]:80".parse().unwrap()).unwrap(), six.to_string());
    });
}

#[test]
fn a_service_without_ready_endpoints_refuses() {
    sandboxed(|sandbox| {
        let dataplane = sandbox.open();
        sandbox.enter_cgroup();
        dataplane.sync_services(&view(Protocol::Tcp, &[])).unwrap();
        let error = ask(vip()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied),
            "{error:?}"
        );
        let drops = dataplane.counters().unwrap().node_drops;
        assert_eq!(drops.iter().map(|(_, d)| d.packets).sum::<u64>(), 1, "{drops:?}");
        let server = tcp_server("127.0.0.2");
        let mut unready = view(Protocol::Tcp, &[server]);
        unready.services[0].ports[0].endpoints[0].ready = false;
        dataplane.sync_services(&unready).unwrap();
        ask(vip()).unwrap_err();
        dataplane.sync_services(&view(Protocol::Tcp, &[server])).unwrap();
        assert_eq!(ask(vip()).unwrap(), server.to_string());
    });
}

#[test]
fn udp_answers_come_from_the_service_connected_or_not() {
    sandboxed(|sandbox| {
        let dataplane = sandbox.open();
        sandbox.enter_cgroup();
        let servers = ["127.0.0.2", "127.0.0.3"].map(udp_server);
        dataplane.sync_services(&view(Protocol::Udp, &servers)).unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..64 {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let (first, from) = say(&socket, vip());
            assert_eq!(from, vip(), "the answer shows the Service");
            assert_eq!(say(&socket, vip()).0, first, "a socket keeps its backend");
            seen.insert(first);
            let connected = UdpSocket::bind("0.0.0.0:0").unwrap();
            connected.connect(vip()).unwrap();
            connected.send(b"?").unwrap();
            assert_eq!(hear(&connected).1, vip());
            assert_eq!(connected.peer_addr().unwrap(), vip());
        }
        // 64 fair throws between two: one side only has a chance of 1 in 10^19.
        assert_eq!(seen.len(), 2);
        let dual = UdpSocket::bind("[::]:0").unwrap();
        let mapped = SocketAddr::from((VIP.to_ipv6_mapped(), 80));
        assert_eq!(say(&dual, mapped).1, mapped);
    });
}

#[test]
fn an_unconnected_udp_socket_leaves_a_removed_backend() {
    sandboxed(|sandbox| {
        let dataplane = sandbox.open();
        sandbox.enter_cgroup();
        let servers = ["127.0.0.2", "127.0.0.3"].map(udp_server);
        dataplane.sync_services(&view(Protocol::Udp, &servers)).unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let (first, _) = say(&socket, vip());
        let other = *servers.iter().find(|s| s.to_string() != first).unwrap();
        dataplane.sync_services(&view(Protocol::Udp, &[other])).unwrap();
        assert_eq!(say(&socket, vip()), (other.to_string(), vip()));
    });
}

/// A socket that is connected to this backend by way of the Service.
fn connected_to(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    loop {
        socket.connect(vip()).unwrap();
        socket.send(b"?").unwrap();
        if hear(&socket).0 == server.to_string() {
            return socket;
        }
    }
}

fn is_told(socket: &UdpSocket) {
    assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn a_connected_udp_socket_is_told_when_its_backend_goes_in_whichever_namespace() {
    sandboxed(|sandbox| {
        let dataplane = sandbox.open();
        sandbox.enter_cgroup();
        let [gone, stays] = ["127.0.0.2", "127.0.0.3"].map(udp_server);
        dataplane.sync_services(&view(Protocol::Udp, &[gone, stays])).unwrap();
        let pod = Netns::new();
        // A namespace is found by its processes.
        let start = || std::process::Command::new("sleep").arg("120").spawn().unwrap();
        let mut process = pod.run(start);
        let in_pod = pod.run(move || {
            assert_eq!([gone, stays].map(udp_server_at), [gone, stays]);
            [connected_to(gone), connected_to(stays)]
        });
        let here = [connected_to(gone), connected_to(stays)];
        let direct = UdpSocket::bind("0.0.0.0:0").unwrap();
        direct.connect(gone).unwrap();
        let unconnected = UdpSocket::bind("0.0.0.0:0").unwrap();
        say(&unconnected, vip());

        assert_eq!(dataplane.tell_orphans().unwrap().told, 0, "nothing is gone");
        dataplane.tell_orphans().unwrap();
        let mut leaving = view(Protocol::Udp, &[gone, stays]);
        let endpoint = &mut leaving.services[0].ports[0].endpoints[0];
        (endpoint.ready, endpoint.terminating) = (false, true);
        dataplane.sync_services(&leaving).unwrap();
        assert_eq!(dataplane.tell_orphans().unwrap().told, 0, "it serves to its end");
        dataplane.sync_services(&view(Protocol::Udp, &[stays])).unwrap();
        let told = dataplane.tell_orphans().unwrap();
        assert!(told.supported, "this kernel cannot end sockets (CONFIG_INET_DIAG_DESTROY)");
        assert_eq!((told.told, told.again), (2, true));
        for [orphan, other] in [&here, &in_pod] {
            is_told(orphan);
            other.send(b"?").unwrap();
            assert_eq!(hear(other), (stays.to_string(), vip()));
        }
        direct.send(b"?").unwrap();
        assert_eq!(hear(&direct).0, gone.to_string(), "who did not ask for the Service is not its client");
        assert_eq!(say(&unconnected, vip()).0, stays.to_string());
        let told = dataplane.tell_orphans().unwrap();
        assert_eq!((told.told, told.again), (0, false));

        // What went while no agent was there is found by the next one.
        let late = connected_to(stays);
        drop(dataplane);
        let dataplane = sandbox.open();
        dataplane.sync_services(&ServiceView::default()).unwrap();
        assert_eq!(dataplane.tell_orphans().unwrap().told, 3, "the Service is gone");
        is_told(&late);
        process.kill().unwrap();
        process.wait().unwrap();
    });
}

#[test]
fn a_tcp_connection_is_ended_when_its_endpoint_is_gone_and_not_when_it_is_unready() {
    sandboxed(|sandbox| {
        let dataplane = sandbox.open();
        sandbox.enter_cgroup();
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let at = listener.local_addr().unwrap();
        let served = |ready| {
            let mut view = view(Protocol::Tcp, &[at]);
            let endpoint = &mut view.services[0].ports[0].endpoints[0];
            (endpoint.ready, endpoint.serving) = (ready, ready);
            view
        };
        dataplane.sync_services(&served(true)).unwrap();
        let mut client = TcpStream::connect(vip()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut direct = TcpStream::connect(at).unwrap();
        let mut server = listener.accept().unwrap().0;
        let mut other = listener.accept().unwrap().0;
        let look = || dataplane.tell_orphans().unwrap();
        assert_eq!((look().told, look().told), (0, 0));
        dataplane.sync_services(&served(false)).unwrap();
        assert_eq!((look().told, look().told), (0, 0));
        let mut word = [0; 1];
        server.write_all(b"!").unwrap();
        client.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"!", "it comes to its end by itself");
        dataplane.sync_services(&view(Protocol::Tcp, &[])).unwrap();
        assert_eq!(look().told, 1);
        assert_eq!(client.read(&mut word).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        other.write_all(b"!").unwrap();
        direct.read_exact(&mut word).unwrap();
    });
}

const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// The Service on a node port as well.
fn on_node_port(protocol: Protocol, backends: &[SocketAddr]) -> ServiceView {
    let mut view = view(protocol, backends);
    view.services[0].ports[0].node_port = Some(30_080);
    view
}

#[test]
fn a_node_port_is_reached_by_every_address_of_the_node_and_by_loopback() {
    sandboxed(|sandbox| {
        wire::address(1, NODE, 32);
        let dataplane = sandbox.open();
        sandbox.enter_cgroup();
        let server = tcp_server("127.0.0.2");
        dataplane.sync_services(&on_node_port(Protocol::Tcp, &[server])).unwrap();
        for ip in [NODE, Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 9, 9), Ipv4Addr::UNSPECIFIED] {
            assert_eq!(ask((ip, 30_080).into()).unwrap(), server.to_string(), "{ip}");
        }
        let mapped = SocketAddr::from((NODE.to_ipv6_mapped(), 30_080));
        assert_eq!(ask(mapped).unwrap(), server.to_string());
        let stream = TcpStream::connect((NODE, 30_080)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), (NODE, 30_080).into());
        assert!(ask((NODE, 30_081).into()).is_err(), "another port");
        // An address that the node gains later.
        let late = Ipv4Addr::new(192, 0, 2, 11);
        wire::address(1, late, 32);
        assert!(ask((late, 30_080).into()).is_err());
        assert_eq!(dataplane.sync_addresses().unwrap(), 1);
        assert_eq!(ask((late, 30_080).into()).unwrap(), server.to_string());
        assert_eq!(dataplane.sync_addresses().unwrap(), 0);
        // A pod's loopback addresses are its own, even with the same port.
        let pod = Netns::new();
        let own = pod.run(|| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 30_080)).unwrap();
            std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"mine").unwrap());
            ask((Ipv4Addr::LOCALHOST, 30_080).into()).unwrap()
        });
        assert_eq!(own, "mine");
        dataplane.sync_services(&on_node_port(Protocol::Tcp, &[])).unwrap();
        let error = ask((NODE, 30_080).into()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied),
            "{error:?}"
        );
    });
}

#[test]
fn udp_answers_come_from_the_node_port() {
    sandboxed(|sandbox| {
        wire::address(1, NODE, 32);
        let dataplane = sandbox.open();
        sandbox.enter_cgroup();
        let server = udp_server("127.0.0.2");
        dataplane.sync_services(&on_node_port(Protocol::Udp, &[server])).unwrap();
        let at = SocketAddr::from((NODE, 30_080));
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert_eq!(say(&socket, at), (server.to_string(), at));
        socket.connect(at).unwrap();
        socket.send(b"?").unwrap();
        assert_eq!(hear(&socket).1, at);
    });
}

#[test]
fn a_client_stays_with_one_backend_while_affinity_is_on() {
    sandboxed(|sandbox| {
        wire::address(1, NODE, 32);
        let dataplane = sandbox.open();
        sandbox.enter_cgroup();
        let servers = ["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(tcp_server);
        let sticky = |backends: &[SocketAddr]| {
            let mut view = on_node_port(Protocol::Tcp, backends);
            view.services[0].affinity_seconds = Some(3600);
            view
        };
        let asked = |n: usize| -> BTreeSet<String> { (0..n).map(|_| ask(vip()).unwrap()).collect() };
        // 60 throws at three: one side only has a chance of 1 in 10^28.
        dataplane.sync_services(&on_node_port(Protocol::Tcp, &servers)).unwrap();
        assert!(asked(60).len() > 1);
        dataplane.sync_services(&sticky(&servers)).unwrap();
        let first = asked(60);
        assert_eq!(first.len(), 1, "switched on");
        assert_eq!(ask((NODE, 30_080).into()).unwrap(), *first.first().unwrap(), "by the node port as well");
        let left: Vec<SocketAddr> = servers.into_iter().filter(|s| !first.contains(&s.to_string())).collect();
        dataplane.sync_services(&sticky(&left)).unwrap();
        let second = asked(60);
        assert_eq!(second.len(), 1, "the backend is gone, and another takes its place");
        assert!(first.is_disjoint(&second));
        drop(dataplane);
        let dataplane = sandbox.open();
        dataplane.sync_services(&sticky(&servers)).unwrap();
        assert_eq!(asked(60), second, "another agent changes nothing");
        dataplane.sync_services(&on_node_port(Protocol::Tcp, &servers)).unwrap();
        assert!(asked(60).len() > 1, "switched off");
    });
}

#[test]
fn ports_of_the_node_lead_to_pods_by_address_and_protocol() {
    sandboxed(|sandbox| {
        wire::address(1, NODE, 32);
        let dataplane = sandbox.open();
        sandbox.enter_cgroup();
        let (one, two, all) = (tcp_server("127.0.0.2"), tcp_server("127.0.0.3"), tcp_server("127.0.0.4"));
        let three = udp_server("127.0.0.5");
        let port = |host_ip: Option<Ipv4Addr>, host_port, protocol, to: SocketAddr| HostPort {
            namespace: "default".into(),
            name: to.to_string(),
            host_ip: host_ip.map(IpAddr::from),
            host_port,
            protocol,
            addr: to.ip(),
            port: to.port(),
        };
        let host_ports = vec![
            port(Some(Ipv4Addr::LOCALHOST), 54_323, Protocol::Tcp, one),
            port(Some(NODE), 54_323, Protocol::Tcp, two),
            port(Some(NODE), 54_323, Protocol::Udp, three),
            port(None, 54_324, Protocol::Tcp, all),
        ];
        dataplane.sync_services(&ServiceView { host_ports, ..ServiceView::default() }).unwrap();
        assert_eq!(ask((Ipv4Addr::LOCALHOST, 54_323).into()).unwrap(), one.to_string());
        assert_eq!(ask((NODE, 54_323).into()).unwrap(), two.to_string());
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert_eq!(say(&socket, (NODE, 54_323).into()).0, three.to_string());
        for ip in [NODE, Ipv4Addr::LOCALHOST] {
            assert_eq!(ask((ip, 54_324).into()).unwrap(), all.to_string());
        }
    });
}

/// The object, a byte longer: another object with the same programs.
fn other_object(config: &Config) -> std::path::PathBuf {
    let mut bytes = std::fs::read(&config.object).unwrap();
    bytes.push(0);
    let path = std::env::temp_dir().join(format!("skep-dataplane-test-{}.o", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_new_agent_takes_over_what_it_finds() {
    sandboxed(|sandbox| {
        let server = tcp_server("127.0.0.2");
        let wanted = view(Protocol::Tcp, &[server]);
        let first = sandbox.open();
        assert_eq!((first.opened().maps_adopted, first.opened().programs_adopted), (0, 0));
        let programs = first.opened().programs_loaded;
        let links = first.opened().links_created;
        assert_eq!((programs, links), (12, 8));
        first.sync_services(&wanted).unwrap();
        assert!(matches!(Dataplane::open(sandbox.config()), Err(skep_dataplane::Error::Locked { .. })));
        let before = first.status().unwrap();
        for program in &before.programs {
            println!(
                "{}: {:?} instructions verified, {} bytes of machine code, at {:?}",
                program.name, program.verified_instructions, program.jited_bytes, program.attach_points
            );
        }
        drop(first);

        sandbox.enter_cgroup();
        assert_eq!(ask(vip()).unwrap(), server.to_string(), "traffic goes on without an agent");
        let second = sandbox.open();
        let opened = second.opened();
        assert_eq!((opened.maps_created, opened.programs_loaded, opened.links_created), (0, 0, 0));
        assert_eq!((opened.programs_adopted, opened.links_adopted), (programs, links));
        assert_eq!(second.sync_services(&wanted).unwrap().writes, 0);
        let ids = |s: &skep_dataplane::Status| s.programs.iter().map(|p| p.id).collect::<Vec<_>>();
        assert_eq!(ids(&second.status().unwrap()), ids(&before));
        drop(second);

        let config = Config { object: other_object(&sandbox.config()), ..sandbox.config() };
        let third = Dataplane::open(config.clone()).unwrap();
        assert_eq!((third.opened().programs_loaded, third.opened().links_created), (programs, 0));
        let status = third.status().unwrap();
        assert!(ids(&status).iter().all(|id| !ids(&before).contains(id)), "every program was exchanged");
        let cgroup = status.programs.iter().filter(|p| !p.attach_points.is_empty()).count();
        assert_eq!(cgroup, links, "and every link followed");
        assert_eq!(third.sync_services(&wanted).unwrap().writes, 0);
        assert_eq!(ask(vip()).unwrap(), server.to_string());
        std::fs::remove_file(config.object).unwrap();
        drop(third);

        assert!(skep_dataplane::remove_all(&sandbox.dir, "test", "n1.example.org").unwrap());
        assert!(!sandbox.dir.join("skep").exists(), "no pin is left");
        assert!(!skep_dataplane::remove_all(&sandbox.dir, "test", "n1.example.org").unwrap());
    });
}

#[test]
fn no_connection_fails_while_backends_change_and_agents_come_and_go() {
    sandboxed(|sandbox| {
        let servers = ["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(tcp_server);
        let mut dataplane = sandbox.open();
        dataplane.sync_services(&view(Protocol::Tcp, &servers)).unwrap();
        sandbox.enter_cgroup();
        let objects = [sandbox.config().object, other_object(&sandbox.config())];
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients: Vec<_> = (0..2)
            .map(|_| {
                let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        ask(vip()).unwrap();
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for round in 0..20 {
            drop(dataplane);
            let object = objects[round % 2].clone();
            dataplane = Dataplane::open(Config { object, ..sandbox.config() }).unwrap();
            for turn in 0..50 {
                let some: Vec<SocketAddr> =
                    (0..3).filter(|i| (turn + i) % 3 != 0).map(|i| servers[i]).collect();
                dataplane.sync_services(&view(Protocol::Tcp, &some)).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a connection failed");
        }
        assert!(asked.load(Ordering::Relaxed) > 0);
        std::fs::remove_file(&objects[1]).unwrap();
    });
}
