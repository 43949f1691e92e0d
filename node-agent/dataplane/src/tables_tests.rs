//! Tests of the planner: every prefix of every plan is fit for use.

use std::net::IpAddr;

use super::*;
use crate::model::{Endpoint, HostPort, Network, PortSpec, Protocol, ServiceSpec, ServiceView};
use crate::rows::sets;

fn endpoint(last: u8) -> Endpoint {
    Endpoint::ready(IpAddr::from([10, 244, 0, last]), 8080, last.is_multiple_of(2))
}

fn service(name: &str, last: u8, endpoints: &[u8]) -> ServiceSpec {
    ServiceSpec {
        namespace: "default".into(),
        name: name.into(),
        cluster_ips: vec![IpAddr::from([10, 96, 0, last])],
        ports: vec![PortSpec {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            endpoints: endpoints.iter().map(|e| endpoint(*e)).collect(),
        }],
        ..ServiceSpec::default()
    }
}

/// The same with a node port and an address outside, which lead to the same set.
fn exposed(name: &str, last: u8, endpoints: &[u8]) -> ServiceSpec {
    let mut service = service(name, last, endpoints);
    service.ports[0].node_port = Some(30_000 + u16::from(last));
    service.load_balancer_ips = vec![IpAddr::from([203, 0, 113, last])];
    service.source_ranges = vec![Network { addr: IpAddr::from([198, 51, 100, 0]), prefix: 24 }];
    service
}

fn view(services: &[ServiceSpec]) -> ServiceView {
    ServiceView { services: services.to_vec(), ..ServiceView::default() }
}

/// What a client may be sent to: the addresses behind each front end, read as a program reads them.
fn reachable(tables: &Tables) -> BTreeMap<ServiceKey, Vec<IpAddr>> {
    tables
        .services
        .iter()
        .map(|(key, service)| {
            let ids =
                tables.members(service).unwrap_or_else(|| panic!("{key:?} names slots that are not there"));
            let addrs = ids.iter().map(|id| {
                let backend = tables.backends.get(id).unwrap_or_else(|| panic!("slot names no backend {id}"));
                assert_eq!(backend.service, service.id, "a backend of another Service");
                IpAddr::from(backend.addr)
            });
            (*key, addrs.collect())
        })
        .collect()
}

/// Plans, and applies write by write; at each step every front end leads to its old or its new backends.
fn step(tables: &mut Tables, ids: &mut Allocator, wanted: &ServiceView) -> usize {
    let (sets, conflicts) = sets(wanted);
    assert!(conflicts.is_empty());
    let writes = plan(tables, &sets, ids);
    let before = reachable(tables);
    let mut after = tables.clone();
    writes.iter().for_each(|w| after.apply(w));
    let after = reachable(&after);
    for write in &writes {
        tables.apply(write);
        for (key, addrs) in reachable(tables) {
            assert!(
                Some(&addrs) == before.get(&key) || Some(&addrs) == after.get(&key),
                "{key:?} in between"
            );
        }
    }
    let targets = |set: &Set| set.targets.iter().map(|t| IpAddr::from(t.addr)).collect::<Vec<_>>();
    let expected: BTreeMap<_, Vec<_>> =
        sets.iter().flat_map(|set| set.keys().map(move |key| (key, targets(set)))).collect();
    assert_eq!(reachable(tables), expected);
    assert_eq!(
        tables.slots.len(),
        sets.iter().map(|set| set.targets.len()).sum::<usize>(),
        "nothing is left"
    );
    assert_eq!(tables.backends.len(), tables.slots.len());
    assert_eq!(tables.ranges.len(), sets.iter().map(|set| set.ranges.len()).sum::<usize>());
    let numbers: BTreeSet<u32> = tables.services.values().map(|s| s.id).collect();
    assert_eq!(numbers.len(), sets.len(), "every set has a number of its own");
    writes.len()
}

fn fresh() -> (Tables, Allocator) {
    let tables = Tables::default();
    let ids = Allocator::recover(&tables);
    (tables, ids)
}

#[test]
fn the_same_view_twice_writes_nothing() {
    let (mut tables, mut ids) = fresh();
    let wanted = view(&[service("a", 1, &[1, 2, 3]), service("b", 2, &[])]);
    assert_eq!(step(&mut tables, &mut ids, &wanted), 3 + 3 + 2);
    assert_eq!(step(&mut tables, &mut ids, &wanted), 0);
    let mut after_restart = Allocator::recover(&tables);
    assert_eq!(step(&mut tables, &mut after_restart, &wanted), 0, "numbers come back from the maps");
}

#[test]
fn numbers_are_stable_and_freed_ones_are_not_given_at_once() {
    let (mut tables, mut ids) = fresh();
    step(&mut tables, &mut ids, &view(&[service("a", 1, &[1, 2])]));
    let before = tables.clone();
    step(&mut tables, &mut ids, &view(&[service("a", 1, &[2, 3])]));
    let id_of = |t: &Tables, last: u8| {
        let addr = Addr::from(IpAddr::from([10, 244, 0, last]));
        t.backends.iter().find(|(_, b)| b.addr == addr).map(|(id, _)| *id)
    };
    assert_eq!(id_of(&before, 2), id_of(&tables, 2));
    assert_ne!(id_of(&before, 1), id_of(&tables, 3), "the freed number is not used again at once");
    assert_eq!(before.services.values().next().unwrap().id, tables.services.values().next().unwrap().id);
}

#[test]
fn a_service_without_endpoints_stays_and_refuses() {
    let (mut tables, mut ids) = fresh();
    step(&mut tables, &mut ids, &view(&[service("a", 1, &[1])]));
    step(&mut tables, &mut ids, &view(&[service("a", 1, &[])]));
    assert_eq!(tables.services.values().next().unwrap().count, 0);
    step(&mut tables, &mut ids, &view(&[]));
    assert_eq!(tables, Tables::default());
}

#[test]
fn an_unready_endpoint_is_left_out() {
    let (mut tables, mut ids) = fresh();
    let mut svc = service("a", 1, &[1, 2]);
    svc.ports[0].endpoints[0].ready = false;
    step(&mut tables, &mut ids, &view(&[svc]));
    assert_eq!(reachable(&tables).into_values().next().unwrap(), [IpAddr::from([10, 244, 0, 2])]);
}

#[test]
fn what_a_killed_agent_left_half_written_is_finished() {
    let first = view(&[service("a", 1, &[1, 2, 3]), service("b", 2, &[4])]);
    let second = view(&[service("a", 1, &[3, 5]), service("c", 3, &[6, 7])]);
    let (mut start, mut ids) = fresh();
    step(&mut start, &mut ids, &first);
    let (wanted_rows, _) = sets(&second);
    let writes = plan(&start, &wanted_rows, &mut ids.clone());
    for killed_after in 0..=writes.len() {
        let mut tables = start.clone();
        writes[..killed_after].iter().for_each(|w| tables.apply(w));
        let mut recovered = Allocator::recover(&tables);
        step(&mut tables, &mut recovered, &second);
    }
}

#[test]
fn reclaiming_takes_only_what_nobody_needs() {
    let first = view(&[service("a", 1, &[1, 2, 3]), service("b", 2, &[4])]);
    let second = view(&[service("a", 1, &[3, 5, 6]), service("c", 3, &[6, 7])]);
    let (mut tables, mut ids) = fresh();
    step(&mut tables, &mut ids, &first);
    let (wanted, _) = sets(&second);
    let writes = plan(&tables, &wanted, &mut ids);
    // The map is full after the third put.
    writes.iter().take(3).for_each(|w| tables.apply(w));
    let served = reachable(&tables);
    for write in reclaim(&tables, &wanted) {
        tables.apply(&write);
        for (key, addrs) in reachable(&tables) {
            assert_eq!(Some(&addrs), served.get(&key));
        }
    }
    assert_eq!(tables.services.len(), 1, "b is not wanted any more");
    assert_eq!((tables.slots.len(), tables.backends.len()), (3, 3), "what the failed plan wrote is gone");
    assert!(reclaim(&tables, &wanted).is_empty());
    let mut ids = Allocator::recover(&tables);
    step(&mut tables, &mut ids, &second);
}

#[test]
fn front_ends_of_one_port_share_their_backends_and_come_and_go_alone() {
    let (mut tables, mut ids) = fresh();
    step(&mut tables, &mut ids, &view(&[service("a", 1, &[1, 2])]));
    let id = tables.services.values().next().unwrap().id;
    assert_eq!(
        step(&mut tables, &mut ids, &view(&[exposed("a", 1, &[1, 2])])),
        3,
        "two front ends and a network"
    );
    assert_eq!(tables.services.len(), 3);
    assert!(tables.services.values().all(|s| s.id == id && s.count == 2));
    step(&mut tables, &mut ids, &view(&[exposed("a", 1, &[2, 3])]));
    step(&mut tables, &mut ids, &view(&[service("a", 1, &[2, 3])]));
    assert_eq!((tables.services.len(), tables.services.values().next().unwrap().id), (1, id));
}

#[test]
fn a_front_end_that_changes_hands_takes_no_number_twice() {
    let (mut tables, mut ids) = fresh();
    step(&mut tables, &mut ids, &view(&[exposed("b", 1, &[1])]));
    let mut heir = service("a", 2, &[2]);
    heir.ports[0].node_port = Some(30_001);
    step(&mut tables, &mut ids, &view(&[heir, service("b", 1, &[1])]));
}

#[test]
fn a_port_of_the_node_leads_to_its_pod() {
    let (mut tables, mut ids) = fresh();
    let mut wanted = view(&[service("a", 1, &[1])]);
    wanted.host_ports.push(HostPort {
        namespace: "default".into(),
        name: "p".into(),
        host_ip: None,
        host_port: 8080,
        protocol: Protocol::Tcp,
        addr: IpAddr::from([10, 244, 0, 9]),
        port: 80,
    });
    step(&mut tables, &mut ids, &wanted);
    assert_eq!(tables.services.len(), 2);
}

#[test]
fn a_thousand_random_walks_keep_every_promise() {
    let mut seed = 0x5eed_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..100 {
        let (mut tables, mut ids) = fresh();
        for _ in 0..10 {
            let services: Vec<ServiceSpec> = (0..random(5))
                .map(|n| {
                    let endpoints: Vec<u8> = (0..random(6)).map(|_| random(9) as u8 + 1).collect();
                    let made = if random(2) == 0 { service } else { exposed };
                    ServiceSpec {
                        internal_local: random(2) == 0,
                        ..made(&format!("s{n}"), n as u8, &endpoints)
                    }
                })
                .collect();
            if random(3) == 0 {
                ids = Allocator::recover(&tables);
            }
            step(&mut tables, &mut ids, &view(&services));
        }
    }
}

#[test]
fn a_table_of_slots_names_a_backend_often_and_writes_it_once() {
    let (mut tables, mut ids) = fresh();
    let wanted =
        |endpoints: &[u8]| sets(&view(&[ServiceSpec { consistent: true, ..service("a", 1, endpoints) }])).0;
    let count = |writes: &[Write], what: fn(&Write) -> bool| writes.iter().filter(|w| what(w)).count();
    let writes = plan(&tables, &wanted(&[1, 2, 3]), &mut ids);
    assert_eq!(count(&writes, |w| matches!(w, Write::PutBackend(..))), 3);
    writes.iter().for_each(|w| tables.apply(w));
    assert_eq!(tables.slots.len(), crate::maglev::SIZE);
    assert!(plan(&tables, &wanted(&[3, 2, 1]), &mut ids).is_empty());
    let writes = plan(&tables, &wanted(&[1, 2]), &mut ids);
    assert_eq!(count(&writes, |w| matches!(w, Write::PutBackend(..))), 0);
    assert_eq!(count(&writes, |w| matches!(w, Write::DeleteBackend(..))), 1);
    writes.iter().for_each(|w| tables.apply(w));
    assert_eq!(reachable(&tables).values().map(Vec::len).collect::<Vec<_>>(), [crate::maglev::SIZE]);
}
