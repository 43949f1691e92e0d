//! The parts the state machine is made of: quantities, resources, environments, probes, configurations.

use super::*;
use crate::core::dns::{self, Resolver};
use crate::core::env::{self, Sources};
use crate::core::probe::{Counter, Due, Kind, Timing};
use crate::core::resources::{self, Qos};
use crate::core::sandbox::{self, Node};
use crate::core::spec;
use k8s_openapi::api::core::v1::Probe;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

#[test]
fn backoff_words() {
    let rows = [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3661, "1h1m1s")];
    for (s, word) in rows {
        assert_eq!(go_duration(SignedDuration::from_secs(s)), word);
    }
    assert_eq!(Backoff::waiting_until(None, at(0), at(0)), None);
}

#[test]
fn quantities() {
    let q = |s: &str| Quantity(s.into());
    let rows =
        [("100m", 100), ("1", 1000), ("1.5", 1500), ("0.0001", 1), ("1k", 1_000_000), ("1e2", 100_000)];
    for (s, m) in rows {
        assert_eq!(resources::milli(&q(s)), Some(m), "{s}");
    }
    assert_eq!(resources::units(&q("64Mi")), Some(64 << 20));
    assert_eq!(resources::units(&q("1Gi")), Some(1 << 30));
    assert_eq!(resources::units(&q("1500m")), Some(2));
    for bad in ["", "x", "1Qi", "--1"] {
        assert_eq!(resources::units(&q(bad)), None, "{bad}");
    }
    assert_eq!(resources::units(&q("99999999999999999999")), Some(i64::MAX));
}

#[test]
fn qos_and_kernel_figures() {
    let class = |r: Value| {
        resources::qos(pod(json!({"containers": [{"name": "c", "resources": r}]})).spec.as_ref().unwrap())
    };
    assert_eq!(class(json!({})), Qos::BestEffort);
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), Qos::Burstable);
    let full = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(class(json!({"requests": full, "limits": full})), Qos::Guaranteed);
    assert_eq!(class(json!({"requests": {"cpu": "1", "memory": "512Mi"}, "limits": full})), Qos::Burstable);
    let p = pod(
        json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}}}]}),
    );
    let k = resources::kernel(p.spec.as_ref().unwrap().containers[0].resources.as_ref());
    assert_eq!((k.shares, k.quota, k.period, k.memory), (256, 25_000, 100_000, 64 << 20));
    assert_eq!(resources::kernel(None).shares, 2);
    assert_eq!((resources::weight(2), resources::weight(262_144)), (1, 10_000));
    let spec = p.spec.as_ref().unwrap();
    assert_eq!(resources::oom_score(spec, &spec.containers[0], 1 << 30), 938);
    let two = pod(json!({"containers": [
        {"name": "a", "resources": {"limits": {"cpu": "100m", "memory": "1Mi"}}}, {"name": "b"}]}));
    let k = resources::pod_kernel(two.spec.as_ref().unwrap());
    assert_eq!((k.quota, k.memory), (0, 0), "a limit counts only if all have one");
    assert_eq!(k.shares, 102);
}

#[test]
fn expansion_of_names() {
    let vars = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
    let rows = [
        ("$(A)-$(B)", "1-2"),
        ("$(C)", "$(C)"),
        ("$$(A)", "$(A)"),
        ("$A $", "$A $"),
        ("$(A", "$(A"),
        ("a$$b", "a$b"),
        ("$($(A))", "$($(A))"),
    ];
    for (from, to) in rows {
        assert_eq!(env::expand(from, &vars), to, "{from}");
    }
}

fn sources() -> Sources {
    Sources {
        config_maps: BTreeMap::from([("cm".into(), BTreeMap::from([("k".into(), b"v".to_vec())]))]),
        secrets: BTreeMap::from([("s".into(), BTreeMap::from([("bin".into(), vec![0xff])]))]),
        services: vec![
            env::ServiceView {
                namespace: "default".into(),
                name: "kubernetes".into(),
                ip: "10.96.0.1".into(),
                ports: vec![("https".into(), "TCP".into(), 443)],
            },
            env::ServiceView {
                namespace: "d".into(),
                name: "my-db".into(),
                ip: "10.96.0.7".into(),
                ports: vec![("sql".into(), "TCP".into(), 5432)],
            },
        ],
        pod_ips: vec!["10.244.0.5".into()],
        host_ips: vec!["10.0.0.1".into()],
        node_cpu_milli: 2000,
        node_memory: 1 << 30,
    }
}

fn environment(c: Value, links: bool) -> Result<BTreeMap<String, String>, env::EnvError> {
    let p = pod(json!({"enableServiceLinks": links, "containers": [c]}));
    env::build(&p, &p.spec.as_ref().unwrap().containers[0], &sources()).map(|v| v.into_iter().collect())
}

#[test]
fn environments_have_services_references_and_expansion() {
    let e = environment(
        json!({"name": "c", "resources": {"limits": {"memory": "64Mi"}},
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "no", "optional": true}}],
            "env": [
                {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)/$(MY_DB_SERVICE_HOST)"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x']"}}},
                {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "z", "optional": true}}}]}),
        true,
    )
    .unwrap();
    let get = |k: &str| e.get(k).map(String::as_str);
    assert_eq!(get("B"), Some("1/10.96.0.7"));
    assert_eq!(get("MY_DB_PORT_5432_TCP_ADDR"), Some("10.96.0.7"));
    assert_eq!(get("MY_DB_SERVICE_PORT_SQL"), Some("5432"));
    assert_eq!(get("KUBERNETES_SERVICE_HOST"), Some("10.96.0.1"));
    assert_eq!(get("KUBERNETES_PORT"), Some("tcp://10.96.0.1:443"));
    assert_eq!(
        (get("IP"), get("N"), get("M"), get("CPU")),
        (Some("10.244.0.5"), Some(""), Some("64"), Some("2"))
    );
    assert_eq!((get("K"), get("P_k"), get("O")), (Some("v"), Some("v"), None));
    let e = environment(json!({"name": "c"}), false).unwrap();
    assert!(e.contains_key("KUBERNETES_SERVICE_HOST") && !e.contains_key("MY_DB_SERVICE_HOST"));
}

#[test]
fn what_an_environment_lacks_is_named() {
    let of = |from: Value| {
        environment(json!({"name": "c", "env": [{"name": "A", "valueFrom": from}]}), true).unwrap_err()
    };
    assert_eq!(
        of(json!({"configMapKeyRef": {"name": "no", "key": "k"}})).to_string(),
        "configmap \"no\" not found"
    );
    assert_eq!(
        of(json!({"configMapKeyRef": {"name": "cm", "key": "z"}})).to_string(),
        "couldn't find key z in ConfigMap d/cm"
    );
    assert!(matches!(of(json!({"secretKeyRef": {"name": "s", "key": "bin"}})), env::EnvError::NotText(_)));
    assert!(matches!(of(json!({"fieldRef": {"fieldPath": "spec.x"}})), env::EnvError::Unsupported(_)));
}

#[test]
fn thresholds_of_probes() {
    let t = Timing::of(&Probe { failure_threshold: Some(2), success_threshold: Some(2), ..Probe::default() });
    assert_eq!((t.period.as_secs(), t.timeout.as_secs()), (10, 1));
    let mut c = Counter::default();
    let k = Kind::Readiness;
    assert_eq!(c.count(k, &t, Outcome::Failure), None);
    assert_eq!(c.count(k, &t, Outcome::Success), None);
    assert_eq!(c.count(k, &t, Outcome::Success), Some(Outcome::Success));
    assert_eq!(c.count(k, &t, Outcome::Failure), None);
    assert_eq!(c.count(k, &t, Outcome::Failure), Some(Outcome::Failure));
    assert_eq!(c.due(k, &t, true, true, at(0), at(9)), Due::Now, "readiness goes on while the pod ends");
    assert_eq!(c.due(Kind::Liveness, &t, true, true, at(0), at(9)), Due::Held);
    assert_eq!(c.due(k, &t, false, false, at(0), at(9)), Due::NotYet, "held back by startup");
    assert_eq!(c.due(Kind::Startup, &t, true, false, at(0), at(9)), Due::NotYet);
    let t = Timing { initial_delay: SignedDuration::from_secs(5), ..t };
    assert_eq!(c.due(k, &t, true, false, at(0), at(4)), Due::NotYet);
    let mut l = Counter::default();
    l.count(Kind::Liveness, &t, Outcome::Failure);
    assert_eq!(l.count(Kind::Liveness, &t, Outcome::Failure), Some(Outcome::Failure));
    assert_eq!(
        l.due(Kind::Liveness, &t, true, false, at(0), at(9)),
        Due::Held,
        "until there is a new container"
    );
}

fn node() -> Node {
    Node {
        name: "n1".into(),
        data_dir: "/data".into(),
        log_dir: "/data/logs".into(),
        cluster_dns: vec!["10.96.0.10".into()],
        cluster_domain: "cluster.local".into(),
        resolver: Resolver::parse("nameserver 1.1.1.1\nsearch corp.example\noptions edns0\n"),
        cgroup: "/n1".into(),
        memory: 1 << 30,
        ..Node::default()
    }
}

#[test]
fn resolvers_by_policy() {
    let r = |spec: Value| dns::resolver(&pod(spec), &node()).0;
    let c = r(json!({}));
    assert_eq!(c.servers, ["10.96.0.10"]);
    assert_eq!(c.searches, ["d.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"]);
    assert_eq!(c.options, ["ndots:5"]);
    assert_eq!(r(json!({"hostNetwork": true})).servers, ["1.1.1.1"]);
    assert_eq!(
        r(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})).servers,
        ["10.96.0.10"]
    );
    assert_eq!(r(json!({"dnsPolicy": "Default"})).servers, ["1.1.1.1"]);
    let n = r(
        json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}]}}),
    );
    assert_eq!((n.servers, n.options), (vec!["9.9.9.9".to_owned()], vec!["ndots:2".to_owned()]));
}

#[test]
fn resolvers_are_what_a_c_library_takes() {
    let told = |spec: Value, node: &Node| dns::resolver(&pod(spec), node);
    let four = json!({"dnsConfig": {"nameservers": ["1.0.0.1", "1.0.0.1", "1.0.0.2", "1.0.0.3"]}});
    let (r, complaints) = told(four, &node());
    assert_eq!(r.servers, ["10.96.0.10", "1.0.0.1", "1.0.0.2"]);
    assert_eq!(complaints[0].0, "DNSConfigForming");
    assert!(complaints[0].1.ends_with("the applied nameserver line is: 10.96.0.10 1.0.0.1 1.0.0.2"));
    let many: Vec<String> =
        (0..40).map(|n| format!("s{n}.example")).chain(["cluster.local".into()]).collect();
    let (r, complaints) = told(json!({"dnsConfig": {"searches": many}}), &node());
    assert_eq!((r.searches.len(), complaints.len()), (32, 1));
    assert!(complaints[0].1.starts_with("Search Line limits were exceeded"));
    let long = |count: usize, length: usize| -> Vec<String> {
        (0..count).map(|n| format!("{n:02}{}", "x".repeat(length - 2))).collect()
    };
    let (r, complaints) = told(json!({"dnsConfig": {"searches": long(2, 254)}}), &node());
    assert_eq!((r.searches.len(), complaints.len()), (4, 1));
    let (r, _) = told(json!({"dnsPolicy": "None", "dnsConfig": {"searches": long(20, 250)}}), &node());
    assert_eq!(r.searches.len(), 8, "2048 characters with the blanks between");
    let options =
        json!([{"name": "ndots", "value": "2"}, {"name": "edns0"}, {"name": "ndots", "value": "3"}]);
    let (r, complaints) = told(json!({"dnsConfig": {"options": options}}), &node());
    assert_eq!((r.options, complaints), (vec!["edns0".to_owned(), "ndots:3".to_owned()], vec![]));
    // Without an address of the cluster's DNS pods have the node's own.
    let alone = Node { cluster_dns: Vec::new(), ..node() };
    let (r, complaints) = told(json!({}), &alone);
    assert_eq!((r.servers, complaints[0].0), (vec!["1.1.1.1".to_owned()], "MissingClusterDNS"));
    assert_eq!(told(json!({"dnsPolicy": "Default"}), &alone).1, []);
    let host = Resolver::parse(
        "search a. b\nsearch c. . d\n#nameserver 9.9.9.9\noptions ndots:1 edns0\noptions ndots:4\n",
    );
    assert_eq!(
        (host.servers.len(), host.searches, host.options.len()),
        (0, vec!["c".to_owned(), "d".to_owned()], 2)
    );
    assert!(host.options.contains(&"ndots:4".to_owned()));
}

#[test]
fn hosts_and_names() {
    let p = pod(
        json!({"subdomain": "web", "hostname": "h1", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
    );
    let text = sandbox::hosts_file(&p, &node(), &["10.244.0.5".into()]);
    assert!(text.contains("10.244.0.5\th1.web.d.svc.cluster.local\th1\n"), "{text}");
    assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
    let mut long = pod(json!({}));
    long.metadata.name = Some(format!("{}-x", "a".repeat(62)));
    assert_eq!(sandbox::hostname(&long), "a".repeat(62), "cut at 63, without a trailing dash");
}

#[test]
fn sandbox_and_container_configuration() {
    let p = pod(json!({"shareProcessNamespace": true, "securityContext": {"runAsUser": 7, "fsGroup": 9,
            "sysctls": [{"name": "net/core/somaxconn", "value": "9"}]},
        "containers": [{"name": "c", "image": "i", "command": ["$(A)"], "resources": {"limits": {"memory": "64Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}}]}));
    let s = sandbox::config(&p, 2, &node());
    let linux = s.linux.unwrap();
    assert_eq!(linux.cgroup_parent, "/n1/kubepods/burstable/podu");
    assert_eq!(linux.sysctls.get("net.core.somaxconn").map(String::as_str), Some("9"));
    assert_eq!(linux.security_context.unwrap().namespace_options.unwrap().pid, 0);
    assert_eq!(s.log_directory, "/data/logs/d_p_u");
    let c = &p.spec.as_ref().unwrap().containers[0];
    let parts = spec::Parts {
        attempt: 3,
        image: "sha".into(),
        env: vec![("A".into(), "x".into())],
        ..spec::Parts::default()
    };
    let k = spec::config(&p, c, parts, &node()).unwrap();
    assert_eq!(k.command, ["x"]);
    assert_eq!(k.log_path, "c/3.log");
    let sc = k.linux.unwrap().security_context.unwrap();
    assert!(sc.no_new_privs && sc.readonly_rootfs && !sc.masked_paths.is_empty());
    assert_eq!(sc.run_as_user.unwrap().value, 7);
    assert_eq!(sc.supplemental_groups, [9]);
    assert_eq!(sc.seccomp.unwrap().profile_type, 0);
    assert_eq!(k.mounts.last().unwrap().container_path, "/dev/termination-log");
}

#[test]
fn non_root_is_checked() {
    let p = |sc: Value| pod(json!({"securityContext": sc}));
    let check =
        |p: &Pod, u: spec::ImageUser| spec::check_user(p, &p.spec.as_ref().unwrap().containers[0], &u);
    let root = spec::ImageUser { uid: Some(0), name: String::new() };
    let named = spec::ImageUser { uid: None, name: "app".into() };
    let five = spec::ImageUser { uid: Some(5), name: String::new() };
    let must = p(json!({"runAsNonRoot": true}));
    assert!(matches!(check(&must, root.clone()), Err(spec::ConfigError::RootByImage { .. })));
    assert!(matches!(check(&must, named), Err(spec::ConfigError::UserByName { .. })));
    assert!(check(&must, five).is_ok());
    assert!(check(&p(json!({})), root.clone()).is_ok());
    assert!(check(&p(json!({"runAsNonRoot": true, "runAsUser": 4})), root.clone()).is_ok());
    assert!(matches!(
        check(&p(json!({"runAsNonRoot": true, "runAsUser": 0})), root),
        Err(spec::ConfigError::RootBySpec { .. })
    ));
}

#[test]
fn patches_carry_what_changed_and_no_more() {
    let old = json!({"phase": "Pending", "podIPs": [{"ip": "1"}], "nominatedNodeName": "x",
        "conditions": [{"type": "A", "status": "True"}, {"type": "Ready", "status": "False", "reason": "r"}]});
    let new = json!({"phase": "Running", "podIPs": [{"ip": "2"}],
        "conditions": [{"type": "A", "status": "True"}, {"type": "Ready", "status": "True"}]});
    let d = crate::api::difference(&old, &new).unwrap();
    assert_eq!(
        d,
        json!({"phase": "Running", "podIPs": [{"ip": "2"}, {"$patch": "delete", "ip": "1"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": null}]})
    );
    assert!(crate::api::difference(&new, &new).is_none());
}
