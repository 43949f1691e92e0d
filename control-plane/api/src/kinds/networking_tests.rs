use super::*;
use crate::kinds::testing::{complete, now, shown};

fn policy(spec: Value) -> Value {
    complete(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "creationTimestamp": "2026-05-01T11:59:00Z"}, "spec": spec}))
}

#[test]
fn a_policy_says_its_directions() {
    let pods = json!({"matchLabels": {"a": "b"}});
    let incoming = policy(json!({"podSelector": pods}));
    assert_eq!(incoming["spec"]["policyTypes"], json!(["Ingress"]));
    assert_eq!(NetworkPolicy.cells(&incoming, now()), ["p", "a=b", "60s"]);
    let both = policy(json!({"podSelector": {}, "egress": [{"ports": [{"port": 80}]}]}));
    assert_eq!(both["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(both["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
}

#[test]
fn policies_are_checked() {
    let from = |peer: Value| json!({"podSelector": {}, "ingress": [{"from": [peer]}]});
    let ports = |port: Value| json!({"podSelector": {}, "egress": [{"ports": [port]}]});
    for (spec, wrong) in [
        (from(json!({"podSelector": {}, "namespaceSelector": {}})), ""),
        (from(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}})), ""),
        (from(json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.1.0.0/16"]}})), ""),
        (from(json!({"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}})), ""),
        (from(json!({})), "spec.ingress[0].from[0]: Required value: must specify a peer"),
        (
            from(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
            "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
        ),
        (from(json!({"ipBlock": {"cidr": ""}})), "spec.ingress[0].from[0].ipBlock.cidr: Required value"),
        (
            from(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}})),
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
        ),
        (
            from(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}})),
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
        ),
        (ports(json!({"port": "http"})), ""),
        (ports(json!({"port": 80, "endPort": 90})), ""),
        (
            ports(json!({"port": 80, "endPort": 79})),
            "spec.egress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
        ),
        (
            ports(json!({"port": "http", "endPort": 79})),
            "spec.egress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is non-numeric",
        ),
        (
            ports(json!({"endPort": 79})),
            "spec.egress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is not specified",
        ),
        (
            ports(json!({"port": 0})),
            "spec.egress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            ports(json!({"protocol": "ICMP"})),
            "spec.egress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
        ),
        (
            json!({"podSelector": {}, "policyTypes": ["Sideways"]}),
            "spec.policyTypes[0]: Unsupported value: \"Sideways\": supported values: \"Ingress\", \"Egress\"",
        ),
    ] {
        assert_eq!(shown(&NetworkPolicy.validate(&policy(spec.clone()))), wrong, "{spec}");
    }
}

fn ingress(spec: Value) -> Value {
    complete(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "i", "creationTimestamp": "2026-05-01T11:59:00Z"}, "spec": spec}))
}

#[test]
fn ingresses_are_checked() {
    let to = json!({"service": {"name": "web", "port": {"number": 80}}});
    let path = |path: &str, kind: Value| json!({"rules": [{"http": {"paths": [{"path": path, "pathType": kind, "backend": to}]}}]});
    let host = |host: &str| json!({"defaultBackend": to, "rules": [{"host": host}]});
    let back = |backend: Value| json!({"defaultBackend": backend});
    for (spec, wrong) in [
        (back(to.clone()), ""),
        (back(json!({"resource": {"kind": "Bucket", "name": "b", "apiGroup": "example.com"}})), ""),
        (json!({}), "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"),
        (
            back(json!({})),
            "spec.defaultBackend: Invalid value: \"\": resource or service backend is required",
        ),
        (
            back(json!({"service": {"name": "web"}})),
            "spec.defaultBackend: Required value: port name or number is required",
        ),
        (
            back(json!({"service": {"name": "web", "port": {"number": 80, "name": "http"}}})),
            "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number",
        ),
        (path("/a", json!("Prefix")), ""),
        (path("", json!("ImplementationSpecific")), ""),
        (
            path("a", json!("Exact")),
            "spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path",
        ),
        (
            path("/a//b", json!("Exact")),
            "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'",
        ),
        (
            path("/a/..", json!("Prefix")),
            "spec.rules[0].http.paths[0].path: Invalid value: \"/a/..\": cannot end with '/..'",
        ),
        (
            path("/a", Value::Null),
            "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
        ),
        (
            path("/a", json!("Regex")),
            "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Regex\": supported values: \"Exact\", \
             \"ImplementationSpecific\", \"Prefix\"",
        ),
        (host("*.example.com"), ""),
        (
            host("10.0.0.1"),
            "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
        ),
        (json!({"rules": [{"http": {"paths": []}}]}), "spec.rules[0].http.paths: Required value"),
    ] {
        assert_eq!(shown(&Ingress.validate(&ingress(spec.clone()))), wrong, "{spec}");
    }
    let star = shown(&Ingress.validate(&ingress(host("a.*.com"))));
    assert!(
        star.starts_with("spec.rules[0].host: Invalid value: \"a.*.com\": a wildcard DNS-1123"),
        "{star}"
    );
    let mut two = ingress(json!({"defaultBackend": to, "ingressClassName": "a"}));
    two["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "b"});
    assert_eq!(
        shown(&Ingress.validate_create(&two)),
        "annotations.kubernetes.io/ingress.class: Invalid value: \"b\": must match `ingressClassName` when both are specified"
    );
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "a.b"}]}}});
    assert!(
        shown(&Ingress.validate_status_update(&status, &status))
            .starts_with("status.loadBalancer.ingress[0].ip:")
    );
}

#[test]
fn ingresses_are_shown() {
    let rules: Vec<Value> =
        ["a.io", "b.io", "c.io", "d.io"].iter().map(|host| json!({"host": host})).collect();
    let mut some = ingress(json!({"rules": rules, "tls": [{"hosts": ["a.io"]}], "ingressClassName": "n"}));
    some["status"] =
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}, {"hostname": "lb.example.com"}]}});
    assert_eq!(
        Ingress.cells(&some, now()),
        ["i", "n", "a.io,b.io,c.io + 1 more...", "192.0.2.10,lb...", "80, 443", "60s"]
    );
    assert_eq!(Ingress.cells(&ingress(json!({})), now()), ["i", "<none>", "*", "", "80", "60s"]);
}

#[test]
fn classes() {
    let class = |spec: Value| {
        complete(json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": "n", "creationTimestamp": "2026-05-01T11:59:00Z",
                "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}, "spec": spec}))
    };
    let parameters =
        |parameters: Value| json!({"controller": "example.com/ingress", "parameters": parameters});
    let good = class(parameters(json!({"apiGroup": "example.com", "kind": "Conf", "name": "c"})));
    assert_eq!(
        IngressClass.cells(&good, now()),
        ["n (default)", "example.com/ingress", "Conf.example.com/c", "60s"]
    );
    for (spec, wrong) in [
        (good["spec"].clone(), ""),
        (json!({}), "spec.controller: Required value"),
        (
            json!({"controller": "ingress"}),
            "spec.controller: Invalid value: \"ingress\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        (parameters(json!({"kind": "Conf"})), "spec.parameters.name: Required value"),
        (
            parameters(json!({"kind": "Conf", "name": "c", "scope": "Namespace"})),
            "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
        ),
        (
            parameters(json!({"kind": "Conf", "name": "c", "namespace": "d"})),
            "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
        ),
    ] {
        assert_eq!(shown(&IngressClass.validate(&class(spec.clone()))), wrong, "{spec}");
    }
    let other = class(json!({"controller": "example.com/other"}));
    assert_eq!(
        shown(&IngressClass.validate_update(&other, &good)),
        "spec.controller: Invalid value: \"example.com/other\": field is immutable"
    );
}
