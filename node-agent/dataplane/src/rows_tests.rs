//! Tests of front ends and sets.

use super::*;

fn endpoint(last: u8, local: bool) -> Endpoint {
    Endpoint::ready(IpAddr::from([10, 244, 0, last]), 8080, local)
}

fn service(endpoints: Vec<Endpoint>) -> ServiceSpec {
    ServiceSpec {
        namespace: "default".into(),
        name: "web".into(),
        cluster_ips: vec![IpAddr::from([10, 96, 0, 1])],
        ports: vec![PortSpec {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            endpoints,
        }],
        ..ServiceSpec::default()
    }
}

fn of(services: Vec<ServiceSpec>) -> (Vec<Set>, Vec<String>) {
    sets(&ServiceView { services, ..ServiceView::default() })
}

fn last(set: &Set) -> Vec<u8> {
    set.targets.iter().map(|t| t.addr.words[3].to_ne_bytes()[3]).collect()
}

fn fronts(set: &Set) -> Vec<(String, u16, u32)> {
    set.fronts
        .iter()
        .map(|(k, f)| (IpAddr::from(k.addr).to_string(), u16::from_be(k.port), f.flags))
        .collect()
}

#[test]
fn two_claims_of_one_front_end_are_told() {
    let mut rival = service(vec![endpoint(9, true)]);
    (rival.namespace, rival.name) = ("other".into(), "b".into());
    let (sets, conflicts) = of(vec![rival, service(vec![endpoint(1, true)])]);
    assert_eq!((sets.len(), last(&sets[0])), (1, vec![1]));
    assert_eq!(conflicts, ["other/b 10.96.0.1:80 Tcp"]);
}

#[test]
fn every_address_of_a_port_leads_to_one_set_under_its_own_policy() {
    let mut web = service(vec![endpoint(1, true)]);
    web.external_ips = vec![IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 1])];
    web.load_balancer_ips = vec![IpAddr::from([203, 0, 113, 1])];
    web.source_ranges = vec![Network { addr: IpAddr::from([198, 51, 100, 0]), prefix: 24 }];
    web.ports[0].node_port = Some(30_080);
    web.external_local = true;
    let (mut sets, conflicts) = of(vec![web.clone()]);
    let outside = flags::LOCAL_FROM_OUTSIDE;
    assert_eq!(
        fronts(&sets.remove(0)),
        [
            ("10.96.0.1".to_owned(), 80, 0),
            ("203.0.113.1".to_owned(), 80, outside | flags::RESTRICTED),
            ("192.0.2.1".to_owned(), 80, outside),
            ("0.0.0.0".to_owned(), 30_080, outside),
        ]
    );
    assert!(conflicts.is_empty(), "an address that is named twice is no conflict: {conflicts:?}");
    web.internal_local = true;
    web.external_local = false;
    let (sets, _) = of(vec![web]);
    assert_eq!(sets[0].fronts[0].1.flags, flags::LOCAL_ONLY);
    assert_eq!(sets[0].fronts[3].1.flags, 0);
    assert_eq!(sets[0].ranges, [(Addr::from(IpAddr::from([198, 51, 100, 0])), 120)].into());
}

#[test]
fn families_do_not_mix() {
    let mut web = service(vec![endpoint(1, true)]);
    web.cluster_ips.push("fd00::1".parse().unwrap());
    web.ports[0].node_port = Some(30_080);
    web.ports[0].endpoints.push(Endpoint::ready("fd00::2:1".parse().unwrap(), 8080, false));
    let (sets, _) = of(vec![web.clone()]);
    assert_eq!(sets.len(), 2);
    assert_eq!((last(&sets[0]), fronts(&sets[0])[1].0.as_str()), (vec![1], "0.0.0.0"));
    assert_eq!(IpAddr::from(sets[1].targets[0].addr), "fd00::2:1".parse::<IpAddr>().unwrap());
    assert_eq!(fronts(&sets[1])[1].0, "::");
    web.cluster_ips.pop();
    assert_eq!(of(vec![web]).0.len(), 1, "a Service without addresses of a family has no node port in it");
}

#[test]
fn both_policies_have_their_stretch_of_slots() {
    let stretch = |endpoints: Vec<Endpoint>| {
        let set = of(vec![service(endpoints)]).0.remove(0);
        (last(&set), set.local_count, set.cluster_start)
    };
    let mixed =
        vec![endpoint(1, false), endpoint(2, true), endpoint(2, true), endpoint(3, false), endpoint(4, true)];
    assert_eq!(stretch(mixed), (vec![2, 4, 1, 3], 2, 0));
    let ending = Endpoint { ready: false, terminating: true, ..endpoint(2, true) };
    assert_eq!(
        stretch(vec![endpoint(1, false), ending]),
        (vec![2, 1], 1, 1),
        "the local one serves the local policy alone"
    );
    assert_eq!(stretch(vec![endpoint(1, false)]), (vec![1], 0, 0));
    assert_eq!(stretch(vec![]), (vec![], 0, 0));
}

fn host_port(host_ip: Option<&str>, protocol: Protocol, last: u8) -> HostPort {
    HostPort {
        namespace: "default".into(),
        name: format!("pod{last}"),
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port: 54_323,
        protocol,
        addr: IpAddr::from([10, 244, 0, last]),
        port: 8080,
    }
}

#[test]
fn ports_of_the_node_are_told_apart_by_address_and_protocol() {
    let host_ports = vec![
        host_port(Some("127.0.0.1"), Protocol::Tcp, 1),
        host_port(Some("192.0.2.10"), Protocol::Tcp, 2),
        host_port(Some("192.0.2.10"), Protocol::Udp, 3),
        host_port(None, Protocol::Tcp, 4),
        host_port(Some("0.0.0.0"), Protocol::Tcp, 5),
    ];
    let (sets, conflicts) = sets(&ServiceView { host_ports, ..ServiceView::default() });
    let places: Vec<_> =
        sets.iter().map(|s| (fronts(s)[0].0.clone(), s.fronts[0].0.proto, last(s)[0])).collect();
    let expected = [("127.0.0.1", 6, 1), ("192.0.2.10", 6, 2), ("192.0.2.10", 17, 3), ("0.0.0.0", 6, 4)];
    assert_eq!(places, expected.map(|(ip, proto, last)| (ip.to_owned(), proto, last)));
    assert_eq!(conflicts, ["default/pod5 0.0.0.0:54323 Tcp"]);
}

#[test]
fn consistent_sets_are_tables_that_each_node_makes_alike() {
    let endpoints = |here: &[u8]| (1..=3).map(|n| endpoint(n, here.contains(&n))).collect::<Vec<_>>();
    let set = |here: &[u8], external_local| {
        let web = ServiceSpec { consistent: true, external_local, ..service(endpoints(here)) };
        let mut sets = of(vec![web]).0;
        assert_eq!(sets[0].fronts[0].1.flags & flags::CONSISTENT, flags::CONSISTENT);
        sets.remove(0)
    };
    let (one, other) = (set(&[1], false), set(&[2, 3], false));
    assert_eq!((one.cluster_start, one.local_count, one.targets.len()), (0, 0, maglev::SIZE));
    assert_eq!(last(&one), last(&other));
    let local = set(&[2], true);
    assert_eq!((local.cluster_start, local.local_count), (maglev::SIZE as u32, maglev::SIZE as u32));
    assert!(last(&local)[..maglev::SIZE].iter().all(|n| *n == 2));
    assert_eq!(last(&local)[maglev::SIZE..], last(&one));
    let all = set(&[1, 2, 3], true);
    assert_eq!(
        (all.cluster_start, all.local_count, all.targets.len()),
        (0, maglev::SIZE as u32, maglev::SIZE)
    );
    let none = of(vec![ServiceSpec { consistent: true, ..service(Vec::new()) }]).0;
    assert_eq!((none[0].targets.len(), none[0].local_count), (0, 0), "refused, as ever");
}
