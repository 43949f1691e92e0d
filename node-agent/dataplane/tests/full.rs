//! A full table of connections: what is new is refused, what lives goes on, and what has expired makes room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
#![allow(unsafe_code)] // shapes of maps as the loader library wants them

mod common;

use aya::Pod;
use aya::maps::{HashMap, Map, MapData};
use common::node::{DROP, NEXT, Node, REDIRECT, V4, run};
use common::packet::{Ip, Packet};
use common::{Sandbox, sandboxed};
use skep_abi::conntrack::state;
use skep_abi::{Addr, CtEntry, CtKey, CtKind, limits, proto};
use skep_dataplane::{DropReason, Endpoint, PortSpec, Protocol, ServiceSpec, ServiceView};
use std::net::Ipv4Addr;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Key(CtKey);
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Entry(CtEntry);
// SAFETY: plain bytes without padding, as `skep_abi::Plain` has it.
unsafe impl Pod for Key {}
// SAFETY: as above.
unsafe impl Pod for Entry {}

type Table = HashMap<MapData, Key, Entry>;

fn table(sandbox: &Sandbox) -> Table {
    Map::HashMap(MapData::from_pin(sandbox.map("CONNTRACK")).unwrap()).try_into().unwrap()
}

/// Connections that ended long ago, until there is no room for another one.
fn fill(table: &mut Table) -> usize {
    let mut made = 0;
    loop {
        let key = CtKey::new(
            CtKind::Direct,
            Addr::from(Ipv4Addr::from_bits(0xc612_0000 + (made as u32 >> 16))),
            Addr::from(V4.outside),
            made as u16,
            80,
            proto::TCP,
        );
        let entry = CtEntry { state: state::RST, ..CtEntry::default() };
        if table.insert(Key(key), Entry(entry), 0).is_err() {
            return made;
        }
        made += 1;
    }
}

#[test]
fn a_full_table_refuses_what_is_new_and_keeps_what_lives() {
    sandboxed(|sandbox| {
        let (node, p) = (Node::new(sandbox), &V4);
        let endpoints = vec![Endpoint::ready(p.pod_b, 8080, true)];
        let port =
            PortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: None, endpoints };
        let service = ServiceSpec {
            namespace: "default".into(),
            name: "web".into(),
            cluster_ips: vec![p.vip],
            ports: vec![port],
            ..ServiceSpec::default()
        };
        let view = ServiceView { services: vec![service], ..ServiceView::default() };
        node.dataplane.sync_services(&view).unwrap();
        let masqueraded = |sport, flags| {
            let packet = Packet::tcp(Ip::new(p.pod_a, p.outside), sport, 443, flags);
            run(sandbox, "skep_to_net", node.uplink, &packet)
        };
        let to_service = |sport, flags| {
            let packet = Packet::tcp(Ip::new(p.pod_a, p.vip), sport, 80, flags);
            run(sandbox, "skep_from_pod", node.a, &packet)
        };
        let direct = |sport, flags| {
            let packet = Packet::tcp(Ip::new(p.outside, p.pod_b), sport, 8080, flags);
            run(sandbox, "skep_from_net", node.uplink, &packet)
        };
        let lives = || {
            let (verdict, out) = masqueraded(40_000, ACK);
            assert_eq!(verdict, NEXT);
            let (verdict, back) = run(sandbox, "skep_from_net", node.uplink, &out.answer());
            assert_eq!((verdict, back.dst(), back.ports().1), (NEXT, p.pod_a, 40_000));
            let (verdict, out) = to_service(40_001, ACK);
            assert_eq!((verdict, out.dst()), (REDIRECT, p.pod_b));
            let (verdict, back) = run(sandbox, "skep_from_pod", node.b, &out.answer());
            assert_eq!((verdict, back.src()), (REDIRECT, p.vip));
            assert_eq!(direct(40_002, ACK).0, NEXT);
            let answer = Packet::tcp(Ip::new(p.pod_b, p.outside), 8080, 40_002, ACK);
            assert_eq!(run(sandbox, "skep_to_net", node.uplink, &answer), (NEXT, answer));
        };
        assert_eq!((masqueraded(40_000, SYN).0, to_service(40_001, SYN).0), (NEXT, REDIRECT));
        assert_eq!(direct(40_002, SYN).0, NEXT);
        lives();
        let mut table = table(sandbox);
        let living = table.keys().count();
        let made = fill(&mut table);
        assert_eq!(living + made, limits::CONNTRACK as usize);

        assert_eq!(masqueraded(41_000, SYN).0, DROP);
        assert_eq!(to_service(41_001, SYN).0, DROP);
        assert_eq!(direct(41_002, SYN).0, DROP);
        assert_eq!(node.drops(), [(DropReason::TableFull, true, 1), (DropReason::TableFull, false, 1)]);
        assert_eq!(node.drops_of(node.a), [DropReason::TableFull]);
        lives();
        // With room for one entry alone, no half of a connection stays behind.
        let first =
            table.keys().find_map(|key| key.ok().filter(|k| k.0.kind == CtKind::Direct as u8)).unwrap();
        table.remove(&first).unwrap();
        assert_eq!((masqueraded(41_000, SYN).0, to_service(41_001, SYN).0), (DROP, DROP));
        assert_eq!(table.keys().count(), limits::CONNTRACK as usize - 1);

        let mut removed = 0;
        while table.keys().count() > living {
            removed += node.dataplane.sweep_connections().unwrap().removed;
        }
        assert!(removed >= made - 1 && removed <= made, "{removed} of {made}");
        lives();
        assert_eq!((masqueraded(41_000, SYN).0, to_service(41_001, SYN).0), (NEXT, REDIRECT));
        assert_eq!(direct(41_002, SYN).0, NEXT);
    });
}
