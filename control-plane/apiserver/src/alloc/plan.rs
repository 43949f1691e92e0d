//! Which claims a Service needs, as a plain function of what it was, what it is to be and what is taken.

use super::{Cidr, Ranges};
use serde_json::{Value, json};
use skep_api::FieldError;
use skep_api::kinds::service::families;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Something one Service at a time can hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A cluster IP.
    Ip(IpAddr),
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

/// The addresses of a Service, `None` among them; none for one without.
fn addresses_of(service: &Value) -> Vec<&str> {
    if !needs_ip(service) {
        return Vec::new();
    }
    let list = service.pointer("/spec/clusterIPs").and_then(Value::as_array);
    let ips: Vec<&str> = list.into_iter().flatten().filter_map(Value::as_str).collect();
    // Written before there was a list.
    if ips.is_empty() {
        Some(text(service, "clusterIP")).filter(|ip| !ip.is_empty()).into_iter().collect()
    } else {
        ips
    }
}

/// What a stored Service holds.
pub(super) fn held(service: &Value) -> Vec<Claim> {
    let mut all = BTreeSet::new();
    all.extend(addresses_of(service).into_iter().filter_map(|ip| ip.parse().ok().map(Claim::Ip)));
    let spec = service.get("spec").unwrap_or(&Value::Null);
    all.extend(ports(service).iter().map(|p| number(p, "nodePort")).filter(|p| *p > 0).map(Claim::Port));
    all.extend(Some(number(spec, "healthCheckNodePort")).filter(|p| *p > 0).map(Claim::Port));
    all.into_iter().collect()
}

/// Fills in the families, addresses and ports of a Service that its kind has prepared, and says what must be claimed for it and
/// what it gives back. `seed` chooses where the search for something free begins.
pub fn plan(
    new: &mut Value,
    old: Option<&Value>,
    ranges: &Ranges,
    node_ports: &PortRange,
    seed: u64,
    taken: impl Fn(&Claim) -> bool,
) -> Result<Plan, Vec<FieldError>> {
    if !new.get("spec").is_some_and(Value::is_object) {
        return Ok(Plan { claim: Vec::new(), release: old.map(held).unwrap_or_default() });
    }
    let had: BTreeSet<Claim> = old.map(held).unwrap_or_default().into_iter().collect();
    let mut search = Search { had: &had, now: BTreeSet::new(), taken: &taken, seed };
    let mut errors = Vec::new();
    addresses(new, old, ranges, &mut search, &mut errors);
    node_port_numbers(new, node_ports, &mut search, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Plan {
        claim: search.now.difference(&had).cloned().collect(),
        release: had.difference(&search.now).cloned().collect(),
    })
}

fn port_list(service: &mut Value) -> &mut [Value] {
    service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
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
    fn any(&self, count: u64, nth: impl Fn(u64) -> Claim) -> Option<Claim> {
        let start = if count == 0 { return None } else { self.seed % count };
        // Together they may be more than a number of 64 bits holds.
        (0..count)
            .map(|i| nth(if i < count - start { start + i } else { i - (count - start) }))
            .find(|c| !self.now.contains(c) && !(self.taken)(c))
    }
}

/// Of the addresses the first ones are kept for those who ask for one by number, and given out last (KEP-3070).
fn low_band(size: u64) -> u64 {
    (size / 16).clamp(16, 256).min(size)
}

fn addresses(
    new: &mut Value,
    old: Option<&Value>,
    ranges: &Ranges,
    search: &mut Search<'_>,
    errors: &mut Vec<FieldError>,
) {
    if !needs_ip(new) {
        return;
    }
    let cluster: Vec<&str> = ranges.iter().map(|range| range.family()).collect();
    let wrong = families(new, old, &cluster);
    if !wrong.is_empty() {
        errors.extend(wrong);
        return;
    }
    let was: Vec<String> = old.map(addresses_of).unwrap_or_default().into_iter().map(str::to_owned).collect();
    let mut ips: Vec<String> = addresses_of(new).into_iter().map(str::to_owned).collect();
    // Who has no address gets none, and what an update makes of that is for validation to say.
    if ips.first().is_some_and(|ip| ip == "None") || was.first().is_some_and(|ip| ip == "None") {
        return;
    }
    let list = new.pointer("/spec/ipFamilies").and_then(Value::as_array);
    let families: Vec<String> =
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    for (i, family) in families.iter().enumerate() {
        if ips.len() <= i {
            ips.push(String::new());
        }
        // One that was given stays, or validation says that it must.
        if was.get(i).is_some_and(|was| *was == ips[i]) {
            search.now.extend(ips[i].parse().ok().map(Claim::Ip));
            continue;
        }
        if was.get(i).is_some_and(|was| !was.is_empty()) && !ips[i].is_empty() {
            continue;
        }
        let given = match ranges.of(family) {
            Some(range) => one(&ips, i, range, search),
            None => Err(FieldError::invalid(
                format!("spec.ipFamilies[{i}]").as_str(),
                family.as_str().into(),
                "not configured on this cluster",
            )),
        };
        match given {
            Ok(ip) => {
                search.now.insert(Claim::Ip(ip));
                if ips[i].is_empty() {
                    ips[i] = ip.to_string();
                }
            }
            Err(error) => {
                errors.push(error);
                return;
            }
        }
    }
    let spec = &mut new["spec"];
    if let Some(first) = ips.first() {
        spec["clusterIP"] = first.as_str().into();
    }
    spec["clusterIPs"] = json!(ips);
}

/// The address that stands at `i`, where it is free; any of the range, where none is asked for.
fn one(ips: &[String], i: usize, range: Cidr, search: &Search<'_>) -> Result<IpAddr, FieldError> {
    let refuse = |why: String| FieldError::invalid("spec.clusterIPs", json!(ips), why);
    let asked = ips[i].as_str();
    if asked.is_empty() {
        let low = low_band(range.size());
        let high = search.any(range.size() - low, |n| Claim::Ip(range.nth(low + n)));
        return match high.or_else(|| search.any(low, |n| Claim::Ip(range.nth(n)))) {
            Some(Claim::Ip(ip)) => Ok(ip),
            _ => Err(refuse("failed to allocate a serviceIP: range is full".into())),
        };
    }
    let why = match asked.parse::<IpAddr>() {
        Ok(ip) if !range.contains(ip) => {
            format!("the provided IP ({asked}) is not in the valid range. The range of valid IPs is {range}")
        }
        Ok(ip) if !search.free(&Claim::Ip(ip)) => "provided IP is already allocated".into(),
        Ok(ip) => return Ok(ip),
        Err(_) => "it is no IP address".into(),
    };
    Err(refuse(format!("failed to allocate IP {asked}: {why}")))
}

fn node_port_numbers(
    new: &mut Value,
    range: &PortRange,
    search: &mut Search<'_>,
    errors: &mut Vec<FieldError>,
) {
    let needed = needs_ports(new);
    let (low, high) = (*range.0.start(), *range.0.end());
    let count = u64::from(high - low) + 1;
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
