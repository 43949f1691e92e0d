//! The one table of Services and backends, and the one selection function, of every hook.
//!
//! `SERVICES` says which set of backends a front end has, `SLOTS` numbers the members of a set,
//! `BACKENDS` says where a member is. A set is never changed in place: the agent writes the members of the
//! next generation, then flips the Service to it in one map update, then removes the old generation. A
//! program that read the Service just before the flip finds its old slots, or finds none and reads the
//! Service once more.

use crate::Addr;

/// Key of `SERVICES`: what a client asks for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The virtual address; all zero for a front end on any address of the node (NodePort).
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
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Compact number of the front end, stable for its life; never zero.
    pub id: u32,
    /// Which generation of slots is in force.
    pub generation: u32,
    /// How many slots that generation has; zero refuses new connections.
    pub count: u32,
    /// How many of them, from slot 0, run on this node (for `internalTrafficPolicy: Local`).
    pub local_count: u32,
    /// ClientIP session affinity in seconds; zero for none.
    pub affinity_seconds: u32,
    /// Bits of [`flags`].
    pub flags: u32,
    /// Always zero.
    pub reserved: [u32; 2],
}

/// Bits of [`Service::flags`].
pub mod flags {
    /// Only backends on this node may be chosen (`internalTrafficPolicy: Local`).
    pub const LOCAL_ONLY: u32 = 1;
}

impl Service {
    /// How many slots a new connection may choose from.
    #[inline(always)]
    pub const fn eligible(&self) -> u32 {
        if self.flags & flags::LOCAL_ONLY != 0 { self.local_count } else { self.count }
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

/// Value of `BACKENDS`, whose key is a compact number; a backend belongs to exactly one Service, so its
/// presence says that the Service still sends there.
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

/// The selection function of every hook: a uniform choice of `0..count` from one random word.
///
/// `None` when there is nothing to choose from. Multiplies instead of dividing: exact enough (the bias is
/// below `count / 2^32`) and cheap on every machine.
#[inline(always)]
pub const fn select(random: u32, count: u32) -> Option<u32> {
    if count == 0 { None } else { Some(((random as u64 * count as u64) >> 32) as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn local_only_services_choose_from_their_local_prefix() {
        let svc = Service { count: 5, local_count: 2, ..Service::default() };
        assert_eq!(svc.eligible(), 5);
        assert_eq!(Service { flags: flags::LOCAL_ONLY, ..svc }.eligible(), 2);
    }
}
