//! From a question to records.

use super::name::{Part, Place, place};
use super::objects::{Port, Service};
use super::zone::{Entry, Zone};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::HashSet;
use std::net::IpAddr;

/// The version of the specification that the answers follow.
const VERSION: &str = "1.1.0";
/// Seconds that the version may be kept, as in the specification's example.
const VERSION_TTL: u32 = 28_800;
/// Seconds that every other record may be kept, and that a name is not there: the plugin's default.
pub const TTL: u32 = 5;
/// Priority and, shared among the records of an answer, weight of an SRV record.
const WEIGHT: usize = 100;
/// Longest chain of aliases that is followed.
const CHAIN: usize = 10;
/// Namespace and name of the Service by which this server is reached.
const SELF: (&str, &str) = ("kube-system", "kube-dns");

/// The names of the zone itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    apex: Name,
    server: Name,
    mailbox: Name,
}

/// What a question gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This, with authority.
    Reply(Reply),
    /// These aliases, and then what others say of the name that the last one leads to.
    Chase(Vec<Record>, Name),
    /// It is no question about the cluster: others are to be asked.
    Forward,
}

/// The sections of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whether the name is there.
    pub code: ResponseCode,
    /// Answers.
    pub answers: Vec<Record>,
    /// The zone's authority, where there are no answers.
    pub authorities: Vec<Record>,
    /// What clients would ask for next.
    pub additionals: Vec<Record>,
}

/// One place that the name of a Service leads to.
struct Item {
    address: IpAddr,
    port: Option<u16>,
    /// The endpoint's label; none stands for the Service itself.
    endpoint: Option<Box<str>>,
}

enum Found<'a> {
    Items(Vec<Item>),
    Alias(&'a str),
    Missing,
}

impl Default for Domain {
    /// `cluster.local`.
    fn default() -> Self {
        let name = |text: &str| Name::from_ascii(text).unwrap_or_default();
        Domain {
            apex: name("cluster.local."),
            server: name("ns.dns.cluster.local."),
            mailbox: name("hostmaster.cluster.local."),
        }
    }
}

impl Domain {
    /// The zone of a domain such as `cluster.local`; none where that is no name.
    pub fn new(domain: &str) -> Option<Self> {
        let mut apex = Name::from_ascii(domain.to_ascii_lowercase()).ok()?;
        apex.set_fqdn(true);
        let below = |text: &str| Name::from_ascii(text).ok()?.append_domain(&apex).ok();
        let (server, mailbox) = (below("ns.dns")?, below("hostmaster")?);
        (!apex.is_root()).then_some(Domain { apex, server, mailbox })
    }

    /// Whether a name lies in the zone.
    pub fn holds(&self, name: &Name) -> bool {
        self.apex.zone_of(name)
    }

    fn below(&self, labels: &[&str]) -> Option<Name> {
        let labels = labels.iter().map(|label| label.as_bytes());
        Name::from_labels(labels).ok()?.append_domain(&self.apex).ok()
    }

    fn service(&self, namespace: &str, service: &str) -> Option<Name> {
        self.below(&[service, namespace, "svc"])
    }

    fn endpoint(&self, namespace: &str, service: &str, endpoint: &str) -> Option<Name> {
        self.below(&[endpoint, service, namespace, "svc"])
    }

    fn soa(&self, serial: u32) -> Record {
        let soa = SOA::new(self.server.clone(), self.mailbox.clone(), serial, 7200, 1800, 86_400, TTL);
        Record::from_rdata(self.apex.clone(), TTL, RData::SOA(soa))
    }

    /// The labels of a name below the domain, in lower case; none where it lies elsewhere. A label that no object can have
    /// is kept as one that none has.
    fn labels(&self, name: &Name) -> Option<Vec<String>> {
        if !self.holds(name) {
            return None;
        }
        let count = usize::from(name.num_labels().saturating_sub(self.apex.num_labels()));
        let lower = |label: &[u8]| String::from_utf8_lossy(label).to_ascii_lowercase();
        Some(name.iter().take(count).map(lower).collect())
    }
}

/// Answers a question for records of a type at a name. `turn` says with which address an answer of several begins, so that
/// clients that take the first are spread.
pub fn answer(zone: &Zone, domain: &Domain, name: &Name, kind: RecordType, turn: usize) -> Answer {
    match domain.labels(name) {
        Some(labels) => Zoned { zone, domain, name, kind, turn }.answer(&labels),
        None if kind == RecordType::PTR => reverse(zone, domain, name),
        None => Answer::Forward,
    }
}

/// The names of an address; addresses of others are theirs to name.
fn reverse(zone: &Zone, domain: &Domain, name: &Name) -> Answer {
    let Ok(network) = name.parse_arpa_name() else { return Answer::Forward };
    if network.prefix_len() != network.max_prefix_len() {
        return Answer::Forward;
    }
    let address = network.addr();
    let names: Vec<Name> = match zone.by_cluster_address(address) {
        Some((namespace, service)) => domain.service(namespace, service).into_iter().collect(),
        None => {
            let all = zone.by_endpoint(address);
            all.iter().filter_map(|(host, (ns, service))| domain.endpoint(ns, service, host)).collect()
        }
    };
    if names.is_empty() {
        return Answer::Forward;
    }
    let records = names.into_iter().map(|to| Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(to))));
    Answer::Reply(Reply {
        code: ResponseCode::NoError,
        answers: records.collect(),
        authorities: Vec::new(),
        additionals: Vec::new(),
    })
}

struct Zoned<'a> {
    zone: &'a Zone,
    domain: &'a Domain,
    name: &'a Name,
    kind: RecordType,
    turn: usize,
}

impl<'a> Zoned<'a> {
    fn answer(&self, labels: &[String]) -> Answer {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match place(&labels) {
            Place::Apex if labels.is_empty() => self.apex(),
            Place::Apex => self.nothing(),
            Place::Version if self.kind == RecordType::TXT => {
                let text = RData::TXT(TXT::new(vec![VERSION.to_owned()]));
                self.reply(vec![Record::from_rdata(self.name.clone(), VERSION_TTL, text)], Vec::new())
            }
            Place::Version => self.nothing(),
            Place::NameServer => {
                let own = self.own_addresses();
                self.reply(self.addresses(own.iter().copied()), Vec::new())
            }
            Place::Namespace(namespace) if self.zone.has_namespace(namespace) => self.nothing(),
            Place::Pod { namespace, address } if self.zone.has_namespace(namespace) => {
                self.reply(self.addresses([address].into_iter()), Vec::new())
            }
            Place::Service { namespace, service, part } => self.service(namespace, service, part),
            Place::Namespace(_) | Place::Pod { .. } | Place::Nothing => self.missing(),
        }
    }

    fn reply(&self, answers: Vec<Record>, additionals: Vec<Record>) -> Answer {
        let authorities = match answers.is_empty() {
            true => vec![self.domain.soa(self.zone.serial())],
            false => Vec::new(),
        };
        Answer::Reply(Reply { code: ResponseCode::NoError, answers, authorities, additionals })
    }

    /// The name is there, and has no such record.
    fn nothing(&self) -> Answer {
        self.reply(Vec::new(), Vec::new())
    }

    /// The name is not there.
    fn missing(&self) -> Answer {
        let authorities = vec![self.domain.soa(self.zone.serial())];
        Answer::Reply(Reply {
            code: ResponseCode::NXDomain,
            answers: Vec::new(),
            authorities,
            additionals: Vec::new(),
        })
    }

    fn apex(&self) -> Answer {
        match self.kind {
            RecordType::SOA => self.reply(vec![self.domain.soa(self.zone.serial())], Vec::new()),
            RecordType::NS => {
                let own = self.own_addresses();
                let Some(server) = self.domain.service(SELF.0, SELF.1).filter(|_| !own.is_empty()) else {
                    return self.nothing();
                };
                let glue = own.iter().map(|ip| Record::from_rdata(server.clone(), TTL, RData::from(*ip)));
                let glue = glue.collect();
                let record = Record::from_rdata(self.domain.apex.clone(), TTL, RData::NS(NS(server.clone())));
                self.reply(vec![record], glue)
            }
            _ => self.nothing(),
        }
    }

    fn own_addresses(&self) -> Vec<IpAddr> {
        let service = self.zone.entry(SELF.0, SELF.1).and_then(Entry::service);
        match service {
            Some(Service::Cluster { addresses, .. }) => addresses.to_vec(),
            _ => Vec::new(),
        }
    }

    /// Address records of the type that was asked for, each address once, beginning at the turn.
    fn addresses(&self, all: impl Iterator<Item = IpAddr>) -> Vec<Record> {
        let mut seen = HashSet::new();
        let wanted = |ip: &IpAddr| match self.kind {
            RecordType::A => ip.is_ipv4(),
            RecordType::AAAA => ip.is_ipv6(),
            _ => false,
        };
        let record = |ip| Record::from_rdata(self.name.clone(), TTL, RData::from(ip));
        let mut records: Vec<Record> = all.filter(wanted).filter(|ip| seen.insert(*ip)).map(record).collect();
        if !records.is_empty() {
            let first = self.turn % records.len();
            records.rotate_left(first);
        }
        records
    }

    fn service(&self, namespace: &str, service: &str, part: Part<'_>) -> Answer {
        match find(self.zone, namespace, service, part) {
            Found::Missing => self.missing(),
            Found::Alias(target) => self.alias(target),
            Found::Items(items) if self.kind == RecordType::SRV => {
                let (records, glue) = self.servers(namespace, service, &items);
                self.reply(records, glue)
            }
            Found::Items(items) => {
                self.reply(self.addresses(items.iter().map(|item| item.address)), Vec::new())
            }
        }
    }

    fn servers(&self, namespace: &str, service: &str, items: &[Item]) -> (Vec<Record>, Vec<Record>) {
        let weight = u16::try_from(WEIGHT / items.len().max(1)).unwrap_or(1).max(1);
        let (mut records, mut glue) = (Vec::new(), Vec::new());
        let (mut seen, mut glued) = (HashSet::new(), HashSet::new());
        for item in items {
            let Some(port) = item.port else { continue };
            let target = match &item.endpoint {
                Some(endpoint) => self.domain.endpoint(namespace, service, endpoint),
                None => self.domain.service(namespace, service),
            };
            let Some(target) = target else { continue };
            if glued.insert((item.endpoint.as_deref(), item.address)) {
                glue.push(Record::from_rdata(target.clone(), TTL, RData::from(item.address)));
            }
            if seen.insert((item.endpoint.as_deref(), port)) {
                let data = RData::SRV(SRV::new(0, weight, port, target));
                records.push(Record::from_rdata(self.name.clone(), TTL, data));
            }
        }
        (records, glue)
    }

    /// Follows aliases for who asks for addresses, as far as they stay in the zone.
    fn alias(&self, target: &'a str) -> Answer {
        if !matches!(self.kind, RecordType::A | RecordType::AAAA | RecordType::CNAME) {
            return self.nothing();
        }
        let mut chain = Vec::new();
        let mut from = self.name.clone();
        let mut next = target;
        loop {
            let Ok(mut to) = Name::from_ascii(next) else { return self.nothing() };
            to.set_fqdn(true);
            chain.push(Record::from_rdata(from, TTL, RData::CNAME(CNAME(to.clone()))));
            if self.kind == RecordType::CNAME {
                return self.reply(chain, Vec::new());
            }
            let Some(labels) = self.domain.labels(&to) else { return Answer::Chase(chain, to) };
            if chain.len() > CHAIN {
                return self.nothing();
            }
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let here = Zoned { name: &to, ..*self };
            let records = match place(&labels) {
                Place::Service { namespace, service, part } => {
                    match find(self.zone, namespace, service, part) {
                        Found::Alias(further) => {
                            (from, next) = (to, further);
                            continue;
                        }
                        Found::Items(items) => here.addresses(items.iter().map(|item| item.address)),
                        Found::Missing => Vec::new(),
                    }
                }
                Place::Pod { namespace, address } if self.zone.has_namespace(namespace) => {
                    here.addresses([address].into_iter())
                }
                _ => Vec::new(),
            };
            if records.is_empty() {
                return self.nothing();
            }
            chain.extend(records);
            return self.reply(chain, Vec::new());
        }
    }
}

fn matches(port: &Port, name: &str, protocol: &str) -> bool {
    (name.is_empty() || *port.name == *name) && (protocol.is_empty() || port.protocol.label() == protocol)
}

/// What the name of a Service, or of a part of it, leads to.
fn find<'a>(zone: &'a Zone, namespace: &str, name: &str, part: Part<'_>) -> Found<'a> {
    let Some(entry) = zone.entry(namespace, name) else { return Found::Missing };
    let (port, protocol) = match part {
        Part::Port(port, protocol) => (port, protocol),
        Part::Whole | Part::Endpoint(_) => ("", ""),
    };
    let mut items = Vec::new();
    match (entry.service(), part) {
        (None, _) => {}
        (Some(Service::External(target)), Part::Whole) => return Found::Alias(target),
        (Some(Service::External(_)), _) => {}
        (Some(Service::Cluster { addresses, ports, .. }), Part::Whole | Part::Port(..)) => {
            for known in ports.iter().filter(|known| matches(known, port, protocol)) {
                let item = |address: &IpAddr| Item { address: *address, port: known.number, endpoint: None };
                items.extend(addresses.iter().map(item));
            }
        }
        (Some(Service::Headless { .. } | Service::Cluster { .. }), _) => {
            for slice in entry.slices() {
                let numbers: Vec<Option<u16>> = match slice.ports.is_empty() {
                    // Without ports there are addresses all the same, but only for who names no port.
                    true if port.is_empty() && protocol.is_empty() => vec![None],
                    _ => {
                        slice.ports.iter().filter(|p| matches(p, port, protocol)).map(|p| p.number).collect()
                    }
                };
                let named = |label: &str| match part {
                    Part::Endpoint(wanted) => label == wanted,
                    Part::Whole | Part::Port(..) => true,
                };
                for endpoint in entry.counted(slice).filter(|endpoint| named(&endpoint.hostname)) {
                    items.extend(numbers.iter().map(|number| Item {
                        address: endpoint.address,
                        port: *number,
                        endpoint: Some(endpoint.hostname.clone()),
                    }));
                }
            }
        }
    }
    if items.is_empty() { Found::Missing } else { Found::Items(items) }
}
