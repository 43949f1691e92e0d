//! How names are resolved inside a pod. Source: kubelet `network/dns`.

use super::rules::host_network;
use super::sandbox::Node;
use k8s_openapi::api::core::v1::Pod;

/// A resolver's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolver {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// What an owner of the pod should hear of its resolver: the reason and message of a warning.
pub type Complaint = (&'static str, String);

/// More name servers no C library takes (core/v1 `MaxDNSNameservers`).
const SERVERS: usize = 3;
/// Most search domains (core/v1 `MaxDNSSearchPaths`).
const SEARCHES: usize = 32;
/// Most characters of all search domains with the blanks between (core/v1 `MaxDNSSearchListChars`).
const SEARCH_CHARACTERS: usize = 2048;
/// Most characters of one.
const SEARCH_LENGTH: usize = 253;
const FORMING: &str = "DNSConfigForming";

/// Adds an option, in place of one of the same name.
fn set_option(options: &mut Vec<String>, option: String) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    options.retain(|have| name(have) != name(&option));
    options.push(option);
}

fn unique(list: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(list.len());
    for one in list {
        if !out.contains(&one) {
            out.push(one);
        }
    }
    out
}

impl Resolver {
    /// Reads `resolv.conf`.
    pub fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
                // Each such line replaces those before it; the root is no domain to search.
                Some("search") => {
                    let domains = words.filter(|word| *word != ".");
                    out.searches = domains.map(|word| word.trim_end_matches('.').to_owned()).collect();
                }
                Some("options") => words.for_each(|word| set_option(&mut out.options, word.to_owned())),
                _ => {}
            }
        }
        out
    }

    /// Cuts off what no C library takes, and says so.
    fn fit(mut self) -> (Self, Vec<Complaint>) {
        let mut complaints = Vec::new();
        if self.servers.len() > SERVERS {
            self.servers.truncate(SERVERS);
            let message = format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
                self.servers.join(" ")
            );
            complaints.push((FORMING, message));
        }
        let before = self.searches.len();
        self.searches.truncate(SEARCHES);
        self.searches.retain(|domain| domain.len() <= SEARCH_LENGTH);
        while self.searches.join(" ").len() > SEARCH_CHARACTERS {
            self.searches.pop();
        }
        if self.searches.len() < before {
            let message = format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
                self.searches.join(" ")
            );
            complaints.push((FORMING, message));
        }
        (self, complaints)
    }
}

/// The resolver configuration of a pod, and what its owner should hear of it.
pub fn resolver(pod: &Pod, node: &Node) -> (Resolver, Vec<Complaint>) {
    let Some(spec) = pod.spec.as_ref() else { return Default::default() };
    let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut complaints = Vec::new();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let asks_cluster = match policy {
        "None" | "Default" => false,
        "ClusterFirst" => !host_network(spec),
        _ => true,
    };
    let mut out = if policy == "None" {
        Resolver::default()
    } else if asks_cluster && !node.cluster_dns.is_empty() {
        let d = &node.cluster_domain;
        let own = match d.is_empty() {
            true => Vec::new(),
            false => vec![format!("{ns}.svc.{d}"), format!("svc.{d}"), d.clone()],
        };
        let searches = unique(own.into_iter().chain(node.resolver.searches.iter().cloned()).collect());
        Resolver { servers: node.cluster_dns.clone(), searches, options: vec!["ndots:5".into()] }
    } else {
        if asks_cluster {
            let (name, uid) = (
                pod.metadata.name.as_deref().unwrap_or_default(),
                pod.metadata.uid.as_deref().unwrap_or_default(),
            );
            let message = format!(
                "pod: \"{name}_{ns}({uid})\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \
                 \"ClusterFirst\" policy. Falling back to \"Default\" policy."
            );
            complaints.push(("MissingClusterDNS", message));
        }
        node.resolver.clone()
    };
    if let Some(c) = &spec.dns_config {
        for (to, from) in [(&mut out.servers, &c.nameservers), (&mut out.searches, &c.searches)] {
            to.extend(from.iter().flatten().cloned());
            *to = unique(std::mem::take(to));
        }
        for o in c.options.iter().flatten() {
            let Some(name) = &o.name else { continue };
            let value = o.value.as_ref().filter(|value| !value.is_empty());
            set_option(&mut out.options, value.map_or_else(|| name.clone(), |v| format!("{name}:{v}")));
        }
    }
    let (out, cut) = out.fit();
    complaints.extend(cut);
    (out, complaints)
}
