//! What a name below the cluster's domain asks for.

use std::net::IpAddr;

/// The parts of a question, in lower case; source: the specification, and `parseRequest` of CoreDNS' plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// The domain itself, `svc` or `pod`: there, without records of its own.
    Apex,
    /// `dns-version`.
    Version,
    /// `ns.dns`: the server of the zone.
    NameServer,
    /// `NS.svc` or `NS.pod`.
    Namespace(&'a str),
    /// `SERVICE.NS.svc`, and what stands before it.
    Service {
        /// The namespace.
        namespace: &'a str,
        /// The Service.
        service: &'a str,
        /// What narrows the answer.
        part: Part<'a>,
    },
    /// `A-B-C-D.NS.pod`.
    Pod {
        /// The namespace.
        namespace: &'a str,
        /// The address that the label spells.
        address: IpAddr,
    },
    /// Nothing that could be there.
    Nothing,
}

/// What stands before the name of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Nothing: all of it.
    Whole,
    /// The hostname of an endpoint.
    Endpoint(&'a str),
    /// A named port and its protocol; an empty one matches all.
    Port(&'a str, &'a str),
}

fn plain(label: &str) -> &str {
    label.strip_prefix('_').unwrap_or(label)
}

/// The address that a pod's label spells: four groups with a dash between are IPv4, all else IPv6.
fn pod_address(label: &str) -> Option<IpAddr> {
    let four = label.matches('-').count() == 3 && !label.contains("--");
    label.replace('-', if four { "." } else { ":" }).parse().ok()
}

/// Reads labels, the outermost last and without those of the domain, in lower case.
pub fn place<'a>(labels: &[&'a str]) -> Place<'a> {
    let (kind, rest) = match labels {
        [] | ["svc" | "pod"] => return Place::Apex,
        ["dns-version"] => return Place::Version,
        ["ns", "dns"] => return Place::NameServer,
        [rest @ .., kind @ ("svc" | "pod")] => (*kind, rest),
        _ => return Place::Nothing,
    };
    match (kind, rest) {
        (_, [namespace]) => Place::Namespace(namespace),
        ("pod", [label, namespace]) => match pod_address(label) {
            Some(address) => Place::Pod { namespace, address },
            None => Place::Nothing,
        },
        ("svc", [before @ .., service, namespace]) => {
            let part = match before {
                [] => Part::Whole,
                [endpoint] => Part::Endpoint(endpoint),
                [port, protocol] => Part::Port(plain(port), plain(protocol)),
                _ => return Place::Nothing,
            };
            Place::Service { namespace, service, part }
        }
        _ => Place::Nothing,
    }
}
