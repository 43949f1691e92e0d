//! The subsets of Endpoints: addresses that answer on the same ports, in the one form in which they are written and read.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// No object lists more addresses.
pub(crate) const MAX: usize = 1000;

/// Addresses with the ports on which all of them answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Subset {
    pub(crate) ready: Vec<Value>,
    pub(crate) not_ready: Vec<Value>,
    /// None is possible for a headless Service only.
    pub(crate) ports: Vec<Value>,
}

/// What makes an address the same one: itself, and the pod behind it.
type Address = (Option<IpAddr>, String, String);

fn address(value: &Value) -> Address {
    let ip = value["ip"].as_str().unwrap_or_default();
    let uid = value["targetRef"]["uid"].as_str().unwrap_or_default();
    (ip.parse().ok(), ip.to_owned(), uid.to_owned())
}

impl Subset {
    fn read(tree: &Value) -> Self {
        let list = |key: &str| tree[key].as_array().cloned().unwrap_or_default();
        Subset { ready: list("addresses"), not_ready: list("notReadyAddresses"), ports: list("ports") }
    }

    /// As the object has it: what is empty is left out.
    pub(crate) fn value(self) -> Value {
        let mut out = json!({});
        let lists = [("addresses", self.ready), ("notReadyAddresses", self.not_ready), ("ports", self.ports)];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            out[key] = list.into();
        }
        out
    }
}

/// The subsets of an Endpoints object.
pub(crate) fn read(endpoints: &Value) -> Vec<Subset> {
    endpoints["subsets"].as_array().into_iter().flatten().map(Subset::read).collect()
}

/// Brings subsets together: ports that the same addresses answer on, with the same readiness, are one subset. Who is said
/// to be ready and not to be ready on a port is not.
pub(crate) fn repack(subsets: &[Subset]) -> Vec<Subset> {
    let mut known: BTreeMap<Address, &Value> = BTreeMap::new();
    // For each port the addresses that answer on it, and whether they are ready.
    let mut by_port: BTreeMap<Option<String>, BTreeMap<Address, bool>> = BTreeMap::new();
    for subset in subsets {
        let ports: Vec<Option<String>> = match subset.ports.as_slice() {
            [] => vec![None],
            ports => ports.iter().map(|port| Some(port.to_string())).collect(),
        };
        let all = subset.not_ready.iter().map(|a| (a, false)).chain(subset.ready.iter().map(|a| (a, true)));
        for (value, ready) in all {
            let key = address(value);
            known.entry(key.clone()).or_insert(value);
            for port in &ports {
                let state = by_port.entry(port.clone()).or_default().entry(key.clone()).or_insert(ready);
                *state &= ready;
            }
        }
    }
    let mut groups: BTreeMap<BTreeMap<Address, bool>, Vec<Value>> = BTreeMap::new();
    for (port, addresses) in by_port {
        let ports = groups.entry(addresses).or_default();
        ports.extend(port.and_then(|text| serde_json::from_str(&text).ok()));
    }
    let subset = |(addresses, ports): (BTreeMap<Address, bool>, Vec<Value>)| {
        let mut out = Subset { ports, ..Subset::default() };
        for (key, ready) in addresses {
            let list = if ready { &mut out.ready } else { &mut out.not_ready };
            list.extend(known.get(&key).map(|value| (*value).clone()));
        }
        out
    };
    groups.into_iter().map(subset).collect()
}

/// Cuts off what is more than an object holds, the same share of each subset and those that are not ready first. Answers
/// whether anything was cut.
pub(crate) fn truncate(subsets: &mut [Subset]) -> bool {
    let ready: usize = subsets.iter().map(|s| s.ready.len()).sum();
    let not_ready: usize = subsets.iter().map(|s| s.not_ready.len()).sum();
    if ready + not_ready <= MAX {
        return false;
    }
    let cut_ready = ready > MAX;
    let (room, total) = if cut_ready { (MAX, ready) } else { (MAX - ready, not_ready) };
    let mut left = room;
    for subset in subsets {
        if cut_ready {
            subset.not_ready.clear();
        }
        let list = if cut_ready { &mut subset.ready } else { &mut subset.not_ready };
        let share = (list.len() * room).div_ceil(total.max(1));
        list.truncate(share.min(left));
        left -= list.len();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ip: &str) -> Value {
        json!({"ip": ip})
    }

    fn port(number: u16) -> Value {
        json!({"port": number, "protocol": "TCP"})
    }

    fn subset(ready: &[&str], not_ready: &[&str], ports: &[u16]) -> Subset {
        Subset {
            ready: ready.iter().map(|ip| at(ip)).collect(),
            not_ready: not_ready.iter().map(|ip| at(ip)).collect(),
            ports: ports.iter().map(|n| port(*n)).collect(),
        }
    }

    #[test]
    fn ports_of_the_same_addresses_come_together() {
        let apart = [subset(&["10.0.0.2"], &[], &[80]), subset(&["10.0.0.2"], &[], &[81])];
        assert_eq!(repack(&apart), [subset(&["10.0.0.2"], &[], &[80, 81])]);
        let many = [subset(&["10.0.0.10"], &[], &[80]), subset(&["10.0.0.9"], &["10.0.0.8"], &[80])];
        assert_eq!(
            repack(&many),
            [subset(&["10.0.0.9", "10.0.0.10"], &["10.0.0.8"], &[80])],
            "in their order"
        );
    }

    #[test]
    fn ports_of_other_addresses_stay_apart() {
        let named = [
            subset(&["10.0.0.2"], &[], &[8080]),
            subset(&["10.0.0.3"], &[], &[9090]),
            subset(&["10.0.0.2", "10.0.0.3"], &[], &[81]),
        ];
        let mut packed = repack(&named);
        packed.sort_by_key(|s| s.ports[0]["port"].as_u64());
        assert_eq!(packed, [named[2].clone(), named[0].clone(), named[1].clone()]);
    }

    #[test]
    fn who_is_not_ready_on_a_port_is_not_ready_on_it() {
        let both = [subset(&["10.0.0.2"], &["10.0.0.2"], &[80])];
        assert_eq!(repack(&both), [subset(&[], &["10.0.0.2"], &[80])]);
        let without = [subset(&["10.0.0.2"], &[], &[])];
        assert_eq!(repack(&without), without);
        assert_eq!(repack(&[Subset::default()]), []);
    }

    fn many(from: usize, number: usize) -> Vec<Value> {
        (from..from + number).map(|n| at(&format!("10.{}.{}.1", n / 250, n % 250))).collect()
    }

    #[test]
    fn who_is_not_ready_is_cut_first_and_subsets_keep_their_share() {
        let mut fits = [Subset { ready: many(0, 600), not_ready: many(600, 400), ports: vec![] }];
        assert!(!truncate(&mut fits));
        let mut over = [
            Subset { ready: many(0, 500), not_ready: many(500, 300), ports: vec![] },
            Subset { ready: many(800, 100), not_ready: many(900, 500), ports: vec![] },
        ];
        assert!(truncate(&mut over));
        let sizes =
            |all: &[Subset]| all.iter().map(|s| (s.ready.len(), s.not_ready.len())).collect::<Vec<_>>();
        assert_eq!(sizes(&over), [(500, 150), (100, 250)]);
        let mut ready = [
            Subset { ready: many(0, 900), not_ready: many(900, 10), ports: vec![] },
            Subset { ready: many(1000, 600), not_ready: vec![], ports: vec![] },
        ];
        assert!(truncate(&mut ready));
        assert_eq!(sizes(&ready), [(600, 0), (400, 0)]);
    }
}
