//! The core by cases: a cluster of a few objects, and what each question gets.

use super::answer::TTL;
use super::*;
use crate::core::{cache, name, objects, resolv};
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

fn put_service(zone: &mut Zone, namespace: &str, name: &str, spec: Value) {
    let json = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec}).to_string();
    zone.set_service(namespace, name, objects::service(json.as_bytes()).unwrap());
}

fn put_slice(zone: &mut Zone, namespace: &str, name: &str, service: &str, ports: Value, endpoints: Value) {
    let labels = json!({"kubernetes.io/service-name": service});
    let json = json!({"metadata": {"labels": labels}, "ports": ports, "endpoints": endpoints}).to_string();
    zone.set_slice(namespace, name, objects::slice(json.as_bytes()).unwrap());
}

fn cluster() -> Zone {
    let mut zone = Zone::default();
    zone.set_serial(1234);
    for namespace in ["default", "kube-system", "empty", "prod"] {
        zone.set_namespace(namespace, true);
    }
    let https = json!([{"name": "https", "port": 443, "protocol": "TCP"}]);
    put_service(&mut zone, "default", "kubernetes", json!({"clusterIPs": ["10.96.0.1"], "ports": https}));
    let dns = json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]);
    put_service(&mut zone, "kube-system", "kube-dns", json!({"clusterIP": "10.96.0.10", "ports": dns}));
    let dual = json!({"clusterIPs": ["10.96.1.1", "fd00::1"], "ports": [{"name": "Http", "port": 80}, {"port": 81}]});
    put_service(&mut zone, "default", "dual", dual);
    let dual_pods = json!([{"addresses": ["10.244.0.9"], "conditions": {"ready": true}}]);
    put_slice(&mut zone, "default", "dual-x", "dual", json!([{"name": "Http", "port": 8080}]), dual_pods);

    put_service(&mut zone, "default", "web", json!({"clusterIP": "None", "clusterIPs": ["None"]}));
    let web = json!([
        {"addresses": ["10.244.0.1"], "hostname": "Web-0", "conditions": {"ready": true}},
        {"addresses": ["10.244.0.2"], "hostname": "web-1", "conditions": {"ready": false}},
        {"addresses": ["10.244.0.3"]},
    ]);
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    put_slice(&mut zone, "default", "web-a", "web", ports, web);
    let six = json!([{"addresses": ["fd00:10::"], "conditions": {"ready": true}}]);
    put_slice(&mut zone, "default", "web-b", "web", json!([{"name": "http", "port": 8080}]), six);

    put_service(&mut zone, "default", "all", json!({"clusterIP": "None", "publishNotReadyAddresses": true}));
    let unready = json!([{"addresses": ["10.244.0.7"], "conditions": {"ready": false}}]);
    put_slice(&mut zone, "default", "all-a", "all", json!([]), unready);
    put_service(&mut zone, "default", "none", json!({"clusterIP": "None"}));

    for (name, target) in [
        ("ext", "www.example.com"),
        ("inner", "web.default.svc.cluster.local"),
        ("inner2", "inner.default.svc.cluster.local."),
        ("loop", "loop.default.svc.cluster.local"),
        ("dangling", "nowhere.default.svc.cluster.local"),
        ("v6only", "fd.default.svc.cluster.local"),
        ("chained", "ext.default.svc.cluster.local"),
        ("address", "192.0.2.1"),
    ] {
        put_service(&mut zone, "default", name, json!({"type": "ExternalName", "externalName": target}));
    }
    zone
}

fn domain() -> Domain {
    Domain::new("Cluster.local").unwrap()
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn ask(zone: &Zone, text: &str, kind: RecordType) -> Answer {
    answer(zone, &domain(), &name(text), kind, 0)
}

fn lines(records: &[Record]) -> Vec<String> {
    records.iter().map(|r| format!("{} {} {}", r.name, r.record_type(), r.data)).collect()
}

/// Answers as text: the code where it is not NOERROR, then the answers.
fn told(text: &str, kind: RecordType) -> Vec<String> {
    match ask(&cluster(), text, kind) {
        Answer::Reply(reply) => {
            let denied = reply.answers.is_empty();
            assert_eq!(
                reply.authorities.len(),
                usize::from(denied),
                "{text}: authority where there is no answer"
            );
            if denied {
                let RData::SOA(soa) = &reply.authorities[0].data else { panic!("{text}: no SOA") };
                assert_eq!((soa.minimum, reply.authorities[0].ttl, soa.serial), (TTL, TTL, 1234));
                assert_eq!(reply.authorities[0].name, name("cluster.local"));
            }
            match reply.code {
                ResponseCode::NoError => lines(&reply.answers),
                code => vec![format!("{code:?}")],
            }
        }
        Answer::Chase(chain, target) => {
            let mut out = lines(&chain);
            out.push(format!("and then {target}"));
            out
        }
        Answer::Forward => vec!["forward".into()],
    }
}

const A: RecordType = RecordType::A;
const AAAA: RecordType = RecordType::AAAA;

#[test]
fn a_service_with_addresses_has_them_by_family() {
    let name = "dual.default.svc.cluster.local";
    assert_eq!(told(name, A), ["dual.default.svc.cluster.local. A 10.96.1.1"]);
    assert_eq!(told(name, AAAA), ["dual.default.svc.cluster.local. AAAA fd00::1"]);
    let none: [&str; 0] = [];
    assert_eq!(told("kubernetes.default.svc.cluster.local", AAAA), none);
    for kind in [
        RecordType::MX,
        RecordType::TXT,
        RecordType::CNAME,
        RecordType::NS,
        RecordType::HTTPS,
        RecordType::ANY,
    ] {
        assert_eq!(told(name, kind), none, "{kind}");
    }
}

#[test]
fn comparison_is_case_insensitive_and_the_answer_repeats_the_question() {
    let got = told("KuberNetes.DEFAULT.sVc.CLUSTER.Local", A);
    assert_eq!(got, ["KuberNetes.DEFAULT.sVc.CLUSTER.Local. A 10.96.0.1"]);
    assert_eq!(told("_HTTP._TCP.dual.default.svc.cluster.local", A).len(), 1);
    assert_eq!(told("WEB-0.web.default.svc.cluster.local", A).len(), 1);
}

#[test]
fn what_is_not_there_is_told_apart_from_what_has_no_such_record() {
    for (text, there) in [
        ("cluster.local", true),
        ("svc.cluster.local", true),
        ("pod.cluster.local", true),
        ("default.svc.cluster.local", true),
        ("empty.svc.cluster.local", true),
        ("default.pod.cluster.local", true),
        ("dns-version.cluster.local", true),
        ("nowhere.svc.cluster.local", false),
        ("nowhere.pod.cluster.local", false),
        ("nothing.default.svc.cluster.local", false),
        ("kubernetes.nowhere.svc.cluster.local", false),
        ("other.cluster.local", false),
        ("a.b.c.kubernetes.default.svc.cluster.local", false),
        ("www.example.com.cluster.local", false),
        ("kubernetes.default.cluster.local", false),
        ("*.default.svc.cluster.local", false),
        ("*.web.default.svc.cluster.local", false),
        ("kubernetes.*.svc.cluster.local", false),
        ("any.default.svc.cluster.local", false),
        ("none.default.svc.cluster.local", false),
        ("address.default.svc.cluster.local", false),
        ("x.address.default.svc.cluster.local", false),
        ("x.ext.default.svc.cluster.local", false),
        ("_http._tcp.ext.default.svc.cluster.local", false),
        ("_ftp._tcp.dual.default.svc.cluster.local", false),
        ("_http._udp.dual.default.svc.cluster.local", false),
        ("10-244-0-9.nothing.default.svc.cluster.local", false),
    ] {
        for kind in [AAAA, RecordType::TXT, RecordType::SRV, RecordType::HTTPS] {
            if text.starts_with("dns-version") && kind == RecordType::TXT {
                continue;
            }
            let expected: &[&str] = if there { &[] } else { &["NXDomain"] };
            assert_eq!(told(text, kind), expected, "{text} {kind}");
        }
    }
}

#[test]
fn any_bytes_are_a_name() {
    let domain = domain();
    for label in [&b"tab\t"[..], &[0xff, 0xfe], b"a.b", b"\0"] {
        let tail = name("default.svc.cluster.local");
        let odd = Name::from_labels([label]).unwrap().append_domain(&tail).unwrap();
        let Answer::Reply(reply) = answer(&cluster(), &domain, &odd, A, 7) else { panic!("{odd}") };
        assert_eq!(reply.code, ResponseCode::NXDomain, "{odd}");
    }
}

#[test]
fn other_names_are_for_others() {
    for text in ["example.com", "local", ".", "notcluster.local", "svc.cluster.local.example.com"] {
        assert_eq!(told(text, A), ["forward"], "{text}");
    }
    for text in [
        "9.9.9.9.in-addr.arpa",
        "96.10.in-addr.arpa",
        "x.y.in-addr.arpa",
        "1.ip6.arpa",
        "300.0.96.10.in-addr.arpa",
    ] {
        assert_eq!(told(text, RecordType::PTR), ["forward"], "{text}");
    }
    assert_eq!(told("1.0.96.10.in-addr.arpa", RecordType::SOA), ["forward"]);
}

#[test]
fn a_headless_service_has_its_ready_endpoints() {
    let name = "web.default.svc.cluster.local";
    assert_eq!(
        told(name, A),
        ["web.default.svc.cluster.local. A 10.244.0.1", "web.default.svc.cluster.local. A 10.244.0.3"]
    );
    assert_eq!(told(name, AAAA), ["web.default.svc.cluster.local. AAAA fd00:10::"]);
    assert_eq!(
        told("web-0.web.default.svc.cluster.local", A),
        ["web-0.web.default.svc.cluster.local. A 10.244.0.1"]
    );
    assert_eq!(told("10-244-0-3.web.default.svc.cluster.local", A).len(), 1);
    assert_eq!(told("fd00-10--0.web.default.svc.cluster.local", AAAA).len(), 1);
    let none: [&str; 0] = [];
    assert_eq!(told("web-0.web.default.svc.cluster.local", AAAA), none);
    assert_eq!(told("web-1.web.default.svc.cluster.local", A), ["NXDomain"], "it is not ready");
    assert_eq!(told("10-244-0-1.web.default.svc.cluster.local", A), ["NXDomain"], "it has a name of its own");
    assert_eq!(told("all.default.svc.cluster.local", A), ["all.default.svc.cluster.local. A 10.244.0.7"]);
    assert_eq!(
        told("10-244-0-9.dual.default.svc.cluster.local", A).len(),
        1,
        "endpoints of any Service have names"
    );
}

#[test]
fn named_ports_have_srv_records_with_the_addresses_beside() {
    let got = |text: &str| match ask(&cluster(), text, RecordType::SRV) {
        Answer::Reply(reply) => (lines(&reply.answers), lines(&reply.additionals)),
        other => panic!("{text}: {other:?}"),
    };
    let (answers, glue) = got("_http._tcp.dual.default.svc.cluster.local");
    let target = "dual.default.svc.cluster.local.";
    assert_eq!(answers, [format!("_http._tcp.{target} SRV 0 50 80 {target}")]);
    assert_eq!(glue, [format!("{target} A 10.96.1.1"), format!("{target} AAAA fd00::1")]);

    let (answers, glue) = got("_http._tcp.web.default.svc.cluster.local");
    let web = "web.default.svc.cluster.local.";
    let to = |host: &str| format!("_http._tcp.{web} SRV 0 33 8080 {host}.{web}");
    assert_eq!(answers, [to("web-0"), to("10-244-0-3"), to("fd00-10--0")]);
    assert_eq!(
        glue,
        [
            format!("web-0.{web} A 10.244.0.1"),
            format!("10-244-0-3.{web} A 10.244.0.3"),
            format!("fd00-10--0.{web} AAAA fd00:10::"),
        ]
    );
    assert_eq!(got("_dns._udp.web.default.svc.cluster.local").0.len(), 2);
    // All ports of a Service, each target once in the glue.
    let (answers, glue) = got("kube-dns.kube-system.svc.cluster.local");
    assert_eq!((answers.len(), glue.len()), (1, 1), "one port number, one address");
    let (answers, glue) = got("all.default.svc.cluster.local");
    assert_eq!((answers.len(), glue.len()), (0, 0), "there is no port");
    assert_eq!(told("ext.default.svc.cluster.local", RecordType::SRV), [""; 0]);
}

#[test]
fn addresses_have_names() {
    let ptr = |text: &str| told(text, RecordType::PTR);
    let short = |text: &str| ptr(text)[0].rsplit(' ').next().unwrap().to_owned();
    assert_eq!(short("1.0.96.10.in-addr.arpa"), "kubernetes.default.svc.cluster.local.");
    let six: IpAddr = "fd00::1".parse().unwrap();
    assert_eq!(short(&Name::from(six).to_string()), "dual.default.svc.cluster.local.");
    assert_eq!(short("1.0.244.10.in-addr.arpa"), "web-0.web.default.svc.cluster.local.");
    assert_eq!(short("3.0.244.10.in-addr.arpa"), "10-244-0-3.web.default.svc.cluster.local.");
    assert_eq!(ptr("2.0.244.10.in-addr.arpa"), ["forward"], "an endpoint that is not ready has no name");
    let mut zone = cluster();
    let twice = json!([{"addresses": ["10.244.0.1"], "hostname": "web-0"}]);
    put_service(&mut zone, "prod", "db", json!({"clusterIP": "None"}));
    put_slice(&mut zone, "prod", "db-a", "db", json!([]), twice);
    let Answer::Reply(reply) = ask(&zone, "1.0.244.10.in-addr.arpa", RecordType::PTR) else { panic!() };
    assert_eq!(reply.answers.len(), 2);
}

#[test]
fn pods_have_names_of_their_addresses() {
    assert_eq!(
        told("1-2-3-4.default.pod.cluster.local", A),
        ["1-2-3-4.default.pod.cluster.local. A 1.2.3.4"]
    );
    assert_eq!(
        told("fd00--5.empty.pod.cluster.local", AAAA),
        ["fd00--5.empty.pod.cluster.local. AAAA fd00::5"]
    );
    assert_eq!(told("fd00--5.empty.pod.cluster.local", A), [""; 0]);
    for text in [
        "1-2-3-4.nowhere.pod.cluster.local",
        "web.default.pod.cluster.local",
        "1-2-3-400.default.pod.cluster.local",
    ] {
        assert_eq!(told(text, A), ["NXDomain"], "{text}");
    }
}

#[test]
fn external_names_are_aliases() {
    let ext = "ext.default.svc.cluster.local. CNAME www.example.com.";
    assert_eq!(told("ext.default.svc.cluster.local", RecordType::CNAME), [ext]);
    for kind in [A, AAAA] {
        assert_eq!(told("ext.default.svc.cluster.local", kind), [ext, "and then www.example.com."]);
    }
    assert_eq!(told("ext.default.svc.cluster.local", RecordType::TXT), [""; 0]);
    assert_eq!(
        told("chained.default.svc.cluster.local", A),
        [
            "chained.default.svc.cluster.local. CNAME ext.default.svc.cluster.local.",
            ext,
            "and then www.example.com."
        ]
    );
    assert_eq!(
        told("inner2.default.svc.cluster.local", AAAA),
        [
            "inner2.default.svc.cluster.local. CNAME inner.default.svc.cluster.local.",
            "inner.default.svc.cluster.local. CNAME web.default.svc.cluster.local.",
            "web.default.svc.cluster.local. AAAA fd00:10::",
        ]
    );
    for text in ["loop", "dangling", "v6only"] {
        assert_eq!(told(&format!("{text}.default.svc.cluster.local"), A), [""; 0], "{text}");
    }
}

#[test]
fn the_zone_speaks_of_itself() {
    let Answer::Reply(reply) = ask(&cluster(), "dns-version.cluster.local", RecordType::TXT) else {
        panic!()
    };
    assert_eq!(
        (lines(&reply.answers)[0].as_str(), reply.answers[0].ttl),
        ("dns-version.cluster.local. TXT 1.1.0", 28_800)
    );
    assert_eq!(told("cluster.local", RecordType::SOA).len(), 1);
    assert_eq!(
        told("cluster.local", RecordType::NS),
        ["cluster.local. NS kube-dns.kube-system.svc.cluster.local."]
    );
    assert_eq!(told("ns.dns.cluster.local", A), ["ns.dns.cluster.local. A 10.96.0.10"]);
    assert_eq!(told("ns.dns.cluster.local", AAAA), [""; 0]);
    assert_eq!(Domain::new("cluster.local"), Some(Domain::default()));
    for bad in ["", ".", "a..b", &"x".repeat(64)] {
        assert_eq!(Domain::new(bad), None, "{bad}");
    }
}

#[test]
fn answers_of_several_begin_in_turn() {
    let zone = cluster();
    let first = |turn: usize| match answer(&zone, &domain(), &name("web.default.svc.cluster.local"), A, turn)
    {
        Answer::Reply(reply) => reply.answers[0].data.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!([first(0), first(1), first(2)], ["10.244.0.1", "10.244.0.3", "10.244.0.1"]);
}

#[test]
fn the_index_follows_changes_and_forgets_what_went() {
    let mut zone = cluster();
    put_service(
        &mut zone,
        "default",
        "kubernetes",
        json!({"clusterIPs": ["10.96.0.2"], "ports": [{"port": 443}]}),
    );
    let ptr = |zone: &Zone, text: &str| matches!(ask(zone, text, RecordType::PTR), Answer::Reply(_));
    assert!(!ptr(&zone, "1.0.96.10.in-addr.arpa") && ptr(&zone, "2.0.96.10.in-addr.arpa"));
    // An address goes from one Service to another, the news of the first coming last.
    put_service(&mut zone, "prod", "heir", json!({"clusterIPs": ["10.96.0.2"], "ports": [{"port": 443}]}));
    zone.set_service("default", "kubernetes", None);
    assert!(ptr(&zone, "2.0.96.10.in-addr.arpa"));
    // A slice changes its Service.
    let one = json!([{"addresses": ["10.244.0.9"]}]);
    put_slice(&mut zone, "default", "dual-x", "none", json!([]), one);
    let found = |text: &str| match ask(&zone, text, A) {
        Answer::Reply(reply) => reply.answers.len(),
        _ => 0,
    };
    assert_eq!(found("none.default.svc.cluster.local"), 1);
    assert_eq!(found("10-244-0-9.dual.default.svc.cluster.local"), 0);
    // A namespace that is gone has no names, whatever else is still known of it.
    zone.set_namespace("default", false);
    assert!(zone.entry("default", "web").is_none());
    // Taking everything away leaves nothing behind.
    let all = zone.snapshot();
    let json: Value = serde_json::to_value(&all).unwrap();
    for service in json["services"].as_array().unwrap() {
        zone.set_service(service[0].as_str().unwrap(), service[1].as_str().unwrap(), None);
    }
    for slice in json["slices"].as_array().unwrap() {
        zone.set_slice(slice[0].as_str().unwrap(), slice[1].as_str().unwrap(), None);
    }
    for namespace in ["kube-system", "empty", "prod"] {
        zone.set_namespace(namespace, false);
    }
    zone.set_serial(0);
    assert_eq!(zone, Zone::default());
}

#[test]
fn a_snapshot_is_the_same_zone_again() {
    let zone = cluster();
    let json = serde_json::to_vec(&zone.snapshot()).unwrap();
    assert_eq!(Snapshot::parse(&json).unwrap().into_zone(), zone);
    assert!(Snapshot::parse(&json[..json.len() / 2]).unwrap_err().to_string().contains("not a snapshot"));
    let newer = r#"{"format": 2, "names": []}"#;
    assert_eq!(
        Snapshot::parse(newer.as_bytes()).unwrap_err().to_string(),
        "a snapshot of format 2, where 1 is understood"
    );
}

#[test]
fn odd_objects_are_read_or_refused() {
    let service = |spec: Value| objects::service(json!({"spec": spec}).to_string().as_bytes());
    assert_eq!(service(json!({})).unwrap(), None, "no address was given yet");
    assert_eq!(service(json!({"type": "ExternalName", "externalName": "::1"})).unwrap(), None);
    assert!(service(json!({"ports": "http"})).is_err());
    let ports = json!([{"port": 70000, "name": "a"}, {"protocol": "QUIC", "port": 1}, {"protocol": "SCTP", "port": 2}]);
    let Some(Service::Cluster { ports, .. }) =
        service(json!({"clusterIP": "10.0.0.1", "ports": ports})).unwrap()
    else {
        panic!()
    };
    assert_eq!(ports.iter().map(|p| p.number).collect::<Vec<_>>(), [None, Some(2)]);
    assert_eq!(objects::slice(br#"{"metadata": {}, "endpoints": null}"#).unwrap(), None, "nobody's");
    let fqdn = json!({"metadata": {"labels": {"kubernetes.io/service-name": "s"}}, "ports": null,
        "endpoints": [{"addresses": ["a.example.com"]}]});
    assert_eq!(objects::slice(fqdn.to_string().as_bytes()).unwrap().unwrap().endpoints.len(), 0);
}

#[test]
fn labels_are_read_as_the_specification_has_them() {
    use name::{Part, Place, place};
    let service = |part| Place::Service { namespace: "n", service: "s", part };
    assert_eq!(place(&["s", "n", "svc"]), service(Part::Whole));
    assert_eq!(place(&["e", "s", "n", "svc"]), service(Part::Endpoint("e")));
    assert_eq!(place(&["_p", "_tcp", "s", "n", "svc"]), service(Part::Port("p", "tcp")));
    assert_eq!(place(&["p", "tcp", "s", "n", "svc"]), service(Part::Port("p", "tcp")), "as CoreDNS reads it");
    assert_eq!(place(&["x", "p", "tcp", "s", "n", "svc"]), Place::Nothing);
    assert_eq!(place(&["svc", "svc"]), Place::Namespace("svc"));
    assert_eq!(place(&["a", "1-2-3-4", "n", "pod"]), Place::Nothing);
}

#[test]
fn a_resolv_conf_names_servers() {
    let text = "# nameserver 9.9.9.9\nsearch a b\nnameserver 10.0.0.2\n nameserver  ::1 \nnameserver 10.0.0.2\nnameserver\n\
                nameserver nonsense\nnameserver fe80::1%2\noptions ndots:2\n";
    let expected: Vec<SocketAddr> = vec!["10.0.0.2:53".parse().unwrap(), "[::1]:53".parse().unwrap()];
    assert_eq!(resolv::servers(text)[..2], expected);
    let parse = |text: &str| resolv::parse(text).map(|server| server.to_string());
    assert_eq!(parse("127.0.0.1:5353").as_deref(), Some("127.0.0.1:5353"));
    assert_eq!(parse("[fd00::1]").as_deref(), Some("[fd00::1]:53"));
    assert_eq!(parse("dns.example.com"), None);
}

#[test]
fn own_addresses_are_no_upstream() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let own: Vec<IpAddr> = vec!["10.0.0.5".parse().unwrap()];
    let listening = [at("10.0.0.5:53"), at("0.0.0.0:5300")];
    let is_self = |text: &str| resolv::is_self(at(text), &listening, &own);
    assert!(is_self("10.0.0.5:53") && is_self("127.0.0.1:5300") && is_self("10.0.0.5:5300"));
    assert!(!is_self("127.0.0.53:53") && !is_self("10.0.0.6:5300") && !is_self("10.0.0.5:54"));
}

#[test]
fn ranges_hold_addresses() {
    let holds = |range: &str, ip: &str| resolv::within(resolv::range(range).unwrap(), ip.parse().unwrap());
    assert!(holds("10.244.0.0/16", "10.244.255.1") && !holds("10.244.0.0/16", "10.245.0.1"));
    assert!(holds("10.244.0.0/16", "::ffff:10.244.1.1"), "as a socket of both families shows it");
    assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
    assert!(holds("fd00::/8", "fd00::1") && !holds("fd00::/8", "10.0.0.1"));
    assert!(holds("10.0.0.1", "10.0.0.1") && !holds("10.0.0.1", "10.0.0.2"));
    for bad in ["10.0.0.0/33", "10.0.0/8", "fd00::/129", "x", "10.0.0.0/"] {
        assert_eq!(resolv::range(bad), None, "{bad}");
    }
}

fn message(code: ResponseCode, answers: &[(&str, u32)], soa: Option<(u32, u32)>) -> Message {
    let mut message = Message::response(1, OpCode::Query);
    message.metadata.response_code = code;
    message.add_query(Query::query(name("example.com"), A));
    for (ip, ttl) in answers {
        let ip: IpAddr = ip.parse().unwrap();
        message.add_answer(Record::from_rdata(name("example.com"), *ttl, RData::from(ip)));
    }
    if let Some((ttl, minimum)) = soa {
        let data = hickory_proto::rr::rdata::SOA::new(name("ns.com"), name("h.com"), 1, 1, 1, 1, minimum);
        message.add_authority(Record::from_rdata(name("com"), ttl, RData::SOA(data)));
    }
    message
}

#[test]
fn answers_are_kept_as_long_as_they_say() {
    use ResponseCode::{NXDomain, NoError, Refused, ServFail};
    let cases = [
        (message(NoError, &[("1.2.3.4", 60), ("1.2.3.5", 30)], None), Some(30)),
        (message(NoError, &[("1.2.3.4", 86_400)], None), Some(3600)),
        (message(NoError, &[("1.2.3.4", 0)], None), None),
        (message(NXDomain, &[], Some((600, 300))), Some(300)),
        (message(NXDomain, &[], Some((100, 300))), Some(100)),
        (message(NoError, &[], Some((7200, 7200))), Some(1800)),
        (message(NXDomain, &[], None), None),
        (message(ServFail, &[], Some((600, 300))), None),
        (message(Refused, &[], None), None),
    ];
    for (message, expected) in cases {
        assert_eq!(cache::lifetime(&message), expected, "{message}");
    }
    let mut cut = message(NoError, &[("1.2.3.4", 60)], None);
    cut.metadata.truncation = true;
    assert_eq!(cache::lifetime(&cut), None);
    let mut old = message(NoError, &[("1.2.3.4", 60)], None);
    cache::age(&mut old, 20);
    assert_eq!(old.answers[0].ttl, 40);
}

fn key(text: &str) -> cache::Key {
    cache::Key { name: name(text), kind: A, dnssec: false, unchecked: false }
}

#[test]
fn the_cache_forgets_in_time() {
    let mut cache = cache::Cache::new(1 << 20);
    let second = Duration::from_secs;
    cache.put(key("a.com"), Arc::from([1u8, 2]), 10, second(100));
    assert_eq!(cache.get(&key("a.com"), second(103)).unwrap().1, 3);
    assert_eq!(cache.get(&key("b.com"), second(103)), None);
    assert_eq!(cache.get(&cache::Key { dnssec: true, ..key("a.com") }, second(103)), None);
    cache.put(key("a.com"), Arc::from([3u8]), 10, second(105));
    assert_eq!(cache.get(&key("a.com"), second(112)).unwrap().0.as_ref(), [3]);
    assert_eq!(cache.get(&key("a.com"), second(115)), None, "its time is over");
    assert!(cache.is_empty());
}

#[test]
fn the_cache_is_bounded_and_drops_the_oldest() {
    let mut cache = cache::Cache::new(10_000);
    let now = Duration::ZERO;
    for n in 0..1000 {
        cache.put(key(&format!("n{n}.com")), Arc::from([0u8; 100]), 60, now);
        // Writing one again and again must not grow anything either.
        cache.put(key("same.com"), Arc::from([0u8; 100]), 60, now);
    }
    assert_eq!(cache.len(), 10_000 / 356);
    assert!(cache.get(&key("n999.com"), now).is_some() && cache.get(&key("n0.com"), now).is_none());
    cache.put(key("huge.com"), Arc::from(vec![0u8; 5000]), 60, now);
    assert!(cache.get(&key("huge.com"), now).is_none(), "one answer must not push out all others");
}
