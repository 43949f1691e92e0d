use super::plan::held;
use super::{Cidr, Claim, Plan, PortRange, Ranges, plan};
use serde_json::{Value, json};
use skep_api::kinds::service::Service;
use skep_api::{Context, Strategy};
use std::collections::HashMap;
use std::net::IpAddr;

fn range() -> Ranges {
    "10.96.0.0/24".parse().unwrap()
}

fn both() -> Ranges {
    "10.96.0.0/24,fd00:10:96::/112".parse().unwrap()
}

/// As the kind prepares a Service before anything is given out.
fn prepare(new: &mut Value, old: Option<&Value>) {
    match old {
        None => Service.prepare_create(new, &Context { now: jiff::Timestamp::UNIX_EPOCH, user: "" }),
        Some(old) => Service.prepare_update(new, old),
    }
}

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "s"}, "spec": spec})
}

fn fill(new: &mut Value, old: Option<&Value>, taken: &[Claim]) -> Result<Plan, Vec<String>> {
    fill_in(range(), new, old, taken)
}

fn fill_in(
    ranges: Ranges,
    new: &mut Value,
    old: Option<&Value>,
    taken: &[Claim],
) -> Result<Plan, Vec<String>> {
    prepare(new, old);
    plan(new, old, &ranges, &PortRange::default(), 7, |c| taken.contains(c))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn ip(text: &str) -> Claim {
    Claim::Ip(text.parse().unwrap())
}

#[test]
fn ranges() {
    let wide: Cidr = "10.96.0.0/16".parse().unwrap();
    assert_eq!((wide.first().to_string(), wide.size()), ("10.96.0.1".into(), 65_534));
    for (text, inside) in [
        ("10.96.0.0", false),
        ("10.96.0.1", true),
        ("10.96.255.254", true),
        ("10.96.255.255", false),
        ("10.95.0.1", false),
        ("10.97.0.0", false),
    ] {
        assert_eq!(wide.contains(text.parse().unwrap()), inside, "{text}");
    }
    for bad in [
        "10.96.0.0",
        "10.96.0.1/16",
        "10.96.0.0/33",
        "10.96.0.0/2",
        "10.96.0.0/0",
        "x/16",
        "fd00::/0",
        "fd00::/48",
        "fd00::1/112",
        "",
    ] {
        assert!(bad.parse::<Cidr>().is_err(), "{bad}");
    }
    let six: Cidr = "fd00::/112".parse().unwrap();
    assert_eq!(
        (six.first().to_string(), six.size(), six.to_string()),
        ("fd00::1".into(), 65_535, "fd00::/112".into())
    );
    for (text, inside) in [("fd00::", false), ("fd00::ffff", true), ("fd00::1:0", false), ("0.0.0.1", false)]
    {
        assert_eq!(six.contains(text.parse().unwrap()), inside, "{text}");
    }
    let widest: Cidr = "fd00::/64".parse().unwrap();
    assert_eq!(
        (widest.size(), widest.nth(u64::MAX - 1).to_string()),
        (u64::MAX, "fd00::ffff:ffff:ffff:ffff".into())
    );
    assert!(!wide.contains("::10.96.0.1".parse().unwrap()), "of the other family");
    for bad in ["", "10.0.0.0/24,10.1.0.0/24", "10.0.0.0/24,fd00::/112,fd01::/112", "10.0.0.0/24,"] {
        assert!(bad.parse::<Ranges>().is_err(), "{bad}");
    }
}

#[test]
fn a_new_service_gets_an_address() {
    let mut s = service(json!({"type": "ClusterIP", "ports": [{"port": 80}]}));
    let plan = fill(&mut s, None, &[]).unwrap();
    let got: IpAddr = s["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    let low = (0..16).map(|n| range().first.nth(n)).any(|ip| ip == got);
    assert!(range().first.contains(got) && !low, "{got} lies below the band for those who choose");
    assert_eq!(plan, Plan { claim: vec![Claim::Ip(got)], release: vec![] });
    assert_eq!(s["spec"]["clusterIPs"], json!([got.to_string()]));
    assert_eq!(
        (&s["spec"]["ipFamilies"], &s["spec"]["ipFamilyPolicy"]),
        (&json!(["IPv4"]), &json!("SingleStack"))
    );
    assert_eq!(s["spec"]["ports"][0].get("nodePort"), None);
}

#[test]
fn services_without_an_address() {
    for (spec, shown) in [
        (json!({"type": "ClusterIP", "clusterIP": "None"}), json!(["None"])),
        (
            json!({"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}),
            json!(["None"]),
        ),
        (json!({"type": "ExternalName", "externalName": "x.y"}), Value::Null),
    ] {
        let mut s = service(spec);
        assert_eq!(fill(&mut s, None, &[]).unwrap(), Plan::default());
        assert_eq!(s["spec"].get("clusterIPs").cloned().unwrap_or_default(), shown);
    }
}

#[test]
fn what_is_refused() {
    let port = |n: u16| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": n}]});
    let taken = [ip("10.96.0.9"), Claim::Port(30_100)];
    for (spec, says) in [
        (
            json!({"clusterIP": "10.96.0.9"}),
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\"]: failed to allocate IP 10.96.0.9: provided IP is already allocated",
        ),
        (
            json!({"clusterIP": "10.97.0.9"}),
            "spec.clusterIPs: Invalid value: [\"10.97.0.9\"]: failed to allocate IP 10.97.0.9: the provided IP (10.97.0.9) is not in the valid range. The range of valid IPs is 10.96.0.0/24",
        ),
        (
            json!({"clusterIP": "nope"}),
            "spec.clusterIPs[0]: Invalid value: \"nope\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (port(30_100), "spec.ports[0].nodePort: Invalid value: 30100: provided port is already allocated"),
        (
            port(80),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
    ] {
        assert_eq!(fill(&mut service(spec.clone()), None, &taken).unwrap_err(), [says], "{spec}");
    }
}

#[test]
fn an_address_that_was_given_is_not_exchanged_for_another() {
    let mut old = service(json!({"type": "ClusterIP", "clusterIP": "10.96.0.20", "ports": [{"port": 80}]}));
    fill(&mut old, None, &[]).unwrap();
    let mut moved = old.clone();
    moved["spec"]["clusterIP"] = "10.96.0.21".into();
    let plan = fill(&mut moved, Some(&old), &held(&old)).unwrap();
    assert_eq!(plan.claim, []);
    let wrong = Service.validate_update(&moved, &old);
    assert!(wrong.iter().any(|e| e.to_string().contains("may not change once set")), "{wrong:?}");
}

#[test]
fn both_families() {
    let dual = json!({"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]});
    let mut s = service(dual);
    let plan = fill_in(both(), &mut s, None, &[]).unwrap();
    assert_eq!((plan.claim.len(), &s["spec"]["ipFamilies"]), (2, &json!(["IPv4", "IPv6"])));
    let ips: Vec<IpAddr> = s["spec"]["clusterIPs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| ip.as_str().unwrap().parse().unwrap())
        .collect();
    assert!(range().first.contains(ips[0]) && both().second.unwrap().contains(ips[1]), "{ips:?}");
    assert_eq!(s["spec"]["clusterIP"], ips[0].to_string());
    assert_eq!(held(&s), plan.claim);
    // Down to one family, and up again to an address of choice.
    let mut one = s.clone();
    one["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    let plan = fill_in(both(), &mut one, Some(&s), &held(&s)).unwrap();
    assert_eq!((plan.claim, plan.release), (vec![], vec![Claim::Ip(ips[1])]));
    assert_eq!(
        (&one["spec"]["clusterIPs"], &one["spec"]["ipFamilies"]),
        (&json!([ips[0]]), &json!(["IPv4"]))
    );
    let mut up = one.clone();
    up["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
    up["spec"]["clusterIPs"] = json!([ips[0], "fd00:10:96::99"]);
    let plan = fill_in(both(), &mut up, Some(&one), &held(&one)).unwrap();
    assert_eq!((plan.claim, plan.release), (vec![ip("fd00:10:96::99")], vec![]));
    // Taken by somebody, and outside.
    for (asked, why) in [("fd00:10:96::98", "already allocated"), ("fd00:10:97::1", "not in the valid range")]
    {
        let mut up = one.clone();
        up["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
        up["spec"]["clusterIPs"] = json!([ips[0], asked]);
        let errors =
            fill_in(both(), &mut up, Some(&one), &[Claim::Ip(ips[0]), ip("fd00:10:96::98")]).unwrap_err();
        assert!(errors[0].contains(why), "{errors:?}");
    }
    let mut six = service(json!({"type": "ClusterIP", "ipFamilies": ["IPv6"], "ports": [{"port": 80}]}));
    fill_in(both(), &mut six, None, &[]).unwrap();
    assert!(six["spec"]["clusterIP"].as_str().unwrap().starts_with("fd00:10:96::"));
    assert_eq!(six["spec"]["ipFamilyPolicy"], "SingleStack");
}

/// A Service as it is after a write, and what that write claimed and released.
fn changed(old: &Value, spec: Value) -> (Value, Plan) {
    let mut new = service(spec);
    let taken = held(old);
    let plan = fill(&mut new, Some(old), &taken).unwrap();
    (new, plan)
}

#[test]
fn updates() {
    let mut old =
        service(json!({"type": "NodePort", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}));
    fill(&mut old, None, &[]).unwrap();
    let address = old["spec"]["clusterIP"].clone();
    let node = |s: &Value, i: usize| s["spec"]["ports"][i].get("nodePort").cloned().unwrap_or_default();
    // Left out: kept.
    let (new, plan) = changed(
        &old,
        json!({"type": "NodePort", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}),
    );
    assert_eq!(
        (&new["spec"]["clusterIP"], node(&new, 0), node(&new, 1)),
        (&address, node(&old, 0), node(&old, 1))
    );
    assert_eq!(plan, Plan::default());
    // Another order of the ports changes nothing either.
    let (new, plan) = changed(
        &old,
        json!({"type": "NodePort", "ports": [{"name": "b", "port": 81}, {"name": "a", "port": 80}]}),
    );
    assert_eq!((node(&new, 0), node(&new, 1), plan), (node(&old, 1), node(&old, 0), Plan::default()));
    // A port goes: its node port is given back.
    let (_, plan) = changed(&old, json!({"type": "NodePort", "ports": [{"name": "b", "port": 81}]}));
    assert_eq!(plan.release, [Claim::Port(node(&old, 0).as_u64().unwrap() as u16)]);
    // Back to ClusterIP: both node ports go, even where the client sends them back.
    let mut spec = old["spec"].clone();
    spec["type"] = "ClusterIP".into();
    let (new, plan) = changed(&old, spec);
    assert_eq!((node(&new, 0), plan.release.len(), plan.claim.len()), (Value::Null, 2, 0));
    assert_eq!(new["spec"]["clusterIP"], address);
    // ExternalName: everything goes.
    let mut spec = old["spec"].clone();
    spec["type"] = "ExternalName".into();
    let (new, plan) = changed(&old, spec);
    assert_eq!(
        (new["spec"].get("clusterIP"), new["spec"].get("clusterIPs"), plan.release.len()),
        (None, None, 3)
    );
    // And back.
    let external = service(json!({"type": "ExternalName"}));
    let (_, plan) = changed(&external, json!({"type": "ClusterIP"}));
    assert_eq!((plan.claim.len(), plan.release.len()), (1, 0));
}

#[test]
fn one_number_serves_two_protocols() {
    let mut s = service(json!({"type": "NodePort", "ports": [
        {"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53, "protocol": "TCP"}, {"name": "m", "port": 90}]}));
    let plan = fill(&mut s, None, &[]).unwrap();
    let node = |i: usize| s["spec"]["ports"][i]["nodePort"].as_u64().unwrap();
    assert_eq!(node(0), node(1));
    assert_ne!(node(0), node(2));
    assert_eq!(plan.claim.len(), 3);
}

#[test]
fn load_balancers() {
    let mut s =
        service(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]}));
    assert_eq!(fill(&mut s, None, &[]).unwrap().claim.len(), 3);
    assert!(s["spec"]["healthCheckNodePort"].as_u64().unwrap() >= 30_000);
    let mut s = service(
        json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]}),
    );
    assert_eq!(fill(&mut s, None, &[]).unwrap().claim.len(), 1);
}

/// Thousands of creations, changes and deletions: whatever is claimed was free, nothing is held twice, and what Services show is
/// what is claimed.
#[test]
fn nothing_is_ever_given_out_twice() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = move |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    let mut services: HashMap<u64, Value> = HashMap::new();
    let mut claims: HashMap<Claim, u64> = HashMap::new();
    let (mut full, mut done) = (0, 0);
    for _ in 0..20_000 {
        let who = draw(400);
        let old = services.get(&who).cloned();
        if let Some(old) = old.as_ref().filter(|_| draw(4) == 0) {
            for claim in held(old) {
                assert_eq!(claims.remove(&claim), Some(who));
            }
            services.remove(&who);
            continue;
        }
        let kind = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"][draw(4) as usize];
        let mut spec =
            json!({"type": kind, "ports": [{"name": "a", "port": draw(3)}, {"name": "b", "port": draw(3)}]});
        if draw(8) == 0 && old.is_none() && kind != "ExternalName" {
            spec["clusterIP"] = format!("10.96.0.{}", draw(256)).into();
        }
        if draw(8) == 0 && kind != "ClusterIP" && kind != "ExternalName" {
            spec["ports"][0]["nodePort"] = (30_000 + draw(40)).into();
        }
        if draw(2) == 0 && kind != "ExternalName" {
            spec["ipFamilyPolicy"] = ["SingleStack", "PreferDualStack"][draw(2) as usize].into();
        }
        let mut new = service(spec);
        prepare(&mut new, old.as_ref());
        let ports = PortRange(30_000..=30_400);
        match plan(&mut new, old.as_ref(), &both(), &ports, draw(u64::MAX), |c| claims.contains_key(c)) {
            Err(_) => full += 1,
            Ok(plan) => {
                done += 1;
                for claim in plan.release {
                    assert_eq!(claims.remove(&claim), Some(who));
                }
                for claim in plan.claim {
                    assert_eq!(claims.insert(claim, who), None);
                }
                let mut mine: Vec<Claim> =
                    claims.iter().filter(|(_, w)| **w == who).map(|(c, _)| c.clone()).collect();
                mine.sort();
                assert_eq!(mine, held(&new));
                services.insert(who, new);
            }
        }
    }
    assert!(full > 100 && done > 10_000, "{full} refused, {done} done");
}

/// What Services write beside themselves, over a real store.
mod beside {
    use crate::Handlers;
    use crate::alloc::Services;
    use crate::server::Limits;
    use crate::tests::{World, names, world_of};
    use serde_json::json;
    use std::sync::Arc;

    async fn world() -> World {
        world_of(Limits::default(), |caches| {
            let mut handlers = Handlers::default();
            handlers.companion("", "services", Arc::new(Services::new(caches, super::range())));
            handlers
        })
        .await
    }

    fn asking(name: &str, ip: &str) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"clusterIP": ip, "ports": [{"port": 80}]}})
    }

    const SERVICES: &str = "/api/v1/namespaces/d/services";
    const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

    #[tokio::test]
    async fn an_address_object_comes_and_goes_with_its_service() {
        let world = world().await;
        let made = world.json("POST", SERVICES, asking("a", "10.96.0.9")).await;
        assert_eq!(made.code, 201, "{}", made.body);
        let address = world.get(&format!("{ADDRESSES}/10.96.0.9")).await.body;
        let parent = json!({"group": "", "resource": "services", "namespace": "d", "name": "a"});
        assert_eq!(address["spec"]["parentRef"], parent);
        assert_eq!(address["metadata"]["resourceVersion"], made.body["metadata"]["resourceVersion"]);
        assert_eq!(world.ask("DELETE", &format!("{SERVICES}/a"), "", "").await.code, 200);
        assert_eq!(names(&world.get(ADDRESSES).await.body), Vec::<String>::new());
    }

    #[tokio::test]
    async fn an_address_that_somebody_keeps_is_not_given_out() {
        let world = world().await;
        let kept = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.96.0.9"},
            "spec": {"parentRef": {"resource": "gateways", "name": "g"}}});
        assert_eq!(world.json("POST", ADDRESSES, kept).await.code, 201);
        let refused = world.json("POST", SERVICES, asking("a", "10.96.0.9")).await;
        assert_eq!(refused.code, 422, "{}", refused.body);
        assert!(refused.body["message"].as_str().unwrap().contains("provided IP is already allocated"));
    }
}
