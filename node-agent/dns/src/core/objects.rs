//! The little that names need of Services and EndpointSlices.
//!
//! The structs that are decoded hold only the fields that are read here; what is kept is smaller still.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The label by which a slice names its Service (discovery/v1 `LabelServiceName`).
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP, which an absent value means.
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP.
    #[serde(rename = "SCTP")]
    Sctp,
}

impl Protocol {
    fn from_api(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// The label of a query without its underscore, in lower case.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of a Service or of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Name in lower case; empty for the only port.
    pub name: Box<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Number; a slice may leave it out.
    pub number: Option<u16>,
}

/// What a name of a Service leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Service {
    /// To its virtual addresses.
    Cluster {
        /// The addresses, the primary one first.
        addresses: Box<[IpAddr]>,
        /// Its ports.
        ports: Box<[Port]>,
        /// Whether endpoints count that are not ready (`publishNotReadyAddresses`).
        unready: bool,
    },
    /// To its endpoints.
    Headless {
        /// Whether endpoints count that are not ready.
        unready: bool,
    },
    /// To another name.
    External(Box<str>),
}

impl Service {
    /// Whether endpoints count that are not ready.
    pub fn unready(&self) -> bool {
        match self {
            Self::Cluster { unready, .. } | Self::Headless { unready } => *unready,
            Self::External(_) => false,
        }
    }
}

/// An endpoint's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// Its name below the Service, in lower case: its own hostname, or one made of the address.
    pub hostname: Box<str>,
    /// Whether it is ready.
    pub ready: bool,
}

/// What an EndpointSlice says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Name of the Service it belongs to.
    pub service: Box<str>,
    /// Ports of every endpoint in it.
    pub ports: Box<[Port]>,
    /// The endpoints.
    pub endpoints: Box<[Endpoint]>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawService {
    spec: RawSpec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSpec {
    r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    external_name: Option<String>,
    ports: Option<Vec<RawPort>>,
    publish_not_ready_addresses: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPort {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSlice {
    metadata: RawMeta,
    endpoints: Option<Vec<RawEndpoint>>,
    ports: Option<Vec<RawPort>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMeta {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawEndpoint {
    addresses: Option<Vec<String>>,
    hostname: Option<String>,
    conditions: Option<RawConditions>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawConditions {
    ready: Option<bool>,
}

fn ports(raw: Option<Vec<RawPort>>) -> Box<[Port]> {
    let known = raw.into_iter().flatten().filter_map(|port| {
        Some(Port {
            name: port.name.unwrap_or_default().to_ascii_lowercase().into(),
            protocol: Protocol::from_api(port.protocol.as_deref())?,
            number: port.port.and_then(|number| u16::try_from(number).ok()),
        })
    });
    known.collect()
}

/// The name of an endpoint that has none: its address with dashes, as CoreDNS makes it.
fn dashed(address: IpAddr) -> String {
    let name = address.to_string().replace(['.', ':'], "-");
    // A label does not end with a dash.
    if name.ends_with('-') { name + "0" } else { name }
}

/// What is kept of a Service in JSON; none where no name leads anywhere.
///
/// # Errors
/// A field that is read has a type that the API does not allow.
pub fn service(json: &[u8]) -> Result<Option<Service>, serde_json::Error> {
    let RawService { spec } = serde_json::from_slice(json)?;
    let unready = spec.publish_not_ready_addresses.unwrap_or_default();
    if spec.r#type.as_deref() == Some("ExternalName") {
        let target = spec.external_name.unwrap_or_default();
        let target = target.trim_end_matches('.');
        // An address is no name, and no alias can lead to it.
        let usable = !target.is_empty() && target.parse::<IpAddr>().is_err();
        return Ok(usable.then(|| Service::External(target.into())));
    }
    let listed = spec.cluster_ips.unwrap_or_default();
    let listed = if listed.is_empty() { spec.cluster_ip.into_iter().collect() } else { listed };
    if listed.first().is_some_and(|first| first == "None") {
        return Ok(Some(Service::Headless { unready }));
    }
    let addresses: Box<[IpAddr]> = listed.iter().filter_map(|ip| ip.parse().ok()).collect();
    let ports = ports(spec.ports);
    Ok((!addresses.is_empty()).then_some(Service::Cluster { addresses, ports, unready }))
}

/// What is kept of an EndpointSlice in JSON; none where it belongs to no Service.
///
/// # Errors
/// A field that is read has a type that the API does not allow.
pub fn slice(json: &[u8]) -> Result<Option<Slice>, serde_json::Error> {
    let raw: RawSlice = serde_json::from_slice(json)?;
    let Some(service) = raw.metadata.labels.and_then(|mut labels| labels.remove(SERVICE_NAME)) else {
        return Ok(None);
    };
    let mut endpoints = Vec::new();
    for endpoint in raw.endpoints.into_iter().flatten() {
        // Absent means that nobody knows, which is to be taken as ready.
        let ready = endpoint.conditions.and_then(|c| c.ready).unwrap_or(true);
        let own = endpoint.hostname.filter(|name| !name.is_empty());
        // Names in place of addresses (address type FQDN) have no record.
        for address in endpoint.addresses.into_iter().flatten().filter_map(|a| a.parse().ok()) {
            let hostname = own.as_ref().map_or_else(|| dashed(address), |name| name.to_ascii_lowercase());
            endpoints.push(Endpoint { address, hostname: hostname.into(), ready });
        }
    }
    Ok(Some(Slice { service: service.into(), ports: ports(raw.ports), endpoints: endpoints.into() }))
}
