//! Endpoints and EndpointSlices.

use super::columns::{age, name, some_of};
use super::pod::PROTOCOLS;
use super::warnings;
use crate::field::FieldError;
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::metadata::desired_state_changed;
use crate::validation::{At, Errors, labels, port_number, same, text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Endpoints of the old form.
#[derive(Debug, Default)]
pub struct Endpoints;

impl Strategy for Endpoints {
    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::endpoints(new)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for subset in At::root(object).get("subsets").items() {
            let (ready, other) = (subset.get("addresses"), subset.get("notReadyAddresses"));
            if ready.is_empty() && other.is_empty() {
                errors.required(&subset, "must specify `addresses` or `notReadyAddresses`");
            }
            for address in ready.items().chain(other.items()) {
                let ip = address.get("ip");
                errors.text(&ip, text::ip(ip.text()));
                reachable(&mut errors, &ip);
                errors.optional_text(&address.get("hostname"), |name| dns1123_label(name, false));
                let node = address.get("nodeName");
                if node.present() {
                    errors.text(&node, dns1123_subdomain(node.text(), false));
                }
            }
            let ports = subset.get("ports");
            for port in ports.items() {
                let (name, number) = (port.get("name"), port.get("port"));
                if ports.len() > 1 && name.text().is_empty() {
                    errors.required(&name, "");
                }
                errors.optional_text(&name, |name| dns1123_label(name, false));
                if number.present() {
                    port_number(&mut errors, &number);
                } else {
                    let why = "must be between 1 and 65535, inclusive";
                    errors.push(FieldError::invalid(number.path(), 0.into(), why));
                }
                errors.one_of(&port.get("protocol"), PROTOCOLS);
                let application = port.get("appProtocol");
                if application.present() {
                    errors.text(&application, text::qualified_name(application.text()));
                }
            }
        }
        errors.done()
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("Endpoints", "string", "Addresses and ports that are ready."), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let mut list = Vec::new();
        for subset in At::root(object).get("subsets").items() {
            let (addresses, ports) = (subset.get("addresses"), subset.get("ports"));
            let ips: Vec<String> = addresses.items().map(|a| a.get("ip").text().to_owned()).collect();
            if ports.is_empty() {
                list.extend(ips);
                continue;
            }
            for port in ports.items().map(|p| p.get("port").int().unwrap_or(0)) {
                list.extend(ips.iter().map(|ip| match ip.contains(':') {
                    true => format!("[{ip}]:{port}"),
                    false => format!("{ip}:{port}"),
                }));
            }
        }
        let shown = match At::root(object).get("subsets").is_empty() {
            true => "<none>".to_owned(),
            false if list.is_empty() => String::new(),
            false => some_of(&list),
        };
        vec![table::name(object), shown.into(), table::age(object, now)]
    }
}

/// An address that may stand behind a Service.
pub(crate) fn endpoint_ip(errors: &mut Errors, at: &At<'_, '_>) {
    let wrong = text::ip(at.text());
    if wrong.is_empty() {
        reachable(errors, at);
    } else {
        errors.text(at, wrong);
    }
}

/// An address that is not unspecified, loopback or link-local, in whatever form (`ValidateEndpointIP`).
fn reachable(errors: &mut Errors, at: &At<'_, '_>) {
    let Ok(ip) = at.text().parse::<IpAddr>() else {
        return errors.invalid(at, "must be a valid IP address");
    };
    let (local, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        errors.invalid(at, format!("may not be unspecified ({})", at.text()));
    }
    for (found, why) in [
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        if found {
            errors.invalid(at, why);
        }
    }
}

/// EndpointSlices.
#[derive(Debug, Default)]
pub struct EndpointSlice;

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_MAX: usize = 16;
const HINTS_MAX: usize = 8;

impl Strategy for EndpointSlice {
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        warnings::endpoint_slice(new, old.is_none())
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// Labels count too, because they say which Service the slice is of.
    fn generation_changes(&self, new: &Value, old: &Value) -> bool {
        let labels = "/metadata/labels";
        desired_state_changed(new, old) || !same(new.pointer(labels), old.pointer(labels))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let kind = root.get("addressType");
        errors.one_of(&kind, &["FQDN", "IPv4", "IPv6"]);
        slice_ports(&mut errors, &root.get("ports"));
        let endpoints = root.get("endpoints");
        if endpoints.len() > ENDPOINTS_MAX {
            errors.push(FieldError::too_many(endpoints.path(), endpoints.len(), ENDPOINTS_MAX));
            return errors.done();
        }
        for endpoint in endpoints.items() {
            slice_endpoint(&mut errors, &endpoint, kind.text());
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        errors.immutable(&At::root(new).get("addressType"), &At::root(old).get("addressType"));
        errors.done()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("AddressType", "string", "What the addresses are."),
            column("Ports", "string", "Ports of every endpoint."),
            column("Endpoints", "string", "Addresses of the endpoints."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let port = |port: At<'_, '_>| match (port.get("port").int(), port.get("name").value()) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.as_str().unwrap_or_default().to_owned(),
            (None, None) => "*".to_owned(),
        };
        let ports: Vec<String> = root.get("ports").items().map(port).collect();
        let mut addresses = Vec::new();
        for endpoint in root.get("endpoints").items() {
            addresses.extend(endpoint.get("addresses").texts().map(str::to_owned));
        }
        let shown = |list: &[String]| match some_of(list) {
            text if text.is_empty() => "<unset>".to_owned(),
            text => text,
        };
        vec![
            table::name(object),
            root.get("addressType").text().into(),
            shown(&ports).into(),
            shown(&addresses).into(),
            table::age(object, now),
        ]
    }
}

fn slice_ports(errors: &mut Errors, ports: &At<'_, '_>) {
    if ports.len() > PORTS_MAX {
        return errors.push(FieldError::too_many(ports.path(), ports.len(), PORTS_MAX));
    }
    let mut names = BTreeSet::new();
    for port in ports.items() {
        let name = port.get("name");
        errors.optional_text(&name, |name| dns1123_label(name, false));
        if !names.insert(name.text()) {
            errors.push(FieldError::duplicate(name.path(), name.text().into()));
        }
        errors.one_of(&port.get("protocol"), PROTOCOLS);
        let application = port.get("appProtocol");
        if application.present() {
            errors.text(&application, text::qualified_name(application.text()));
        }
    }
}

fn slice_endpoint(errors: &mut Errors, endpoint: &At<'_, '_>, kind: &str) {
    let addresses = endpoint.get("addresses");
    if addresses.is_empty() {
        errors.required(&addresses, "must contain at least 1 address");
    } else if addresses.len() > ADDRESSES_MAX {
        errors.push(FieldError::too_many(addresses.path(), addresses.len(), ADDRESSES_MAX));
    }
    for address in addresses.items() {
        match kind {
            "IPv4" | "IPv6" => {
                let is_ip = text::ip(address.text()).is_empty();
                if is_ip && address.text().contains(':') != (kind == "IPv6") {
                    let why = format!("must be an {kind} address");
                    errors.push(FieldError::invalid(addresses.path(), address.text().into(), why));
                }
                endpoint_ip(errors, &address);
            }
            "FQDN" => {
                let name = address.text().strip_suffix('.').unwrap_or(address.text());
                errors.required_text(&address, |_| match dns1123_subdomain(name, false) {
                    wrong if !wrong.is_empty() => wrong,
                    _ if !name.contains('.') => {
                        vec!["should be a domain with at least two segments separated by dots".into()]
                    }
                    _ => name.split('.').flat_map(|label| dns1123_label(label, false)).collect(),
                });
            }
            _ => {}
        }
    }
    let node = endpoint.get("nodeName");
    if node.present() {
        errors.text(&node, dns1123_subdomain(node.text(), false));
    }
    let topology = endpoint.get("deprecatedTopology");
    if topology.len() > TOPOLOGY_MAX {
        errors.push(FieldError::too_many(topology.path(), topology.len(), TOPOLOGY_MAX));
    }
    labels(errors, &topology);
    let host = endpoint.get("hostname");
    if host.present() {
        errors.text(&host, dns1123_label(host.text(), false));
    }
    let hints = endpoint.get("hints");
    for (field, rule) in [
        ("forZones", text::label_value as fn(&str) -> Vec<String>),
        ("forNodes", |name| dns1123_subdomain(name, false)),
    ] {
        let list = hints.get(field);
        if list.len() > HINTS_MAX {
            errors.push(FieldError::too_many(list.path(), list.len(), HINTS_MAX));
            continue;
        }
        let mut names = BTreeSet::new();
        for hint in list.items() {
            let name = hint.get("name");
            if !names.insert(name.text()) {
                errors.duplicate(&name);
            }
            errors.text(&name, rule(name.text()));
        }
    }
}

/// Whether two EndpointSlices say the same about ports and endpoints.
pub fn same_endpoints(a: &Value, b: &Value) -> bool {
    ["ports", "endpoints"].iter().all(|field| same(a.get(field), b.get(field)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{complete, now, shown};
    use serde_json::json;

    #[test]
    fn endpoints() {
        let subset =
            |address: Value, port: Value| json!({"subsets": [{"addresses": [address], "ports": [port]}]});
        let (address, port) = (json!({"ip": "10.0.0.1"}), json!({"port": 80, "protocol": "TCP"}));
        for (object, wrong) in [
            (subset(address.clone(), port.clone()), ""),
            (
                json!({"subsets": [{}]}),
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
            ),
            (
                subset(json!({"ip": "a"}), port.clone()),
                "subsets[0].addresses[0].ip: Invalid value: \"a\": must be a valid IP",
            ),
            (
                subset(json!({"ip": "127.0.0.1"}), port.clone()),
                "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback",
            ),
            (
                subset(json!({"ip": "169.254.1.1"}), port.clone()),
                "subsets[0].addresses[0].ip: Invalid value: \"169.254.1.1\": may not be in the link-local range",
            ),
            (
                subset(json!({"ip": "0.0.0.0"}), port.clone()),
                "subsets[0].addresses[0].ip: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
            ),
            (
                subset(address.clone(), json!({"port": 0, "protocol": "TCP"})),
                "subsets[0].ports[0].port: Invalid value: 0",
            ),
            (
                subset(address.clone(), json!({"port": 1, "protocol": "ICMP"})),
                "subsets[0].ports[0].protocol: Unsupported value",
            ),
            (
                subset(json!({"ip": "10.0.0.1", "nodeName": "A"}), port.clone()),
                "subsets[0].addresses[0].nodeName: Invalid",
            ),
        ] {
            let text = shown(&Endpoints.validate(&object));
            assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{wrong}: {text}");
        }
        let mut object = subset(address, json!({"port": 80}));
        (object["apiVersion"], object["kind"]) = ("v1".into(), "Endpoints".into());
        let object = complete(object);
        assert_eq!(object["subsets"][0]["ports"][0]["protocol"], "TCP");
    }

    #[test]
    fn endpoints_cells() {
        let four: Vec<Value> = (1..5).map(|i| json!({"ip": format!("10.0.0.{i}")})).collect();
        for (subsets, text) in [
            (json!([]), "<none>"),
            (
                json!([{"addresses": four, "ports": [{"port": 8080}]}]),
                "10.0.0.1:8080,10.0.0.2:8080,10.0.0.3:8080 + 1 more...",
            ),
            (json!([{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}]), "[fd00::1]:80"),
            (json!([{"addresses": [{"ip": "10.0.0.1"}]}]), "10.0.0.1"),
            (json!([{"notReadyAddresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]), ""),
        ] {
            assert_eq!(Endpoints.cells(&json!({"subsets": subsets}), now())[1], text);
        }
    }

    #[test]
    fn slices() {
        let slice = |kind: &str, address: &str| {
            json!({"addressType": kind, "endpoints": [{"addresses": [address]}],
                "ports": [{"name": "http", "protocol": "TCP", "port": 80}]})
        };
        for (object, wrong) in [
            (slice("IPv4", "10.0.0.1"), ""),
            (slice("IPv6", "fd00::1"), ""),
            (slice("FQDN", "a.example.com"), ""),
            (slice("", "10.0.0.1"), "addressType: Required value"),
            (
                slice("IPX", "10.0.0.1"),
                "addressType: Unsupported value: \"IPX\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
            ),
            (
                slice("IPv4", "fd00::1"),
                "endpoints[0].addresses: Invalid value: \"fd00::1\": must be an IPv4 address",
            ),
            (
                slice("IPv6", "10.0.0.1"),
                "endpoints[0].addresses: Invalid value: \"10.0.0.1\": must be an IPv6 address",
            ),
            (slice("IPv4", "127.0.0.1"), "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\""),
            (slice("FQDN", "a"), "endpoints[0].addresses[0]: Invalid value: \"a\": should be a domain"),
            (
                json!({"addressType": "IPv4", "endpoints": [{"addresses": []}]}),
                "endpoints[0].addresses: Required value",
            ),
            (
                json!({"addressType": "IPv4", "ports": [{"name": "a", "protocol": "TCP"}, {"name": "a", "protocol": "UDP"}]}),
                "ports[1].name: Duplicate value: \"a\"",
            ),
            (
                json!({"addressType": "IPv4", "endpoints": vec![json!({"addresses": ["10.0.0.1"]}); 1001]}),
                "endpoints: Too many: 1001: must have at most 1000 items",
            ),
        ] {
            let text = shown(&EndpointSlice.validate(&object));
            assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{wrong}: {text:.300}");
        }
        let text =
            shown(&EndpointSlice.validate_update(&slice("IPv6", "fd00::1"), &slice("IPv4", "10.0.0.1")));
        assert_eq!(text, "addressType: Invalid value: \"IPv6\": field is immutable");
        let object = complete(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "ports": [{"port": 80}],
        }));
        assert_eq!(object["ports"][0], json!({"port": 80, "name": "", "protocol": "TCP"}));
        let cells = EndpointSlice.cells(&slice("IPv4", "10.0.0.1"), now());
        assert_eq!(cells[1..4], [json!("IPv4"), json!("80"), json!("10.0.0.1")]);
        assert_eq!(
            EndpointSlice.cells(&json!({"addressType": "IPv4"}), now())[2..4],
            [json!("<unset>"), json!("<unset>")]
        );
    }
}
