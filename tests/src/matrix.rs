//! Ways to a Service: which there are, a sample in which every pair of properties meets, and whom each must reach. Pure.
//!
//! The cluster has three nodes. Backends are on the first (two of them) and on the second (one); the third has none. What is
//! asked at a node's address, or comes from outside, is asked at the first.

use std::collections::BTreeSet;
use std::fmt;

/// Backends on the first node.
pub const NEAR: [&str; 2] = ["near-1", "near-2"];
/// The backend on the second node.
pub const FAR: &str = "far";
/// The pod on the first node that holds ports of its node.
pub const HOLDER: &str = "holder";

/// By what a Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words of the API")]
pub enum Kind {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalIp,
    HostPort,
}

/// The protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words of the API")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// The address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words of the API")]
pub enum Family {
    V4,
    V6,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum From {
    /// A pod on the first node.
    SameNode,
    /// A pod on the third node.
    OtherNode,
    /// The first node itself.
    Host,
    /// Somebody on the nodes' network who is no node.
    Outside,
}

/// A traffic policy: the internal one of a ClusterIP, the external one of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words of the API")]
pub enum Policy {
    Cluster,
    Local,
}

const KINDS: &[Kind] =
    &[Kind::ClusterIp, Kind::NodePort, Kind::LoadBalancer, Kind::ExternalIp, Kind::HostPort];
const PROTOCOLS: &[Protocol] = &[Protocol::Tcp, Protocol::Udp];
/// Families that the clusters of tests have.
const FAMILIES: &[Family] = &[Family::V4];
const FROM: &[From] = &[From::SameNode, From::OtherNode, From::Host, From::Outside];
const POLICIES: &[Policy] = &[Policy::Cluster, Policy::Local];

/// One way to a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// By what.
    pub kind: Kind,
    /// Over which protocol.
    pub protocol: Protocol,
    /// In which family.
    pub family: Family,
    /// From where.
    pub from: From,
    /// Under which policy.
    pub policy: Policy,
    /// Whether a client stays with its backend.
    pub affinity: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { kind, protocol, family, from, policy, affinity } = self;
        let stays = if *affinity { "affinity" } else { "no affinity" };
        write!(f, "{kind:?} {protocol:?} {family:?} from {from:?}, policy {policy:?}, {stays}")
    }
}

/// Every case there is. Ports of a node that lead to one pod know neither policy nor affinity.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut all = Vec::new();
    for &kind in KINDS {
        for &protocol in PROTOCOLS {
            for &family in FAMILIES {
                for &from in FROM {
                    for &policy in POLICIES {
                        for affinity in [false, true] {
                            all.push(Case { kind, protocol, family, from, policy, affinity });
                        }
                    }
                }
            }
        }
    }
    all.retain(|case| case.kind != Kind::HostPort || (case.policy == Policy::Cluster && !case.affinity));
    all
}

/// Properties of a case, as numbers.
type Row = [usize; 6];

impl Case {
    fn row(&self) -> Row {
        [
            self.kind as usize,
            self.protocol as usize,
            self.family as usize,
            self.from as usize,
            self.policy as usize,
            usize::from(self.affinity),
        ]
    }
}

/// Two properties that meet in a row.
type Pair = ((usize, usize), (usize, usize));

fn pairs(row: &Row) -> impl Iterator<Item = Pair> + '_ {
    let at = |property: usize| (property, row[property]);
    (0..row.len()).flat_map(move |first| (first + 1..row.len()).map(move |second| (at(first), at(second))))
}

/// A sample in which every pair of properties meets that meets in any case: each time the case is taken that has the most
/// pairs which are still missing, the first of several. The same cases give the same sample.
#[must_use]
pub fn pairwise(cases: &[Case]) -> Vec<Case> {
    let mut missing: BTreeSet<Pair> =
        cases.iter().flat_map(|case| pairs(&case.row()).collect::<Vec<_>>()).collect();
    let mut sample = Vec::new();
    while !missing.is_empty() {
        let gain = |case: &Case| pairs(&case.row()).filter(|pair| missing.contains(pair)).count();
        // `max_by_key` takes the last of several.
        let Some(best) = cases.iter().rev().max_by_key(|case| gain(case)) else { break };
        for pair in pairs(&best.row()) {
            missing.remove(&pair);
        }
        sample.push(*best);
    }
    sample
}

/// As whom a backend sees its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// By the client's own address.
    Client,
    /// By the address of the node of this number.
    Node(usize),
}

impl Case {
    /// Whether the first node's uplink is where the Service is met: by nobody's socket, and so as by one from outside.
    fn by_uplink(&self) -> bool {
        let at_node = matches!(self.kind, Kind::NodePort | Kind::HostPort);
        self.from == From::Outside || self.from == From::OtherNode && at_node
    }

    /// Backends that must answer; none where nobody may.
    #[must_use]
    pub fn eligible(&self) -> Vec<&'static str> {
        let near_alone = match self.kind {
            Kind::HostPort => return vec![HOLDER],
            Kind::ClusterIp => self.policy == Policy::Local,
            _ => self.policy == Policy::Local && self.by_uplink(),
        };
        match (near_alone, self.from) {
            (false, _) => NEAR.into_iter().chain([FAR]).collect(),
            // The third node has none of its own.
            (true, From::OtherNode) if self.kind == Kind::ClusterIp => Vec::new(),
            (true, _) => NEAR.to_vec(),
        }
    }

    /// As whom this backend sees the client.
    #[must_use]
    pub fn seen_by(&self, backend: &str) -> Seen {
        match self.from {
            From::SameNode => Seen::Client,
            From::Host => Seen::Node(1),
            // The first node sends on what is for elsewhere in its own name, for the answer must come back by it.
            _ if self.by_uplink() && backend == FAR => Seen::Node(1),
            From::Outside => Seen::Client,
            // A pod that asks a node leaves its own node in that one's name.
            From::OtherNode if self.by_uplink() => Seen::Node(3),
            From::OtherNode => Seen::Client,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_every_pair_and_is_small() {
        let all = all();
        let sample = pairwise(&all);
        let met = |cases: &[Case]| -> BTreeSet<Pair> {
            cases.iter().flat_map(|case| pairs(&case.row()).collect::<Vec<_>>()).collect()
        };
        assert_eq!(met(&sample), met(&all));
        // As many as two properties have values at the least, and not many more.
        let least = KINDS.len() * FROM.len();
        assert!((least..=2 * least).contains(&sample.len()), "{} of {}", sample.len(), all.len());
        assert_eq!(pairwise(&all), sample);
        assert!(sample.iter().all(|case| all.contains(case)));
    }

    #[test]
    fn every_property_is_varied() {
        let all = all();
        assert_eq!(all.len(), (4 * 2 * 2 + 1) * PROTOCOLS.len() * FAMILIES.len() * FROM.len());
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn policies_bind_whom_they_speak_of() {
        let case = |kind, from, policy| Case {
            kind,
            protocol: Protocol::Tcp,
            family: Family::V4,
            from,
            policy,
            affinity: false,
        };
        let count = |kind, from, policy| case(kind, from, policy).eligible().len();
        assert_eq!(count(Kind::ClusterIp, From::SameNode, Policy::Local), 2);
        assert_eq!(count(Kind::ClusterIp, From::OtherNode, Policy::Local), 0);
        assert_eq!(count(Kind::NodePort, From::SameNode, Policy::Local), 3);
        assert_eq!(count(Kind::NodePort, From::OtherNode, Policy::Local), 2);
        assert_eq!(count(Kind::LoadBalancer, From::OtherNode, Policy::Local), 3);
        assert_eq!(count(Kind::LoadBalancer, From::Outside, Policy::Local), 2);
        assert_eq!(count(Kind::ExternalIp, From::Outside, Policy::Cluster), 3);
        assert_eq!(count(Kind::HostPort, From::Outside, Policy::Cluster), 1);
        let outside = case(Kind::NodePort, From::Outside, Policy::Cluster);
        assert_eq!((outside.seen_by(NEAR[0]), outside.seen_by(FAR)), (Seen::Client, Seen::Node(1)));
    }
}
