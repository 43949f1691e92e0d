//! What whoever writes an object is warned of, as far as several kinds share it (`k8s.io/apimachinery/pkg/util/validation`,
//! `pkg/api/service`).

use crate::quantity::Quantity;
use crate::validation::At;
use serde_json::Value;
use std::net::{IpAddr, Ipv6Addr};

/// An address that is written in a way that others may read differently.
pub(super) fn address(at: &At<'_, '_>) -> Vec<String> {
    let (path, text) = (at.path(), at.text());
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if mapped(ip).is_some() => {
            let plain = mapped(ip).unwrap_or(IpAddr::V6(ip));
            vec![format!("{path}: non-standard IP address {text:?} is invalid: use \"{plain}\"")]
        }
        Ok(IpAddr::V6(ip)) if ip.to_string() != text => {
            vec![format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{ip}\")")]
        }
        Ok(_) => Vec::new(),
        // Zeros in front of a number, which old versions took for decimal.
        Err(_) => match without_zeros(text) {
            Some(plain) => {
                vec![format!("{path}: non-standard IP address {text:?} is invalid: use \"{plain}\"")]
            }
            None => Vec::new(),
        },
    }
}

fn mapped(ip: Ipv6Addr) -> Option<IpAddr> {
    ip.to_ipv4_mapped().map(IpAddr::V4)
}

fn without_zeros(text: &str) -> Option<IpAddr> {
    let parts: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
    let parts: [u8; 4] = parts?.try_into().ok()?;
    Some(IpAddr::from(parts))
}

/// An amount of bytes that is no whole number.
pub(super) fn fraction(at: &At<'_, '_>) -> Vec<String> {
    let Some(text) = at.value().and_then(Value::as_str) else { return Vec::new() };
    let whole = |amount: Quantity| amount.milli_value() % 1000 == 0;
    if Quantity::parse(text).is_ok_and(whole) {
        return Vec::new();
    }
    vec![format!("{}: fractional byte value {text:?} is invalid, must be an integer", at.path())]
}

/// What the PEM blocks of a text are (`CERTIFICATE`), in their order.
fn pem_blocks(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let begun = text.split("-----BEGIN ").skip(1);
    let ended = begun.filter_map(|block| {
        let (what, rest) = block.split_once("-----")?;
        rest.contains(&format!("-----END {what}-----")).then(|| what.to_owned())
    });
    ended.collect()
}

/// A certificate and its key, in PEM, that TLS cannot use: as far as the blocks show it (`tls.X509KeyPair`). What is in the
/// blocks is not read.
pub(super) fn key_pair(certificate: &[u8], key: &[u8]) -> Vec<String> {
    let certificates = pem_blocks(certificate);
    let private = |what: &String| what == "PRIVATE KEY" || what.ends_with(" PRIVATE KEY");
    if !certificates.iter().any(|what| what == "CERTIFICATE") {
        return vec![match &certificates[..] {
            [] => "tls: failed to find any PEM data in certificate input".into(),
            [only] if private(only) => {
                "tls: failed to find certificate PEM data in certificate input, but did find a \
                                        private key; PEM inputs may have been switched"
                    .into()
            }
            others => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
                 following types: [{}]",
                others.join(" ")
            ),
        }];
    }
    let keys = pem_blocks(key);
    if keys.iter().any(private) {
        return Vec::new();
    }
    vec![match &keys[..] {
        [] => "tls: failed to find any PEM data in key input".into(),
        [only] if only == "CERTIFICATE" => {
            "tls: found a certificate rather than a key in the PEM for the private key".into()
        }
        others => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of \
             the following types: [{}]",
            others.join(" ")
        ),
    }]
}

/// Services.
pub(super) fn service(object: &Value) -> Vec<String> {
    let root = At::root(object);
    let spec = root.get("spec");
    let text = |field: &'static str| spec.get(field).text().to_owned();
    let mut told = Vec::new();
    let old_hints = "service.kubernetes.io/topology-aware-hints";
    if root.get("metadata").get("annotations").key(old_hints).present() {
        let new = "service.kubernetes.io/topology-mode";
        told.push(format!("annotation {old_hints} is deprecated, please use {new} instead"));
    }
    let external_name = text("type") == "ExternalName";
    let headless = text("type") == "ClusterIP" && text("clusterIP") == "None";
    if !matches!(text("clusterIP").as_str(), "" | "None") {
        told.extend(spec.get("clusterIPs").items().flat_map(|at| address(&at)));
    }
    let external = spec.get("externalIPs");
    if headless {
        let set = [
            ("loadBalancerIP", !text("loadBalancerIP").is_empty()),
            ("externalIPs", !external.is_empty()),
            ("SessionAffinity", text("sessionAffinity") != "None"),
        ];
        let set = set.iter().filter(|(_, set)| *set);
        told.extend(set.map(|(field, _)| format!("spec.{field} is ignored for headless services")));
    }
    told.extend(external.items().flat_map(|at| address(&at)));
    if !external.is_empty() && !headless && !external_name {
        told.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    if !text("loadBalancerIP").is_empty() {
        told.extend(address(&spec.get("loadBalancerIP")));
    }
    if external_name && !external.is_empty() {
        told.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !external_name && !text("externalName").is_empty() {
        told.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if text("trafficDistribution") == "PreferClose" {
        told.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
    told
}

/// Endpoints, those of the controller aside: it writes addresses as they should be.
pub(super) fn endpoints(object: &Value) -> Vec<String> {
    let root = At::root(object);
    if managed_by(&root, "endpoints.kubernetes.io/managed-by", &["endpoint-controller"]) {
        return Vec::new();
    }
    let subsets = root.get("subsets");
    let mut told = Vec::new();
    for subset in subsets.items() {
        for list in ["addresses", "notReadyAddresses"] {
            told.extend(subset.get(list).items().flat_map(|item| address(&item.get("ip"))));
        }
    }
    told
}

/// EndpointSlices, those of the controllers aside.
pub(super) fn endpoint_slice(object: &Value, new: bool) -> Vec<String> {
    let root = At::root(object);
    let mut told = Vec::new();
    if new && root.get("addressType").text() == "FQDN" {
        told.push("spec.addressType: FQDN endpoints are deprecated".into());
    }
    let controllers = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
    if !managed_by(&root, "endpointslice.kubernetes.io/managed-by", &controllers) {
        let endpoints = root.get("endpoints");
        for endpoint in endpoints.items() {
            told.extend(endpoint.get("addresses").items().flat_map(|at| address(&at)));
        }
    }
    told
}

fn managed_by(root: &At<'_, '_>, label: &'static str, controllers: &[&str]) -> bool {
    controllers.contains(&root.get("metadata").get("labels").key(label).text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_that_others_read_differently() {
        let rows = [
            ("10.0.0.1", ""),
            ("010.0.0.1", "x: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\""),
            (
                "::ffff:10.0.0.1",
                "x: non-standard IP address \"::ffff:10.0.0.1\" is invalid: use \"10.0.0.1\"",
            ),
            (
                "2001:DB8::1",
                "x: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
            ),
            ("2001:db8::1", ""),
            ("name", ""),
        ];
        for (text, expected) in rows {
            let object = json!({"x": text});
            assert_eq!(address(&At::root(&object).get("x")).join("; "), expected, "{text}");
        }
    }

    #[test]
    fn what_tls_cannot_use() {
        let pem = |what: &str| format!("-----BEGIN {what}-----\nAAAA\n-----END {what}-----\n");
        let (certificate, key) = (pem("CERTIFICATE"), pem("EC PRIVATE KEY"));
        let rows = [
            (&*certificate, &*key, ""),
            (&certificate, "", "tls: failed to find any PEM data in key input"),
            ("-----BEGIN CERTIFICATE-----\n", "", "tls: failed to find any PEM data in certificate input"),
            (
                &key,
                &key,
                "tls: failed to find certificate PEM data in certificate input, but did find a private key",
            ),
            (
                &certificate,
                &certificate,
                "tls: found a certificate rather than a key in the PEM for the private key",
            ),
        ];
        for (certificate, key, expected) in rows {
            let told = key_pair(certificate.as_bytes(), key.as_bytes()).join("; ");
            assert!(told.starts_with(expected) && told.is_empty() == expected.is_empty(), "{told}");
        }
    }

    #[test]
    fn what_a_service_ignores() {
        let headless = json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "externalIPs": ["192.0.2.1"],
            "sessionAffinity": "None"}});
        assert_eq!(service(&headless), ["spec.externalIPs is ignored for headless services"]);
        let close =
            json!({"spec": {"type": "ClusterIP", "trafficDistribution": "PreferClose", "externalName": "x"}});
        assert_eq!(service(&close).len(), 2);
    }
}
