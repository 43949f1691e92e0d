//! The one table of Services and backends, and the one selection function, of every hook.
//!
//! `SERVICES` says which set of backends a front end has, and the front ends of one Service port share a set;
//! `SLOTS` numbers the members of a set, `BACKENDS` says where a member is. A set is never changed in place: the agent writes the members of the
//! next generation, then flips the Service to it in one map update, then removes the old generation. A
//! program that read the Service just before the flip finds its old slots, or finds none and reads the
//! Service once more.

use crate::Addr;

/// Key of `SERVICES`: what a client asks for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The virtual address; `0.0.0.0` (in its v4-mapped form) or `::` for a front end on any address of the node (NodePort).
    pub addr: Addr,
    /// The port, network byte order.
    pub port: u16,
    /// The IP protocol, see [`crate::proto`].
    pub proto: u8,
    /// Always zero.
    pub pad: u8,
}

impl ServiceKey {
    /// The key of a front end. `port` is in network byte order.
    #[inline(always)]
    pub const fn new(addr: Addr, port: u16, proto: u8) -> Self {
        Self { addr, port, proto, pad: 0 }
    }
}

/// Value of `SERVICES`.
///
/// The slots of a set lie in one row: first those on this node that no other node's policy would choose, then those that
/// both policies choose, then the rest. So both what a `Local` policy and what a `Cluster` policy may choose from is one
/// stretch of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Compact number of the set of backends, which all front ends of one Service port share; stable for its life; never
    /// zero.
    pub id: u32,
    /// Which generation of slots is in force.
    pub generation: u32,
    /// How many slots that generation has; zero refuses new connections.
    pub count: u32,
    /// How many of them, from slot 0, a `Local` policy may choose from.
    pub local_count: u32,
    /// The first of those, up to the last slot, that a `Cluster` policy may choose from.
    pub cluster_start: u32,
    /// ClientIP session affinity in seconds; zero for none.
    pub affinity_seconds: u32,
    /// Bits of [`flags`].
    pub flags: u32,
    /// Always zero.
    pub reserved: u32,
}

/// Bits of [`Service::flags`].
pub mod flags {
    /// Only backends on this node may be chosen (`internalTrafficPolicy: Local` of a cluster address).
    pub const LOCAL_ONLY: u32 = 1;
    /// Only backends on this node may be chosen for clients outside (`externalTrafficPolicy: Local`).
    pub const LOCAL_FROM_OUTSIDE: u32 = 2;
    /// Only clients in `RANGES` may connect (`loadBalancerSourceRanges`).
    pub const RESTRICTED: u32 = 4;
    /// A client's own word chooses the slot, not a random one. The slots are a table in which a backend stands many times.
    pub const CONSISTENT: u32 = 8;
}

/// Where a client is, as far as a policy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A pod, or the node itself.
    Inside,
    /// Anywhere else.
    Outside,
}

impl Service {
    /// The slots that a new connection may choose from: the first, and how many.
    #[inline(always)]
    pub const fn eligible(&self, origin: Origin) -> (u32, u32) {
        if self.only_local(origin) {
            (0, self.local_count)
        } else {
            (self.cluster_start, self.count.saturating_sub(self.cluster_start))
        }
    }

    /// Whether a `Local` policy binds clients from there.
    #[inline(always)]
    pub const fn only_local(&self, origin: Origin) -> bool {
        self.flags & flags::LOCAL_ONLY != 0
            || matches!(origin, Origin::Outside) && self.flags & flags::LOCAL_FROM_OUTSIDE != 0
    }
}

/// Key of `SLOTS`; the value is the number of a backend in `BACKENDS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    /// [`Service::id`].
    pub service: u32,
    /// [`Service::generation`].
    pub generation: u32,
    /// From zero to [`Service::count`], exclusive.
    pub index: u32,
}

/// Value of `BACKENDS`, whose key is a compact number; a backend belongs to exactly one set, so its presence says that
/// the Service still sends there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Where to send.
    pub addr: Addr,
    /// The port, network byte order.
    pub port: u16,
    /// Bits of [`backend_flags`].
    pub flags: u16,
    /// [`Service::id`] of the Service it belongs to.
    pub service: u32,
    /// Always zero.
    pub reserved: u32,
}

/// Bits of [`Backend::flags`].
pub mod backend_flags {
    /// The backend runs on this node.
    pub const LOCAL: u16 = 1;
}

/// Key of `AFFINITY`: one client of one Service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AffinityKey {
    /// Who asks: an address where packets are seen; at the socket, where none is known yet, the cookie of the client's
    /// network namespace in the first two words and [`AffinityKey::NETNS`] in the last.
    pub client: Addr,
    /// [`Service::id`].
    pub service: u32,
}

impl AffinityKey {
    /// The last word of a client that is a network namespace: no IPv4 client has it, and an IPv6 one with these words
    /// (`0:0:0:0:0:0` and one number) is none that the network carries.
    pub const NETNS: u32 = u32::from_ne_bytes(*b"netn");

    /// The client that is a network namespace.
    #[inline(always)]
    pub const fn netns(cookie: u64) -> Addr {
        Addr { words: [cookie as u32, (cookie >> 32) as u32, 0, Self::NETNS] }
    }
}

/// Value of `AFFINITY`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Number of the backend in `BACKENDS`.
    pub backend: u32,
    /// Seconds of `CLOCK_MONOTONIC` when a connection last went there.
    pub last_seen: u32,
}

impl Affinity {
    /// Whether a connection at `now` (seconds) still goes to the same backend.
    #[inline(always)]
    pub const fn holds(&self, seconds: u32, now: u32) -> bool {
        seconds != 0 && (now <= self.last_seen || now - self.last_seen <= seconds)
    }
}

/// Value of `NODE_ADDRS`, whose key is an address of this node itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeAddr {
    /// Index of the interface that has it.
    pub ifindex: u32,
    /// Always zero.
    pub reserved: u32,
}

/// The data of a key of `RANGES`: a network whose addresses may reach a restricted front end. The prefix length counts
/// the 32 bits of the number, too.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// [`Service::id`].
    pub service: u32,
    /// The network's address.
    pub addr: Addr,
}

impl Range {
    /// The prefix length of a look-up.
    pub const FULL: u32 = 32 + 128;
}

/// The selection function of every hook: a uniform choice of `0..count` from one word, a random one or the client's own.
///
/// `None` when there is nothing to choose from. Multiplies instead of dividing: exact enough (the bias is
/// below `count / 2^32`) and cheap on every machine.
#[inline(always)]
pub const fn select(random: u32, count: u32) -> Option<u32> {
    if count == 0 { None } else { Some(((random as u64 * count as u64) >> 32) as u32) }
}

/// The word by which a client chooses under [`flags::CONSISTENT`]: the same on every node (the finalizer of MurmurHash3 after
/// each word of the address).
#[inline(always)]
pub const fn client_word(client: &Addr) -> u32 {
    let w = &client.words;
    mix(mix(mix(mix(0x5ce9_0b1d, w[0]), w[1]), w[2]), w[3])
}

#[inline(always)]
const fn mix(seed: u32, word: u32) -> u32 {
    let mut h = seed ^ u32::from_be(word);
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_spread_by_their_own_words() {
        // Neighbours in one network, of either family: 4,096 clients over 16 slots.
        let v4 = |i: u32| Addr::from(core::net::Ipv4Addr::from_bits(0xc633_6400 + i));
        let v6 = |i: u32| Addr::from(core::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(i)));
        for client in [&v4 as &dyn Fn(u32) -> Addr, &v6] {
            let mut seen = [0_u32; 16];
            for i in 0..4096 {
                let word = client_word(&client(i));
                assert_eq!(word, client_word(&client(i)));
                seen[select(word, 16).unwrap() as usize] += 1;
            }
            assert!(
                seen.iter().all(|n| n.abs_diff(256) < 64),
                "four times the deviation of chance: {seen:?}"
            );
        }
    }

    #[test]
    fn selection_is_in_range_at_the_edges() {
        assert_eq!(select(7, 0), None);
        assert_eq!(select(u32::MAX, 1), Some(0));
        assert_eq!(select(0, 9), Some(0));
        assert_eq!(select(u32::MAX, 9), Some(8));
        assert_eq!(select(u32::MAX, u32::MAX), Some(u32::MAX - 1));
    }

    #[test]
    fn selection_is_uniform_over_equally_spaced_words() {
        for count in [1_u32, 2, 3, 7, 100] {
            let mut seen = vec![0_u32; count as usize];
            let words = 100_000_u32;
            for i in 0..words {
                seen[select(i * (u32::MAX / words), count).unwrap() as usize] += 1;
            }
            let fair = words / count;
            assert!(seen.iter().all(|n| n.abs_diff(fair) <= fair / 50 + 2), "{count}: {seen:?}");
        }
    }

    #[test]
    fn policies_choose_from_their_stretch() {
        let svc = Service { count: 5, local_count: 2, cluster_start: 1, ..Service::default() };
        let both = |flags| {
            let svc = Service { flags, ..svc };
            (svc.eligible(Origin::Inside), svc.eligible(Origin::Outside))
        };
        assert_eq!(both(0), ((1, 4), (1, 4)));
        assert_eq!(both(flags::LOCAL_ONLY), ((0, 2), (0, 2)));
        assert_eq!(both(flags::LOCAL_FROM_OUTSIDE), ((1, 4), (0, 2)));
        let none = Service { cluster_start: 3, ..Service::default() };
        assert_eq!(none.eligible(Origin::Inside), (3, 0), "a row that is half written chooses nothing");
    }

    #[test]
    fn affinity_lasts_its_seconds_from_the_last_connection() {
        let kept = Affinity { backend: 7, last_seen: 100 };
        assert!(kept.holds(10, 110) && !kept.holds(10, 111));
        assert!(kept.holds(10, 99), "a clock that is read on another processor is a little behind");
        assert!(!kept.holds(0, 100));
    }
}
