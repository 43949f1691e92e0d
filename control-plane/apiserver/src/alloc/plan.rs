//! Which claims a Service needs, as a plain function of what it was, what it is to be and what is taken.

use super::Cidr;
use serde_json::{Value, json};
use skep_api::FieldError;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// Something one Service at a time can hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A cluster IP.
    Ip(Ipv4Addr),
    /// A node port.
    Port(u16),
}

/// What a write claims and gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be claimed; free when it was looked at.
    pub claim: Vec<Claim>,
    /// To be given back.
    pub release: Vec<Claim>,
}

/// The node ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange(pub RangeInclusive<u16>);

impl Default for PortRange {
    fn default() -> Self {
        PortRange(30_000..=32_767)
    }
}

fn text<'a>(service: &'a Value, key: &str) -> &'a str {
    service.pointer(&format!("/spec/{key}")).and_then(Value::as_str).unwrap_or_default()
}

fn ports(service: &Value) -> &[Value] {
    service.pointer("/spec/ports").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(tree: &Value, key: &str) -> u16 {
    tree.get(key).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok()).unwrap_or(0)
}

fn kind(service: &Value) -> &str {
    match text(service, "type") {
        "" => "ClusterIP",
        other => other,
    }
}

fn needs_ip(service: &Value) -> bool {
    kind(service) != "ExternalName"
}

fn needs_ports(service: &Value) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => {
            service.pointer("/spec/allocateLoadBalancerNodePorts").and_then(Value::as_bool).unwrap_or(true)
        }
        _ => false,
    }
}

fn needs_health_port(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && text(service, "externalTrafficPolicy") == "Local"
}

/// What a stored Service holds.
pub(super) fn held(service: &Value) -> Vec<Claim> {
    let mut all = BTreeSet::new();
    if needs_ip(service) {
        all.extend(text(service, "clusterIP").parse().ok().map(Claim::Ip));
    }
    let spec = service.get("spec").unwrap_or(&Value::Null);
    all.extend(ports(service).iter().map(|p| number(p, "nodePort")).filter(|p| *p > 0).map(Claim::Port));
    all.extend(Some(number(spec, "healthCheckNodePort")).filter(|p| *p > 0).map(Claim::Port));
    all.into_iter().collect()
}

/// Fills in a Service's addresses and ports, and says what must be claimed for it and what it gives back. `seed` chooses where
/// the search for something free begins.
pub fn plan(
    new: &mut Value,
    old: Option<&Value>,
    range: &Cidr,
    node_ports: &PortRange,
    seed: u64,
    taken: impl Fn(&Claim) -> bool,
) -> Result<Plan, Vec<FieldError>> {
    if !new.get("spec").is_some_and(Value::is_object) {
        return Ok(Plan { claim: Vec::new(), release: old.map(held).unwrap_or_default() });
    }
    normalize(new, old);
    let had: BTreeSet<Claim> = old.map(held).unwrap_or_default().into_iter().collect();
    let mut search = Search { had: &had, now: BTreeSet::new(), taken: &taken, seed };
    let mut errors = Vec::new();
    addresses(new, old, range, &mut search, &mut errors);
    node_port_numbers(new, node_ports, &mut search, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Plan {
        claim: search.now.difference(&had).cloned().collect(),
        release: had.difference(&search.now).cloned().collect(),
    })
}

/// Carries over what an update leaves out, drops what the new type does not have, and makes `clusterIP` and `clusterIPs` agree.
fn normalize(new: &mut Value, old: Option<&Value>) {
    if let Some(old) = old {
        if needs_ip(old) && needs_ip(new) && text(new, "clusterIP").is_empty() {
            let none = new["spec"].get("clusterIPs").is_none_or(|l| l.as_array().is_none_or(Vec::is_empty));
            if none || new["spec"]["clusterIPs"] == old["spec"]["clusterIPs"] {
                for key in ["clusterIP", "clusterIPs"] {
                    new["spec"][key] = old["spec"][key].clone();
                }
            }
        }
        if needs_ports(old) && needs_ports(new) {
            carry_node_ports(new, old);
        }
        if needs_health_port(old)
            && needs_health_port(new)
            && number(&new["spec"], "healthCheckNodePort") == 0
        {
            new["spec"]["healthCheckNodePort"] = old["spec"]["healthCheckNodePort"].clone();
        }
        let same = |new: &Value, key: &str| new["spec"].get(key) == old["spec"].get(key);
        if needs_ports(old) && !needs_ports(new) && kind(new) != "LoadBalancer" {
            let was: BTreeSet<u16> = ports(old).iter().map(|p| number(p, "nodePort")).collect();
            for port in port_list(new).iter_mut().filter(|p| was.contains(&number(p, "nodePort"))) {
                remove(port, "nodePort");
            }
        }
        if needs_health_port(old) && !needs_health_port(new) && same(new, "healthCheckNodePort") {
            remove(&mut new["spec"], "healthCheckNodePort");
        }
        if needs_ip(old) && !needs_ip(new) && same(new, "clusterIP") {
            for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                remove(&mut new["spec"], key);
            }
        }
        // Only one of the two was changed: it counts.
        if text(new, "clusterIP") != text(old, "clusterIP") && same(new, "clusterIPs") {
            remove(&mut new["spec"], "clusterIPs");
        }
    }
    let ip = text(new, "clusterIP").to_owned();
    let first = new.pointer("/spec/clusterIPs/0").and_then(Value::as_str).unwrap_or_default().to_owned();
    match (ip.is_empty(), first.is_empty()) {
        (false, true) => new["spec"]["clusterIPs"] = json!([ip]),
        (true, false) => new["spec"]["clusterIP"] = first.into(),
        _ => {}
    }
}

fn carry_node_ports(new: &mut Value, old: &Value) {
    let numbers =
        |service: &Value| -> BTreeSet<u16> { ports(service).iter().map(|p| number(p, "nodePort")).collect() };
    let used: BTreeSet<u16> = numbers(new).intersection(&numbers(old)).copied().collect();
    let name = |port: &Value| port.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    for port in port_list(new).iter_mut().filter(|p| number(p, "nodePort") == 0) {
        let before = ports(old).iter().find(|p| name(p) == name(port)).map_or(0, |p| number(p, "nodePort"));
        if before > 0 && !used.contains(&before) {
            port["nodePort"] = before.into();
        }
    }
}

fn port_list(service: &mut Value) -> &mut [Value] {
    service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

fn remove(tree: &mut Value, key: &str) {
    if let Some(map) = tree.as_object_mut() {
        map.remove(key);
    }
}

struct Search<'a> {
    had: &'a BTreeSet<Claim>,
    /// What the Service will hold.
    now: BTreeSet<Claim>,
    taken: &'a dyn Fn(&Claim) -> bool,
    seed: u64,
}

impl Search<'_> {
    fn free(&self, claim: &Claim) -> bool {
        self.had.contains(claim) || !(self.taken)(claim)
    }

    /// The first of `count` candidates, beginning somewhere, that is free and not the Service's own yet.
    fn any(&self, count: u32, nth: impl Fn(u32) -> Claim) -> Option<Claim> {
        let start = if count == 0 { return None } else { (self.seed % u64::from(count)) as u32 };
        (0..count).map(|i| nth((start + i) % count)).find(|c| !self.now.contains(c) && !(self.taken)(c))
    }
}

/// Of the addresses the first ones are kept for those who ask for one by number, and given out last (KEP-3070).
fn low_band(size: u32) -> u32 {
    (size / 16).clamp(16, 256).min(size)
}

fn addresses(
    new: &mut Value,
    old: Option<&Value>,
    range: &Cidr,
    search: &mut Search<'_>,
    errors: &mut Vec<FieldError>,
) {
    if !needs_ip(new) {
        return;
    }
    // Without address and selector the families say nothing of this cluster; such a Service may name both.
    let selects = new.pointer("/spec/selector").and_then(Value::as_object).is_some_and(|s| !s.is_empty());
    if selects || text(new, "clusterIP") != "None" {
        families(new, errors);
    }
    let asked = text(new, "clusterIP").to_owned();
    let ip = match asked.as_str() {
        "None" => "None".to_owned(),
        "" => {
            let low = low_band(range.size());
            let high = search.any(range.size() - low, |n| Claim::Ip(range.nth(low + n)));
            match high.or_else(|| search.any(low, |n| Claim::Ip(range.nth(n)))) {
                Some(Claim::Ip(ip)) => ip.to_string(),
                _ => {
                    errors.push(FieldError::invalid(
                        "spec.clusterIPs",
                        json!([]),
                        "failed to allocate a serviceIP: range is full",
                    ));
                    return;
                }
            }
        }
        _ => {
            let was = old.filter(|o| needs_ip(o)).map(|o| text(o, "clusterIP")).filter(|ip| !ip.is_empty());
            let refuse = |why: String| {
                FieldError::invalid(
                    "spec.clusterIPs",
                    json!([asked]),
                    format!("failed to allocate IP {asked}: {why}"),
                )
            };
            if was.is_some_and(|was| was != asked) {
                errors.push(FieldError::invalid(
                    "spec.clusterIPs[0]",
                    asked.into(),
                    "may not change once set",
                ));
                return;
            }
            match asked.parse::<Ipv4Addr>() {
                Ok(ip) if !range.contains(ip) => {
                    errors.push(refuse(format!("the provided IP ({asked}) is not in the valid range. The range of valid IPs is {range}")));
                    return;
                }
                Ok(ip) if !search.free(&Claim::Ip(ip)) => {
                    errors.push(refuse("provided IP is already allocated".into()));
                    return;
                }
                Ok(ip) => ip.to_string(),
                Err(_) => {
                    let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                    errors.push(FieldError::invalid("spec.clusterIPs[0]", asked.into(), detail));
                    return;
                }
            }
        }
    };
    search.now.extend(ip.parse().ok().map(Claim::Ip));
    let spec = &mut new["spec"];
    spec["clusterIP"] = ip.as_str().into();
    spec["clusterIPs"] = json!([ip]);
    if spec.get("ipFamilies").is_none_or(|f| f.as_array().is_none_or(Vec::is_empty)) {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    if spec.get("ipFamilyPolicy").is_none_or(|p| p.as_str().is_none_or(str::is_empty)) {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
}

/// Refuses families that the cluster does not have.
fn families(new: &Value, errors: &mut Vec<FieldError>) {
    if text(new, "ipFamilyPolicy") == "RequireDualStack" {
        errors.push(FieldError::invalid(
            "spec.ipFamilyPolicy",
            "RequireDualStack".into(),
            "this cluster is not configured for dual-stack services",
        ));
    }
    if new
        .pointer("/spec/ipFamilies")
        .and_then(Value::as_array)
        .is_some_and(|l| l.iter().any(|f| f == "IPv6"))
    {
        errors.push(FieldError::invalid(
            "spec.ipFamilies[0]",
            "IPv6".into(),
            "not configured on this cluster",
        ));
    }
}

fn node_port_numbers(
    new: &mut Value,
    range: &PortRange,
    search: &mut Search<'_>,
    errors: &mut Vec<FieldError>,
) {
    let needed = needs_ports(new);
    let (low, high) = (*range.0.start(), *range.0.end());
    let count = u32::from(high - low) + 1;
    let outside =
        format!("provided port is not in the valid range. The range of valid ports is {low}-{high}");
    // Ports of one number and several protocols share a node port.
    let mut by_port: Vec<(u16, u16)> = Vec::new();
    for i in 0..ports(new).len() {
        let port = &ports(new)[i];
        let (port, mut node_port) = (number(port, "port"), number(port, "nodePort"));
        if node_port == 0 {
            if !needed {
                continue;
            }
            let requested =
                ports(new).iter().filter(|p| number(p, "port") == port).map(|p| number(p, "nodePort"));
            let shared = by_port.iter().find(|(p, _)| *p == port).map(|(_, n)| *n);
            node_port = shared.or_else(|| requested.into_iter().find(|n| *n > 0)).unwrap_or(0);
        }
        let path = format!("spec.ports[{i}].nodePort");
        let claim = if node_port > 0 {
            let claim = Claim::Port(node_port);
            if !range.0.contains(&node_port) {
                errors.push(FieldError::invalid(path.as_str(), node_port.into(), outside.clone()));
                continue;
            }
            if !search.free(&claim) {
                errors.push(FieldError::invalid(
                    path.as_str(),
                    node_port.into(),
                    "provided port is already allocated",
                ));
                continue;
            }
            claim
        } else {
            match search.any(count, |n| Claim::Port(low + n as u16)) {
                Some(claim) => claim,
                None => {
                    errors.push(FieldError::invalid(
                        path.as_str(),
                        0.into(),
                        "failed to allocate a nodePort: range is full",
                    ));
                    continue;
                }
            }
        };
        if let Claim::Port(number) = claim {
            by_port.push((port, number));
            port_list(new)[i]["nodePort"] = number.into();
        }
        search.now.insert(claim);
    }
    if !needs_health_port(new) {
        return;
    }
    let asked = number(&new["spec"], "healthCheckNodePort");
    let path = "spec.healthCheckNodePort";
    let claim = match asked {
        0 => search.any(count, |n| Claim::Port(low + n as u16)),
        _ => Some(Claim::Port(asked))
            .filter(|c| range.0.contains(&asked) && search.free(c) && !search.now.contains(c)),
    };
    match claim {
        Some(Claim::Port(number)) => {
            new["spec"]["healthCheckNodePort"] = number.into();
            search.now.insert(Claim::Port(number));
        }
        _ if range.0.contains(&asked) => {
            errors.push(FieldError::invalid(path, asked.into(), "provided port is already allocated"));
        }
        _ => errors.push(FieldError::invalid(path, asked.into(), outside)),
    }
}
