//! Services: each row is a change of a good Service and what must be said about it.

use super::*;
use crate::kinds::testing::{complete, context, now, shown};

/// A Service as it is stored: completed, prepared, with an address.
fn service(spec: Value) -> Value {
    let mut object = complete(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "d", "creationTimestamp": "2026-05-01T11:59:00Z"}, "spec": spec,
    }));
    Service.prepare_create(&mut object, &context());
    families(&mut object, None, &["IPv4"]);
    let spec = object["spec"].as_object_mut().unwrap();
    if needs_cluster_ip(spec) && word(spec, "clusterIP").is_empty() {
        spec.insert("clusterIP".into(), "10.96.0.10".into());
        spec.insert("clusterIPs".into(), json!(["10.96.0.10"]));
    }
    object
}

fn plain() -> Value {
    service(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}))
}

#[test]
fn defaults() {
    let spec = &plain()["spec"];
    assert_eq!(spec["type"], "ClusterIP");
    assert_eq!(spec["sessionAffinity"], "None");
    assert_eq!(spec["internalTrafficPolicy"], "Cluster");
    assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
    assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
    assert_eq!(spec["ports"][0], json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
    assert!(spec.get("externalTrafficPolicy").is_none());
    assert_eq!(plain()["status"], json!({"loadBalancer": {}}));
    let balanced =
        service(json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}));
    assert_eq!(balanced["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(balanced["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(balanced["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
    let headless = service(json!({"clusterIP": "None", "ports": [{"port": 80}]}));
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(headless["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    let external = service(json!({"type": "ExternalName", "externalName": "example.com"}));
    assert!(external["spec"].get("ipFamilies").is_none());
    for object in [balanced, headless, external, plain()] {
        assert_eq!(shown(&Service.validate(&object)), "", "{object}");
    }
}

#[test]
fn what_is_wrong_with_a_service() {
    let port = json!({"port": 80});
    for (spec, wrong) in [
        (json!({}), "spec.ports: Required value"),
        (json!({"clusterIP": "None"}), ""),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535",
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "ICMP"}]}),
            "spec.ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            json!({"ports": [{"port": 80, "targetPort": 70000}]}),
            "spec.ports[0].targetPort: Invalid value: 70000",
        ),
        (
            json!({"ports": [{"port": 80, "targetPort": "A"}]}),
            "spec.ports[0].targetPort: Invalid value: \"A\"",
        ),
        (
            json!({"ports": [{"port": 80}, {"port": 81}]}),
            "spec.ports[0].name: Required value; spec.ports[1].name: Required value",
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}),
            "spec.ports[1].name: Duplicate value: \"a\"",
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}),
            "spec.ports[1]: Duplicate value: ",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            json!({"type": "Magic", "ports": [port]}),
            "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None", "ports": [port]}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
        (json!({"type": "ExternalName"}), "spec.externalName: Required value"),
        (json!({"type": "ExternalName", "externalName": "a b"}), "spec.externalName: Invalid value: \"a b\""),
        (json!({"selector": {"a b": "c"}, "ports": [port]}), "spec.selector: Invalid value: \"a b\""),
        (
            json!({"clusterIP": "a", "ports": [port]}),
            "spec.clusterIPs[0]: Invalid value: \"a\": must be a valid IP address",
        ),
        (
            json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.2"], "ports": [port]}),
            "spec.clusterIPs: Invalid value: [\"10.96.0.2\"]: first value must match `clusterIP`",
        ),
        (
            json!({"clusterIP": "fd00::1", "ipFamilies": ["IPv4"], "ports": [port]}),
            "spec.clusterIPs[0]: Invalid value: \"fd00::1\": expected an IPv4 value",
        ),
        (
            json!({"externalIPs": ["127.0.0.1"], "ports": [port]}),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range",
        ),
        (
            json!({"externalTrafficPolicy": "Local", "ports": [port]}),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible",
        ),
        (
            json!({"internalTrafficPolicy": "Far", "ports": [port]}),
            "spec.internalTrafficPolicy: Unsupported value: \"Far\"",
        ),
        (
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [port]}),
            "spec.healthCheckNodePort: Required value",
        ),
        (
            json!({"loadBalancerClass": "a/b", "ports": [port]}),
            "spec.loadBalancerClass: Forbidden: may only be used when",
        ),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8"], "ports": [port]}),
            "spec.LoadBalancerSourceRanges: Forbidden",
        ),
        (
            json!({"sessionAffinity": "Sticky", "ports": [port]}),
            "spec.sessionAffinity: Unsupported value: \"Sticky\"",
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}, "ports": [port]}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
        ),
        (
            json!({"trafficDistribution": "Near", "ports": [port]}),
            "spec.trafficDistribution: Unsupported value: \"Near\"",
        ),
    ] {
        let text = shown(&Service.validate(&service(spec.clone())));
        assert!(
            text.starts_with(wrong) && text.is_empty() == wrong.is_empty(),
            "{spec}\n is {text}\nnot {wrong}"
        );
    }
    assert!(Service.validate_name("1a", false).is_empty());
    assert!(!Service.validate_name("a.b", false).is_empty());
}

fn updated(mut new: Value, old: &Value) -> (Value, String) {
    Service.prepare_update(&mut new, old);
    families(&mut new, Some(old), &["IPv4"]);
    let text = shown(&Service.validate_update(&new, old));
    (new, text)
}

#[test]
fn an_update_keeps_what_was_given() {
    let mut old =
        service(json!({"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30080}]}));
    old["status"] = json!({"loadBalancer": {}, "conditions": []});
    let bare = complete(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "ports": [{"name": "a", "port": 81}]}}));
    let (new, text) = updated(bare, &old);
    assert_eq!(text, "");
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.0.10"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080);
    let mut back = old.clone();
    back["spec"]["type"] = "ClusterIP".into();
    let (new, text) = updated(back, &old);
    assert_eq!(text, "");
    assert!(new["spec"]["ports"][0].get("nodePort").is_none());
    assert!(new["spec"].get("externalTrafficPolicy").is_none());
    assert_eq!(Service.validate(&new), []);
    let mut named = old.clone();
    (named["spec"]["type"], named["spec"]["externalName"]) = ("ExternalName".into(), "example.com".into());
    let (new, text) = updated(named, &old);
    assert_eq!(text, "");
    assert!(new["spec"].get("clusterIP").is_none() && new["spec"].get("ipFamilies").is_none());
}

#[test]
fn node_ports_go_with_the_type_unless_a_number_is_new() {
    let ports =
        json!([{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}]);
    let balanced = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports});
    for old in [service(json!({"type": "NodePort", "ports": ports})), service(balanced)] {
        let mut less = old.clone();
        less["spec"]["type"] = "ClusterIP".into();
        less["spec"]["ports"].as_array_mut().unwrap().remove(0);
        let (new, wrong) = updated(less, &old);
        assert_eq!((new["spec"]["ports"][0].get("nodePort"), wrong.as_str()), (None, ""));
        let mut other = old.clone();
        other["spec"]["type"] = "ClusterIP".into();
        other["spec"]["ports"][0]["nodePort"] = 30082.into();
        let (new, _) = updated(other, &old);
        let wrong = shown(&Service.validate(&new));
        assert!(wrong.contains("may not be used when `type` is 'ClusterIP'"), "{wrong}");
    }
}

#[test]
fn an_address_stays() {
    let old = plain();
    let mut other = old.clone();
    (other["spec"]["clusterIP"], other["spec"]["clusterIPs"]) = ("10.96.0.11".into(), json!(["10.96.0.11"]));
    let (_, text) = updated(other, &old);
    assert_eq!(text, "spec.clusterIPs[0]: Invalid value: [\"10.96.0.11\"]: may not change once set");
    let mut one = old.clone();
    one["spec"]["clusterIP"] = "10.96.0.12".into();
    let (new, text) = updated(one, &old);
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.0.12"]), "the plural follows the singular");
    assert!(text.contains("may not change once set"));
    let mut families = old.clone();
    families["spec"]["ipFamilies"] = json!(["IPv6"]);
    assert!(updated(families, &old).1.starts_with("spec.ipFamilies[0]: Invalid value"));
    let mut status = old.clone();
    status["status"]["loadBalancer"]["ingress"] = json!([{"ip": "1.2.3.4"}]);
    let text = shown(&Service.validate_status_update(&status, &old));
    assert!(text.starts_with("status.loadBalancer.ingress: Forbidden: may only be used when `spec.type`"));
}

#[test]
fn cells() {
    let mut balanced = service(json!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}]}));
    assert_eq!(
        Service.cells(&balanced, now()),
        ["web", "LoadBalancer", "10.96.0.10", "<pending>", "80:30080/TCP", "60s", "<none>"]
    );
    balanced["status"]["loadBalancer"]["ingress"] = json!([{"ip": "2.2.2.2"}, {"hostname": "a.example"}]);
    balanced["spec"]["externalIPs"] = json!(["9.9.9.9"]);
    assert_eq!(Service.cells(&balanced, now())[3], "2.2.2.2,a.example,9.9.9.9");
    let two = service(json!({"selector": {"b": "2", "a": "1"},
        "ports": [{"name": "a", "port": 53, "protocol": "UDP"}, {"name": "b", "port": 53}]}));
    assert_eq!(
        Service.cells(&two, now()),
        ["web", "ClusterIP", "10.96.0.10", "<none>", "53/UDP,53/TCP", "60s", "a=1,b=2"]
    );
    let external = service(json!({"type": "ExternalName", "externalName": "example.com"}));
    assert_eq!(
        Service.cells(&external, now()),
        ["web", "ExternalName", "<none>", "example.com", "<none>", "60s", "<none>"]
    );
    assert_eq!(Service.columns().len(), 7);
}
