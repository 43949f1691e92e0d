//! Tests of reading objects.

use super::*;
use serde_json::{Value, json};

const AT: Place<'_> = Place { node: "n1", zone: "z1" };

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": spec})).unwrap()
}

fn slice(ports: Value, endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "web-a", "labels": {SERVICE_NAME_LABEL: "web"}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    }))
    .unwrap()
}

fn only(ports: Value) -> Service {
    service(json!({"clusterIPs": ["10.96.0.5"], "ports": ports}))
}

fn first(service: &Service, slices: &[EndpointSlice]) -> Vec<Endpoint> {
    view([service], slices, AT).services[0].ports[0].endpoints.clone()
}

#[test]
fn slices_meet_their_service_port_by_name_and_protocol() {
    let svc = only(json!([{"name": "http", "port": 80}, {"name": "admin", "protocol": "TCP", "port": 81}]));
    let slices = [
        slice(
            json!([{"name": "http", "port": 53, "protocol": "UDP"}, {"name": "http", "port": 8080},
                   {"name": "admin", "port": 9090, "protocol": "TCP"}]),
            json!([{"addresses": ["10.244.0.1"], "conditions": {"ready": true}, "nodeName": "n1"}]),
        ),
        slice(
            json!([{"name": "http", "port": 8081}]),
            json!([{"addresses": ["10.244.1.1"], "conditions": {}, "nodeName": "n2"}]),
        ),
    ];
    let view = view([&svc], &slices, AT);
    let ports = &view.services[0].ports;
    let places = |i: usize| -> Vec<(String, u16, bool, bool)> {
        let list = ports[i].endpoints.iter();
        list.map(|e| (e.addr.to_string(), e.port, e.ready, e.local)).collect()
    };
    assert_eq!(
        places(0),
        [("10.244.0.1".to_owned(), 8080, true, true), ("10.244.1.1".to_owned(), 8081, true, false)]
    );
    assert_eq!(places(1), [("10.244.0.1".to_owned(), 9090, true, true)]);
}

#[test]
fn conditions_have_their_defaults() {
    let svc = only(json!([{"port": 80}]));
    let with = |conditions: Value| {
        let endpoints = json!([{"addresses": ["10.244.0.1"], "conditions": conditions}]);
        let e = first(&svc, &[slice(json!([{"name": "", "port": 1}]), endpoints)])[0].clone();
        (e.ready, e.serving, e.terminating, e.local)
    };
    assert_eq!(with(json!({"ready": false})), (false, false, false, false));
    assert_eq!(with(Value::Null), (true, true, false, false));
    let ending = json!({"ready": false, "serving": true, "terminating": true});
    assert_eq!(with(ending), (false, true, true, false));
}

#[test]
fn an_endpoint_in_two_slices_is_ready_when_it_is_in_one() {
    let svc = only(json!([{"port": 80}]));
    let with = |ready: bool| {
        let endpoints = json!([{"addresses": ["10.244.0.1"], "conditions": {"ready": ready}}]);
        slice(json!([{"port": 1}]), endpoints)
    };
    for order in [[with(true), with(false)], [with(false), with(true)]] {
        let got = first(&svc, &order);
        assert_eq!(got.len(), 1);
        assert!(got[0].ready);
    }
}

#[test]
fn names_are_no_addresses() {
    let svc = only(json!([{"port": 80}]));
    let mut s = slice(json!([{"port": 1}]), json!([{"addresses": ["10.244.0.1"]}]));
    assert_eq!(first(&svc, &[s.clone()]).len(), 1);
    s.address_type = Some("FQDN".into());
    assert!(first(&svc, &[s]).is_empty());
}

#[test]
fn headless_and_external_services_have_no_row() {
    for spec in [
        json!({"clusterIPs": ["None"], "clusterIP": "None", "ports": [{"port": 80}]}),
        json!({"clusterIP": "None"}),
        json!({"type": "ExternalName", "clusterIP": "10.96.0.5"}),
        json!({"type": "ExternalName", "clusterIPs": ["10.96.0.5"]}),
    ] {
        assert!(view([&service(spec.clone())], [], AT).services.is_empty(), "{spec}");
    }
    let single = service(json!({"clusterIP": "10.96.0.5"}));
    assert_eq!(view([&single], [], AT).services[0].cluster_ips, single.addresses());
}

#[test]
fn a_port_out_of_range_leaves_the_others() {
    let svc = only(json!([{"name": "a", "port": 70000}, {"name": "b", "port": 80}]));
    let view = view([&svc], [], AT);
    assert_eq!(view.services[0].ports.iter().map(|p| p.port).collect::<Vec<_>>(), [80]);
}

#[test]
fn a_slice_of_another_namespace_is_anothers() {
    let svc = only(json!([{"port": 80}]));
    let mut s = slice(json!([{"port": 1}]), json!([{"addresses": ["10.244.0.1"]}]));
    s.metadata.namespace = "elsewhere".into();
    assert!(first(&svc, &[s]).is_empty());
}

#[test]
fn affinity_has_the_apis_default_timeout() {
    let affinity = |config: Value| {
        let svc = service(json!({"clusterIP": "10.96.0.5", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": config}));
        view([&svc], [], AT).services[0].affinity_seconds
    };
    assert_eq!(affinity(Value::Null), Some(10_800));
    assert_eq!(affinity(json!({"clientIP": {"timeoutSeconds": 7}})), Some(7));
}

#[test]
fn what_leads_in_from_outside_is_read() {
    let whole = |status: Value| -> Service {
        serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "web"},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"], "externalTrafficPolicy": "Local",
                "externalIPs": ["192.0.2.1", "192.0.2.2"], "healthCheckNodePort": 32001,
                "loadBalancerSourceRanges": [" 198.51.100.0/24 "],
                "ports": [{"port": 80, "nodePort": 30080}]},
            "status": status,
        }))
        .unwrap()
    };
    let status = json!({"loadBalancer": {"ingress": [
        {"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "VIP"},
        {"ip": "203.0.113.3", "ipMode": "Proxy"}, {"hostname": "lb.example.org"}]}});
    let view = view([&whole(status)], [], AT);
    let web = &view.services[0];
    assert_eq!(web.ports[0].node_port, Some(30080));
    assert_eq!(web.external_ips, [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])]);
    assert_eq!(web.load_balancer_ips, [IpAddr::from([203, 0, 113, 1]), IpAddr::from([203, 0, 113, 2])]);
    assert_eq!(web.source_ranges, [Network { addr: IpAddr::from([198, 51, 100, 0]), prefix: 24 }]);
    assert_eq!((web.external_local, web.health_check_port), (true, Some(32001)));
}

#[test]
fn a_range_that_holds_everybody_restricts_nobody_of_its_family() {
    let ranges = |list: Value| {
        let svc = service(json!({"clusterIP": "10.96.0.5", "loadBalancerSourceRanges": list}));
        view([&svc], [], AT).services[0].source_ranges.len()
    };
    assert_eq!(ranges(json!(["10.0.0.0/8", "0.0.0.0/0"])), 0);
    assert_eq!(ranges(json!(["10.0.0.0/8", "::/0"])), 1);
    assert_eq!(ranges(json!(["nonsense"])), 0);
}

#[test]
fn the_external_policy_needs_a_way_in_from_outside() {
    let local = |extra: Value| {
        let mut spec = json!({"clusterIP": "10.96.0.5", "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 32001});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let web = view([&service(spec)], [], AT).services.remove(0);
        (web.external_local, web.health_check_port.is_some())
    };
    assert_eq!(local(json!({})), (false, false));
    assert_eq!(local(json!({"type": "NodePort"})), (true, false));
    assert_eq!(local(json!({"externalIPs": ["192.0.2.1"]})), (true, false));
    assert_eq!(local(json!({"type": "LoadBalancer"})), (true, true));
}

#[test]
fn services_of_another_proxy_are_left_to_it() {
    let mut svc = only(json!([{"port": 80}]));
    svc.metadata.labels = Some([(OTHER_PROXY_LABEL.to_owned(), "mine".to_owned())].into());
    assert!(view([&svc], [], AT).services.is_empty());
}

#[test]
fn hints_name_this_place_or_others() {
    let svc = only(json!([{"port": 80}]));
    let with = |hints: Value| {
        let endpoints = json!([{"addresses": ["10.244.0.1"], "hints": hints}]);
        let e = first(&svc, &[slice(json!([{"port": 1}]), endpoints)])[0].clone();
        (e.node_hint, e.zone_hint)
    };
    assert_eq!(with(Value::Null), (Hint::Absent, Hint::Absent));
    assert_eq!(with(json!({"forZones": []})), (Hint::Absent, Hint::Absent));
    assert_eq!(with(json!({"forZones": [{"name": "z2"}, {"name": "z1"}]})), (Hint::Absent, Hint::Here));
    assert_eq!(with(json!({"forNodes": [{"name": "n2"}]})), (Hint::Elsewhere, Hint::Absent));
}

#[test]
fn an_annotation_asks_for_consistent_hashing() {
    let with = |value: &str| -> bool {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "web", "annotations": {SELECTION_ANNOTATION: value}},
            "spec": {"clusterIPs": ["10.96.0.5"], "ports": [{"port": 80}]},
        }))
        .unwrap();
        view([&service], &[], AT).services[0].consistent
    };
    assert!(with("consistent-hash"));
    assert!(!with("random") && !with(""));
    assert!(!view([&only(json!([{"port": 80}]))], &[], AT).services[0].consistent);
}
