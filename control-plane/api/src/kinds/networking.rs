//! NetworkPolicies, Ingresses and their classes.

use super::columns::{age, name};
use crate::field::FieldError;
use crate::names::{dns1123_label, dns1123_subdomain, path_segment};
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, port_number, selector, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// NetworkPolicies.
#[derive(Debug, Default)]
pub struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    /// A policy that does not say for which direction it is applies to what comes in, and to what goes out where it
    /// has rules for that.
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
        let none = |key: &str| spec.get(key).and_then(Value::as_array).is_none_or(Vec::is_empty);
        if none("policyTypes") {
            let types = if none("egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
            spec.insert("policyTypes".into(), types);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        selector::validate(&mut errors, &spec.get("podSelector"));
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec.get(direction).items() {
                rule.get("ports").items().for_each(|port| policy_port(&mut errors, &port));
                rule.get(peers).items().for_each(|peer| policy_peer(&mut errors, &peer));
            }
        }
        let types = spec.get("policyTypes");
        if types.len() > 2 {
            errors.invalid(&types, "may not specify more than two policyTypes");
            return errors.done();
        }
        for kind in types.items() {
            errors.one_of(&kind, &["Ingress", "Egress"]);
        }
        errors.done()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("Pod-Selector", "string", "Which pods the policy is for."), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let pods = selector::format(object.pointer("/spec/podSelector"));
        vec![table::name(object), pods.into(), table::age(object, now)]
    }
}

fn policy_port(errors: &mut Errors, at: &At<'_, '_>) {
    let (port, end) = (at.get("port"), at.get("endPort"));
    errors.optional_one_of(&at.get("protocol"), &["TCP", "UDP", "SCTP"]);
    match port.value() {
        None if end.present() => errors.invalid(&end, "may not be specified when `port` is not specified"),
        None => {}
        Some(Value::String(_)) => {
            if end.present() {
                errors.invalid(&end, "may not be specified when `port` is non-numeric");
            }
            errors.text(&port, text::port_name(port.text()));
        }
        Some(_) => {
            port_number(errors, &port);
            if end.int() < port.int() && end.present() {
                let why = "must be greater than or equal to `port`";
                errors.push(FieldError::invalid(end.path(), port.json(), why));
            }
            port_number(errors, &end);
        }
    }
}

fn policy_peer(errors: &mut Errors, at: &At<'_, '_>) {
    let block = at.get("ipBlock");
    let mut selectors = 0;
    for field in ["podSelector", "namespaceSelector"] {
        let chosen = at.get(field);
        selectors += usize::from(chosen.present());
        selector::validate(errors, &chosen);
    }
    if block.present() {
        ip_block(errors, &block);
    }
    if selectors == 0 && !block.present() {
        errors.required(at, "must specify a peer");
    } else if selectors > 0 && block.present() {
        errors.forbidden(at, "may not specify both ipBlock and another peer");
    }
}

/// Address and prefix length of a range that has been checked.
fn range(text: &str) -> Option<(u128, u32, bool)> {
    let (address, bits) = text.split_once('/')?;
    let bits: u32 = bits.parse().ok()?;
    Some(match address.parse().ok()? {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, bits, true),
        IpAddr::V6(v6) => (u128::from(v6), bits, false),
    })
}

fn ip_block(errors: &mut Errors, at: &At<'_, '_>) {
    let cidr = at.get("cidr");
    errors.required_text(&cidr, text::cidr);
    let Some((base, bits, four)) = range(cidr.text()) else { return };
    for except in at.get("except").items() {
        errors.text(&except, text::cidr(except.text()));
        let Some((address, longer, same_family)) = range(except.text()) else { continue };
        let differ = base ^ address;
        let outside = bits > 0 && differ.checked_shr(128 - bits).unwrap_or(0) != 0;
        if same_family != four || outside || longer <= bits {
            errors.invalid(&except, "must be a strict subset of `cidr`");
        }
    }
}

/// Ingresses.
#[derive(Debug, Default)]
pub struct Ingress;

/// Says the class of an Ingress as it was said before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// What no path of an Ingress may hold, and how none may end.
const NOT_IN_PATH: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const NOT_AT_END: &[&str] = &["/..", "/."];
/// Most bytes of addresses in a table.
const ADDRESS_WIDTH: usize = 16;

impl Strategy for Ingress {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let (rules, backend) = (spec.get("rules"), spec.get("defaultBackend"));
        if rules.is_empty() && !backend.present() {
            let why = "either `defaultBackend` or `rules` must be specified";
            errors.push(FieldError::invalid(spec.path(), rules.json(), why));
        }
        if backend.present() {
            ingress_backend(&mut errors, &backend);
        }
        for rule in rules.items() {
            let host = rule.get("host");
            if host.text().parse::<IpAddr>().is_ok() {
                errors.invalid(&host, "must be a DNS name, not an IP address");
            }
            errors.optional_text(&host, host_name);
            let http = rule.get("http");
            if http.present() {
                ingress_paths(&mut errors, &http.get("paths"));
            }
        }
        for tls in spec.get("tls").items() {
            tls.get("hosts").items().for_each(|host| errors.text(&host, host_name(host.text())));
            errors.optional_text(&tls.get("secretName"), |name| dns1123_subdomain(name, false));
        }
        let class = spec.get("ingressClassName");
        if class.present() {
            errors.text(&class, dns1123_subdomain(class.text(), false));
        }
        errors.done()
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let (metadata, spec) = (root.get("metadata"), root.get("spec"));
        let (class, annotations) = (spec.get("ingressClassName"), metadata.get("annotations"));
        let annotation = annotations.get(CLASS_ANNOTATION);
        if annotation.present() && class.present() && annotation.text() != class.text() {
            let path = crate::field::Path::new("annotations").child(CLASS_ANNOTATION);
            let why = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(path, annotation.json(), why));
        }
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(new);
        let status = root.get("status");
        let balancer = status.get("loadBalancer");
        for point in balancer.get("ingress").items() {
            let host = point.get("hostname");
            errors.optional_text(&point.get("ip"), text::ip);
            errors.optional_text(&host, |host| dns1123_subdomain(host, false));
            if host.text().parse::<IpAddr>().is_ok() {
                errors.invalid(&host, "must be a DNS name, not an IP address");
            }
        }
        errors.done()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Class", "string", "Name of the IngressClass."),
            column("Hosts", "string", "Names that requests are for."),
            column("Address", "string", "Where the load balancer is reached."),
            column("Ports", "string", "Ports that are open."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let class = spec.get("ingressClassName");
        let class = if class.present() { class.text() } else { "<none>" };
        let ports = if !spec.get("tls").is_empty() { "80, 443" } else { "80" };
        vec![
            table::name(object),
            class.into(),
            hosts(&spec.get("rules")).into(),
            addresses(&status.get("loadBalancer")).into(),
            ports.into(),
            table::age(object, now),
        ]
    }
}

/// A DNS name, of which the first label may be `*`.
fn host_name(host: &str) -> Vec<String> {
    if !host.contains('*') {
        return dns1123_subdomain(host, false);
    }
    let fine = host.len() <= 253
        && host.strip_prefix("*.").is_some_and(|rest| dns1123_subdomain(rest, false).is_empty());
    if fine {
        return Vec::new();
    }
    vec![
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
         lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', \
         regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            .into(),
    ]
}

fn ingress_paths(errors: &mut Errors, paths: &At<'_, '_>) {
    if paths.is_empty() {
        errors.required(paths, "");
    }
    for entry in paths.items() {
        let (path, kind) = (entry.get("path"), entry.get("pathType"));
        if !kind.present() {
            errors.required(&kind, "pathType must be specified");
            continue;
        }
        let shown = |why: String| FieldError::invalid(path.path(), path.text().into(), why);
        let strict = matches!(kind.text(), "Exact" | "Prefix");
        if !strict && kind.text() != "ImplementationSpecific" {
            errors.not_supported(&kind, &["Exact", "ImplementationSpecific", "Prefix"]);
        } else if !path.text().starts_with('/') && (strict || !path.text().is_empty()) {
            errors.push(shown("must be an absolute path".into()));
        }
        if strict {
            let inside = NOT_IN_PATH.iter().filter(|part| path.text().contains(**part));
            errors.extend(inside.map(|part| shown(format!("must not contain '{part}'"))));
            let ends = NOT_AT_END.iter().filter(|end| path.text().ends_with(**end));
            errors.extend(ends.map(|end| shown(format!("cannot end with '{end}'"))));
        }
        ingress_backend(errors, &entry.get("backend"));
    }
}

fn ingress_backend(errors: &mut Errors, at: &At<'_, '_>) {
    let (resource, service) = (at.get("resource"), at.get("service"));
    let invalid = |why: &str| FieldError::invalid(at.path(), "".into(), why);
    match (resource.present(), service.present()) {
        (true, true) => errors.push(invalid("cannot set both resource and service backends")),
        (true, false) => reference(errors, &resource),
        (false, true) => {
            errors.required_text(&service.get("name"), |name| dns1123_label(name, false));
            let port = service.get("port");
            let (name, number) = (port.get("name"), port.get("number"));
            match (!name.is_empty(), !number.is_empty()) {
                (true, true) => errors.push(invalid("cannot set both port name & port number")),
                (true, false) => errors.text(&name, text::port_name(name.text())),
                (false, true) => port_number(errors, &number),
                (false, false) => errors.required(at, "port name or number is required"),
            }
        }
        (false, false) => errors.push(invalid("resource or service backend is required")),
    }
}

/// Group, kind and name of another object.
fn reference(errors: &mut Errors, at: &At<'_, '_>) {
    let group = at.get("apiGroup");
    if group.present() {
        errors.text(&group, dns1123_subdomain(group.text(), false));
    }
    for field in ["kind", "name"] {
        errors.required_text(&at.get(field), |text| path_segment(text, false));
    }
}

fn hosts(rules: &At<'_, '_>) -> String {
    const SHOWN: usize = 3;
    let (mut list, mut more) = (Vec::new(), false);
    for rule in rules.items() {
        more |= list.len() == SHOWN;
        let host = rule.get("host").text();
        if !more && !host.is_empty() {
            list.push(host);
        }
    }
    match (list.is_empty(), more) {
        (true, _) => "*".into(),
        (false, true) => format!("{} + {} more...", list.join(","), rules.len() - SHOWN),
        (false, false) => list.join(","),
    }
}

fn addresses(balancer: &At<'_, '_>) -> String {
    let points = balancer.get("ingress");
    let either = |point: At<'_, '_>| match point.value().and_then(|p| p.get("ip")).and_then(Value::as_str) {
        Some(ip) if !ip.is_empty() => ip.to_owned(),
        _ => point.get("hostname").text().to_owned(),
    };
    let all: BTreeSet<String> = points.items().map(either).filter(|text| !text.is_empty()).collect();
    let text = all.into_iter().collect::<Vec<_>>().join(",");
    match text.get(..ADDRESS_WIDTH - 3) {
        Some(start) if text.len() > ADDRESS_WIDTH => format!("{start}..."),
        _ => text,
    }
}

/// IngressClasses.
#[derive(Debug, Default)]
pub struct IngressClass;

/// Most bytes of the name of a controller.
const CONTROLLER_MAX: usize = 250;
/// Marks the class that Ingresses get which name none.
pub const DEFAULT_INGRESS_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

impl Strategy for IngressClass {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let (controller, parameters) = (spec.get("controller"), spec.get("parameters"));
        if controller.text().len() > CONTROLLER_MAX {
            errors.push(FieldError::too_long(controller.path(), CONTROLLER_MAX));
        }
        domain_path(&mut errors, &controller);
        if parameters.present() {
            reference(&mut errors, &parameters);
            let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
            match scope.text() {
                "Namespace" if !namespace.present() => {
                    errors.required(&namespace, "`parameters.scope` is set to 'Namespace'");
                }
                "Namespace" => errors.text(&namespace, dns1123_label(namespace.text(), false)),
                "Cluster" if namespace.present() => {
                    errors.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'");
                }
                "Cluster" => {}
                _ => errors.one_of(&scope, &["Cluster", "Namespace"]),
            }
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        errors.immutable(&new.get("spec").get("controller"), &old.get("spec").get("controller"));
        errors.done()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Controller", "string", "Which controller serves the class."),
            column("Parameters", "string", "An object that says more."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let spec = root.get("spec");
        let parameters = spec.get("parameters");
        let shown = if parameters.present() {
            let group = parameters.get("apiGroup");
            let dot = if group.present() { "." } else { "" };
            let (kind, name) = (parameters.get("kind").text(), parameters.get("name").text());
            format!("{kind}{dot}{}/{name}", group.text())
        } else {
            "<none>".into()
        };
        vec![
            super::columns::name_of_class(object, &[DEFAULT_INGRESS_CLASS]),
            spec.get("controller").text().into(),
            shown.into(),
            table::age(object, now),
        ]
    }
}

/// `example.com/path`.
fn domain_path(errors: &mut Errors, at: &At<'_, '_>) {
    let whole = at.text();
    if whole.is_empty() {
        return errors.required(at, "");
    }
    let parts = whole.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty());
    let Some((host, path)) = parts else {
        return errors.invalid(at, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    for message in dns1123_subdomain(host, false) {
        errors.push(FieldError::invalid(at.path(), host.into(), message));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(allowed) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(at.path(), path.into(), why));
    }
}

#[cfg(test)]
#[path = "networking_tests.rs"]
mod tests;
