//! Which entries of the connection table have had their time. Pure: what an entry and its other half say, and the time,
//! decide.
//!
//! A connection has two entries, one for each direction. One of them keeps the state and decides for both; the other one is
//! looked at only where it is left alone.

use std::time::Duration;

use skep_abi::{CtEntry, CtKey, CtKind, proto};

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays.
    Keep,
    /// It goes.
    Remove,
    /// It goes, and the other half with it.
    RemoveBoth,
}

/// Whether the entry gives packets another destination, rather than another source; `None` for one that has no other half.
fn turns_destination(key: &CtKey) -> Option<bool> {
    let is = |kind: CtKind| key.kind == kind as u8;
    if is(CtKind::Service) || is(CtKind::MasqueradeReply) {
        Some(true)
    } else if is(CtKind::ServiceReply) || is(CtKind::Masquerade) {
        Some(false)
    } else {
        None
    }
}

/// The key of the other direction's entry.
pub(crate) fn other_half(key: &CtKey, entry: &CtEntry) -> Option<CtKey> {
    let kind = match key.kind {
        k if k == CtKind::Service as u8 => CtKind::ServiceReply,
        k if k == CtKind::ServiceReply as u8 => CtKind::Service,
        k if k == CtKind::Masquerade as u8 => CtKind::MasqueradeReply,
        k if k == CtKind::MasqueradeReply as u8 => CtKind::Masquerade,
        _ => return None,
    };
    // An echo and its answer have the identifier in both places.
    let own = |port: u16| if proto::is_icmp(key.proto) { entry.port } else { port };
    Some(if turns_destination(key)? {
        CtKey::new(kind, entry.addr, key.src, entry.port, own(key.sport), key.proto)
    } else {
        CtKey::new(kind, key.dst, entry.addr, own(key.dport), entry.port, key.proto)
    })
}

/// Whether `other`, found under [`other_half`], leads back to this entry rather than to another connection's.
pub(crate) fn leads_back(key: &CtKey, other: &CtEntry) -> bool {
    match turns_destination(key) {
        Some(true) => other.addr == key.dst && other.port == key.dport,
        Some(false) => other.addr == key.src && other.port == key.sport,
        None => false,
    }
}

/// Decides about an entry at `now` (seconds of the monotonic clock). `other` is asked for the other half where that matters.
pub(crate) fn verdict<E>(
    key: &CtKey,
    entry: &CtEntry,
    now: u32,
    other: impl FnOnce(&CtKey) -> Result<Option<CtEntry>, E>,
) -> Result<Verdict, E> {
    if !entry.expired(key.proto, now) {
        return Ok(Verdict::Keep);
    }
    let Some(at) = other_half(key, entry) else { return Ok(Verdict::Remove) };
    let belongs = other(&at)?.is_some_and(|other| leads_back(key, &other));
    let decides = key.kind == CtKind::Service as u8 || key.kind == CtKind::MasqueradeReply as u8;
    Ok(match (belongs, decides) {
        (true, true) => Verdict::RemoveBoth,
        // The half that keeps the state decides.
        (true, false) => Verdict::Keep,
        (false, _) => Verdict::Remove,
    })
}

/// How long to wait before the next look at a table that holds `entries` of `limit`: the fuller, the shorter. Nothing expires
/// in less than ten seconds, so more often than that helps only where the place is needed.
pub(crate) fn pause(entries: u64, limit: u64) -> Duration {
    match entries {
        n if n < limit / 2 => Duration::from_secs(10),
        n if n < limit / 8 * 7 => Duration::from_secs(3),
        _ => Duration::from_millis(500),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::Addr;
    use skep_abi::conntrack::state;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    fn addr(last: u8) -> Addr {
        Addr::from(std::net::Ipv4Addr::new(10, 0, 0, last))
    }

    fn entry(last: u8, port: u16, state: u16, last_seen: u32) -> CtEntry {
        CtEntry { addr: addr(last), port, state, last_seen, ..CtEntry::default() }
    }

    /// Client 1:1000 asks Service 2:80, which is backend 3:8080.
    fn of_service(state: u16, seen: u32) -> [(CtKey, CtEntry); 2] {
        [
            (
                CtKey::new(CtKind::Service, addr(1), addr(2), 1000, 80, proto::TCP),
                entry(3, 8080, state, seen),
            ),
            (
                CtKey::new(CtKind::ServiceReply, addr(3), addr(1), 8080, 1000, proto::TCP),
                entry(2, 80, 0, seen),
            ),
        ]
    }

    /// Pod 1:7 goes out to 9:9 under the node's 5:61000; `ICMP` has identifiers for ports.
    fn masqueraded(protocol: u8, state: u16, seen: u32) -> [(CtKey, CtEntry); 2] {
        let (theirs, answered) = if proto::is_icmp(protocol) { (7, 61_000) } else { (9, 9) };
        [
            (
                CtKey::new(CtKind::Masquerade, addr(1), addr(9), 7, theirs, protocol),
                entry(5, 61_000, 0, seen),
            ),
            (
                CtKey::new(CtKind::MasqueradeReply, addr(9), addr(5), answered, 61_000, protocol),
                entry(1, 7, state, seen),
            ),
        ]
    }

    fn decide(table: &[(CtKey, CtEntry)], now: u32) -> Vec<Verdict> {
        let find = |key: &CtKey| Ok::<_, Infallible>(table.iter().find(|(k, _)| k == key).map(|(_, e)| *e));
        table.iter().map(|(key, entry)| verdict(key, entry, now, find).unwrap()).collect()
    }

    #[test]
    fn each_half_finds_the_other() {
        let echo = [proto::ICMP, proto::ICMPV6].map(|protocol| masqueraded(protocol, 0, 0));
        for pair in [of_service(0, 0), masqueraded(proto::TCP, 0, 0), echo[0], echo[1]] {
            let [(a, ea), (b, eb)] = pair;
            assert_eq!(other_half(&a, &ea), Some(b));
            assert_eq!(other_half(&b, &eb), Some(a));
            assert!(leads_back(&a, &eb) && leads_back(&b, &ea));
            assert!(!leads_back(&a, &CtEntry { port: 1, ..eb }));
        }
    }

    #[test]
    fn halves_live_as_long_as_the_one_with_the_state_and_go_together() {
        use Verdict::{Keep, RemoveBoth};
        let established = of_service(state::REPLIED, 1000);
        assert_eq!(decide(&established, 1000 + 7440), [Keep, Keep]);
        assert_eq!(decide(&established, 1000 + 7441), [RemoveBoth, Keep]);
        assert_eq!(decide(&of_service(0, 1000), 1121), [RemoveBoth, Keep]);
        let leaving = masqueraded(proto::TCP, state::REPLIED, 1000);
        assert_eq!(decide(&leaving, 1000 + 7440), [Keep, Keep]);
        assert_eq!(decide(&leaving, 1000 + 7441), [Keep, RemoveBoth]);
        assert_eq!(decide(&masqueraded(proto::ICMP, 0, 1000), 1031), [Keep, RemoveBoth]);
        assert_eq!(decide(&masqueraded(proto::UDP, 0, 1000), 1030), [Keep, Keep]);
    }

    #[test]
    fn what_is_left_alone_goes_after_its_own_time() {
        let [(forward, e), (reply, r)] = of_service(state::REPLIED, 1000);
        assert_eq!(decide(&[(reply, r)], 1120), [Verdict::Keep], "its other half may be on its way");
        assert_eq!(decide(&[(reply, r)], 1121), [Verdict::Remove]);
        // The reply is another Service's by now: it stays as long as that one's.
        let taken = (reply, CtEntry { port: 81, ..r });
        assert_eq!(decide(&[(forward, e), taken], 1000 + 7441)[0], Verdict::Remove);
        let direct = CtKey::new(CtKind::Direct, addr(1), addr(9), 80, 5000, proto::TCP);
        assert_eq!(decide(&[(direct, entry(0, 0, state::REPLIED, 1000))], 8440), [Verdict::Keep]);
        assert_eq!(decide(&[(direct, entry(0, 0, state::REPLIED, 1000))], 8441), [Verdict::Remove]);
    }

    #[test]
    fn a_fuller_table_is_looked_at_more_often() {
        let pauses: BTreeMap<u64, Duration> = (0..=100).map(|n| (n, pause(n, 100))).collect();
        assert!(pauses.values().is_sorted_by(|a, b| a >= b), "{pauses:?}");
        assert_eq!(pauses[&100], Duration::from_millis(500));
    }
}
