//! Rules of Services.

use crate::field::FieldError;
use crate::kinds::endpoints::endpoint_ip;
use crate::kinds::pod::PROTOCOLS;
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::validation::{At, Errors, labels, port_number, port_number_or_name, text};
use std::collections::BTreeSet;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";

fn is_headless(spec: &At<'_, '_>) -> bool {
    let ips = spec.get("clusterIPs");
    ips.len() == 1 && ips.texts().next() == Some("None")
}

fn is_external(spec: &At<'_, '_>) -> bool {
    spec.value().and_then(|v| v.as_object()).is_some_and(super::is_external)
}

fn needs_health_check(spec: &At<'_, '_>) -> bool {
    spec.value().and_then(|v| v.as_object()).is_some_and(super::needs_health_check_port)
}

pub(super) fn service(root: &At<'_, '_>) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let spec = root.get("spec");
    let kind = spec.get("type");
    let ports = spec.get("ports");
    let headless = is_headless(&spec);
    if ports.is_empty() && !headless && kind.text() != "ExternalName" {
        errors.required(&ports, "");
    }
    match kind.text() {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {} services", kind.text());
            errors.push(FieldError::invalid(spec.get("clusterIPs").path().index(0), "None".into(), why));
        }
        "ExternalName" => external_name(&mut errors, &spec),
        _ => {}
    }
    each_port(&mut errors, &ports);
    labels(&mut errors, &spec.get("selector"));
    affinity(&mut errors, &spec);
    if kind.text() != "ExternalName" {
        cluster_ips(&mut errors, &spec);
    }
    for ip in spec.get("externalIPs").items() {
        endpoint_ip(&mut errors, &ip);
    }
    errors.one_of(&kind, TYPES);
    node_ports(&mut errors, &ports, kind.text());
    load_balancer(&mut errors, root, &spec, kind.text());
    traffic(&mut errors, &spec, kind.text());
    errors.done()
}

fn external_name(errors: &mut Errors, spec: &At<'_, '_>) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let at = spec.get(field);
        if !at.is_empty() {
            errors.forbidden(&at, "may not be set for ExternalName services");
        }
    }
    let name = spec.get("externalName");
    let bare = name.text().strip_suffix('.').unwrap_or(name.text());
    if bare.is_empty() {
        errors.required(&name, "");
    } else {
        errors.text(&name, dns1123_subdomain(bare, false));
    }
}

fn each_port(errors: &mut Errors, ports: &At<'_, '_>) {
    let (mut names, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for port in ports.items() {
        let (name, number, protocol) = (port.get("name"), port.get("port"), port.get("protocol"));
        if ports.len() > 1 && name.text().is_empty() {
            errors.required(&name, "");
        } else if !name.text().is_empty() {
            errors.text(&name, dns1123_label(name.text(), false));
            if !names.insert(name.text()) {
                errors.duplicate(&name);
            }
        }
        if number.present() {
            port_number(errors, &number);
        } else {
            errors.push(FieldError::invalid(
                number.path(),
                0.into(),
                "must be between 1 and 65535, inclusive",
            ));
        }
        errors.one_of(&protocol, PROTOCOLS);
        port_number_or_name(errors, &port.get("targetPort"));
        let application = port.get("appProtocol");
        if application.present() {
            errors.text(&application, text::qualified_name(application.text()));
        }
        if !seen.insert((protocol.text(), number.int())) {
            let key = serde_json::json!({"port": number.json(), "protocol": protocol.json()});
            errors.push(FieldError::duplicate(port.path(), key));
        }
    }
}

fn node_ports(errors: &mut Errors, ports: &At<'_, '_>, kind: &str) {
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        let at = port.get("nodePort");
        let number = at.int().unwrap_or(0);
        if number == 0 {
            continue;
        }
        if kind == "ClusterIP" {
            errors.forbidden(&at, "may not be used when `type` is 'ClusterIP'");
        }
        if !seen.insert((port.get("protocol").text(), number)) {
            errors.duplicate(&at);
        }
    }
}

/// The most seconds that a client may stay with its backend: a day.
const AFFINITY_MAX: i64 = 86_400;

fn affinity(errors: &mut Errors, spec: &At<'_, '_>) {
    let affinity = spec.get("sessionAffinity");
    errors.one_of(&affinity, &["ClientIP", "None"]);
    let config = spec.get("sessionAffinityConfig");
    match affinity.text() {
        "None" if config.present() => {
            errors.forbidden(&config, "must not be set when session affinity is None");
        }
        "ClientIP" => {
            let why = "when session affinity type is ClientIP";
            let client = config.get("clientIP");
            let seconds = client.get("timeoutSeconds");
            for at in [&config, &client, &seconds] {
                if !at.present() {
                    return errors.required(at, why);
                }
            }
            if seconds.int().is_some_and(|s| s <= 0 || s > AFFINITY_MAX) {
                errors.invalid(&seconds, format!("must be greater than 0 and less than {AFFINITY_MAX}"));
            }
        }
        _ => {}
    }
}

pub(super) fn cluster_ips(errors: &mut Errors, spec: &At<'_, '_>) {
    let (ip, ips) = (spec.get("clusterIP"), spec.get("clusterIPs"));
    let (families, policy) = (spec.get("ipFamilies"), spec.get("ipFamilyPolicy"));
    match (ip.text(), ips.texts().next()) {
        ("", Some(_)) => errors.invalid(&ips, "must be empty when `clusterIP` is not specified"),
        ("", None) => {}
        (_, None) => errors.required(&ips, ""),
        (one, Some(first)) if one != first => errors.invalid(&ips, "first value must match `clusterIP`"),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for family in families.items() {
        errors.optional_one_of(&family, &["IPv4", "IPv6"]);
        if !seen.insert(family.text()) {
            errors.duplicate(&family);
        }
    }
    errors.optional_one_of(&policy, &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    let before = errors.len();
    for (i, at) in ips.items().enumerate() {
        if i == 0 && at.text() == "None" {
            if ips.len() > 1 {
                errors.invalid(&ips, "'None' must be the first and only value");
            }
            continue;
        }
        errors.text(&at, text::ip(at.text()));
    }
    if ips.len() > 2 {
        errors.invalid(&ips, "may only hold up to 2 values");
    }
    if errors.len() > before || is_headless(spec) {
        return;
    }
    if ips.len() == 2 && ips.texts().filter(|ip| ip.contains(':')).count() != 1 {
        errors.invalid(&ips, "may specify no more than one IP for each IP family");
    }
    for (i, (at, family)) in ips.items().zip(families.texts()).enumerate() {
        let is = if at.text().contains(':') { "IPv6" } else { "IPv4" };
        if is != family {
            errors.invalid(&at, format!("expected an {family} value as indicated by `ipFamilies[{i}]`"));
        }
    }
}

fn load_balancer(errors: &mut Errors, root: &At<'_, '_>, spec: &At<'_, '_>, kind: &str) {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let is = kind == "LoadBalancer";
    let ranges = spec.get("loadBalancerSourceRanges");
    let metadata = root.get("metadata");
    let annotations = metadata.get("annotations");
    let annotation = annotations.key(ANNOTATION);
    if !ranges.is_empty() {
        // Upstream writes the field with a capital letter.
        let at = spec.get("LoadBalancerSourceRanges");
        let at = at.with_value(ranges.value());
        if !is {
            errors.forbidden(&at, ONLY_LOAD_BALANCER);
        }
        for range in at.items() {
            errors.text(&range, text::cidr(range.text().trim()));
        }
    } else if annotation.present() {
        if !is {
            errors.forbidden(&annotation, ONLY_LOAD_BALANCER);
        }
        for range in
            annotation.text().split(',').map(str::trim).filter(|_| !annotation.text().trim().is_empty())
        {
            for message in text::cidr(range) {
                errors.push(FieldError::invalid(annotation.path(), range.into(), message));
            }
        }
    }
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if !is && allocate.present() {
        errors.forbidden(&allocate, ONLY_LOAD_BALANCER);
    }
    if is && !allocate.present() {
        errors.push(FieldError::required("allocateLoadBalancerNodePorts", ""));
    }
    let class = spec.get("loadBalancerClass");
    if class.present() {
        if is {
            errors.text(&class, text::qualified_name(class.text()));
        } else {
            errors.forbidden(&class, ONLY_LOAD_BALANCER);
        }
    }
}

fn traffic(errors: &mut Errors, spec: &At<'_, '_>, kind: &str) {
    let external = spec.get("externalTrafficPolicy");
    if is_external(spec) {
        errors.one_of(&external, &["Cluster", "Local"]);
    } else if !external.text().is_empty() {
        errors.invalid(&external, "may only be set for externally-accessible services");
    }
    let port = spec.get("healthCheckNodePort");
    let number = port.int().unwrap_or(0);
    if needs_health_check(spec) {
        if number == 0 {
            errors.required(&port, "");
        } else {
            port_number(errors, &port);
        }
    } else if number != 0 {
        errors.invalid(
            &port,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        );
    }
    let internal = spec.get("internalTrafficPolicy");
    if !internal.present() && matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
        errors.required(&internal, "");
    }
    errors.optional_one_of(&internal, &["Cluster", "Local"]);
    errors.optional_one_of(
        &spec.get("trafficDistribution"),
        &["PreferClose", "PreferSameZone", "PreferSameNode"],
    );
}

pub(super) fn update(new: &At<'_, '_>, old: &At<'_, '_>) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (new, old) = (new.get("spec"), old.get("spec"));
    let external = [&new, &old].iter().any(|spec| spec.get("type").text() == "ExternalName");
    let (headless, was_headless) = (is_headless(&new), is_headless(&old));
    let both_headless = headless && was_headless;
    if !external && !both_headless {
        unchanged(&mut errors, &new, &old, "clusterIPs", "primary clusterIP can not be unset", "clusterIP");
    }
    if !external && !headless && !was_headless {
        unchanged(&mut errors, &new, &old, "ipFamilies", "primary ipFamily can not be unset", "ipFamily");
    }
    let balanced = [&new, &old].iter().all(|spec| spec.get("type").text() == "LoadBalancer");
    let class = new.get("loadBalancerClass");
    if balanced && class.json() != old.get("loadBalancerClass").json() {
        errors.invalid(&class, "may not change once set");
    }
    let port = new.get("healthCheckNodePort");
    if needs_health_check(&new)
        && needs_health_check(&old)
        && port.int() != old.get("healthCheckNodePort").int()
    {
        errors.forbidden(&port, "field is immutable");
    }
    errors.done()
}

/// The first of a list stays; a second may come, and go with a policy that says so.
fn unchanged(errors: &mut Errors, new: &At<'_, '_>, old: &At<'_, '_>, field: &str, unset: &str, one: &str) {
    let policy = new.get("ipFamilyPolicy");
    let (new, old) = (new.get(field), old.get(field));
    let (is, was): (Vec<&str>, Vec<&str>) = (new.texts().collect(), old.texts().collect());
    let invalid = |i: usize, why: &str| FieldError::invalid(new.path().index(i), new.json(), why);
    if is.is_empty() && !was.is_empty() {
        errors.push(invalid(0, unset));
    }
    for (i, _) in was.iter().zip(&is).enumerate().filter(|(_, (was, is))| was != is) {
        errors.push(invalid(i, "may not change once set"));
    }
    if was.len() == 2 && is.len() == 1 && policy.text() != "SingleStack" {
        errors.invalid(&policy, format!("must be set to 'SingleStack' when releasing the secondary {one}"));
    }
}

pub(super) fn status(root: &At<'_, '_>) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let status = root.get("status");
    let balancer = status.get("loadBalancer");
    let ingress = balancer.get("ingress");
    if root.get("spec").get("type").text() != "LoadBalancer" {
        if !ingress.is_empty() {
            errors.forbidden(&ingress, "may only be used when `spec.type` is 'LoadBalancer'");
        }
        return errors.done();
    }
    for entry in ingress.items() {
        let (ip, mode, host) = (entry.get("ip"), entry.get("ipMode"), entry.get("hostname"));
        errors.optional_text(&ip, text::ip);
        match (ip.text().is_empty(), mode.present()) {
            (false, false) => errors.required(&mode, "must be specified when `ip` is set"),
            (true, true) => errors.forbidden(&mode, "may not be specified when `ip` is not set"),
            _ => errors.optional_one_of(&mode, &["Proxy", "VIP"]),
        }
        if !host.text().is_empty() {
            errors.text(&host, dns1123_subdomain(host.text(), false));
            if host.text().parse::<std::net::IpAddr>().is_ok() {
                errors.invalid(&host, "must be a DNS name, not an IP address");
            }
        }
    }
    errors.done()
}
