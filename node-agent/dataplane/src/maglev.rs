//! Consistent hashing of clients to backends: Maglev's table (Eisenbud and others, NSDI 2016, 3.4). Pure.
//!
//! Every node computes the same table from the same backends, so a client's connections reach one backend by whichever node
//! they come. When a backend comes or goes, its share of the table changes hands and little else.

use skep_abi::Addr;

/// Entries of the table for up to [`MANY`] backends: a prime, so that every step visits every entry.
pub(crate) const SIZE: usize = 1_021;
/// Above so many backends the table is [`LARGE_SIZE`] long. Where a set grows past it, its clients are spread anew.
pub(crate) const MANY: usize = 64;
/// Entries of the table for more backends: a prime, too.
pub(crate) const LARGE_SIZE: usize = 16_381;

/// FNV-1a over 64 bits, mixed at the end (the finalizer of SplitMix64): the same on every machine, and in every version.
fn hash(addr: Addr, port: u16, seed: u64) -> u64 {
    let words = addr.words.into_iter().flat_map(u32::to_ne_bytes);
    let bytes = words.chain(port.to_ne_bytes());
    let mut h =
        bytes.fold(0xcbf2_9ce4_8422_2325 ^ seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    h = (h ^ h >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ h >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ h >> 31
}

/// Which of `backends` (address, and port in network byte order; each once) has each entry. Empty without backends. The order
/// of the backends makes no difference to which of them has an entry.
#[must_use]
pub(crate) fn table(backends: &[(Addr, u16)]) -> Vec<usize> {
    if backends.is_empty() {
        return Vec::new();
    }
    let size = if backends.len() <= MANY { SIZE } else { LARGE_SIZE };
    // In the order of their names, since whoever is asked first has the better of a tie.
    let mut order: Vec<usize> = (0..backends.len()).collect();
    order.sort_by_key(|i| backends[*i]);
    let step = |i: usize| {
        let (addr, port) = backends[i];
        let at = |seed, modulus: usize| (hash(addr, port, seed) % modulus as u64) as usize;
        (i, at(0, size), 1 + at(0x9e37_79b9_7f4a_7c15, size - 1))
    };
    let mut preferences: Vec<(usize, usize, usize)> = order.into_iter().map(step).collect();
    let mut entries: Vec<Option<usize>> = vec![None; size];
    let mut left = size;
    // Everyone in turn takes the first free entry of those that it likes; each row of likings has every entry once.
    while left > 0 {
        for (backend, next, step) in &mut preferences {
            while entries[*next].is_some() {
                *next = (*next + *step) % size;
            }
            entries[*next] = Some(*backend);
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    entries.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn backends(count: u16) -> Vec<(Addr, u16)> {
        let addr = |i: u16| -> IpAddr {
            if i.is_multiple_of(2) {
                Ipv4Addr::new(10, 244, (i >> 8) as u8, i as u8).into()
            } else {
                Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, i).into()
            }
        };
        (0..count).map(|i| (addr(i).into(), 8080_u16.to_be())).collect()
    }

    /// Entries by the name of who has them.
    fn named(backends: &[(Addr, u16)]) -> Vec<(Addr, u16)> {
        table(backends).into_iter().map(|i| backends[i]).collect()
    }

    #[test]
    fn everyone_has_a_fair_share() {
        for count in [1, 2, 3, 7, 64, 65, 200] {
            let all = backends(count);
            let table = table(&all);
            assert_eq!(table.len(), if count <= 64 { SIZE } else { LARGE_SIZE });
            let mut shares = vec![0_usize; all.len()];
            table.iter().for_each(|i| shares[*i] += 1);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count}: {shares:?}");
        }
        assert!(table(&[]).is_empty());
    }

    #[test]
    fn the_order_of_backends_makes_no_difference() {
        let mut all = backends(9);
        let before = named(&all);
        all.reverse();
        assert_eq!(named(&all), before);
    }

    #[test]
    fn little_changes_hands_beside_the_share_of_who_goes_or_comes() {
        for count in [2, 5, 10, 50] {
            let all = backends(count);
            let before = named(&all);
            for gone in [0, all.len() / 2, all.len() - 1] {
                let mut left = all.clone();
                let gone = left.remove(gone);
                let after = named(&left);
                let of_gone = before.iter().filter(|b| **b == gone).count();
                let changed = before.iter().zip(&after).filter(|(b, a)| b != a).count();
                assert!(after.iter().all(|b| *b != gone));
                // At most 55 of 1,021 are seen beyond those that must change; by a modulus nearly all would.
                assert!(changed - of_gone <= SIZE * 6 / 100, "{count}: {changed} changed, {of_gone} had to");
            }
        }
    }
}
