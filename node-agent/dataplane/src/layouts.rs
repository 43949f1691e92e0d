//! What has changed from layout to layout, and how the entries of an older layout's maps become those of this one. Pure: a
//! table with one row for each map that changed, and the plan that follows from it.
//!
//! A map that no row names and whose shape is the same is not copied: the newer layout pins the same map, and old and new
//! programs see one another's entries all the while. So a new layout is to leave as many maps as it can as they are.

use crate::sys::Shape;

/// The oldest layout whose maps are taken over.
pub(crate) const OLDEST: u32 = 1;

/// Turns one entry into one of the next layout; `None` leaves it behind.
pub(crate) type Entry = fn(&[u8], &[u8]) -> Option<(Vec<u8>, Vec<u8>)>;

/// What became of a map in one step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// It begins empty: what it holds, the agent writes.
    Anew,
    /// Its entries are turned one by one. The value of a map that has one for each processor is given one by one, too.
    Entries(Entry),
}

/// What changed from layout `OLDEST + index` to the next one.
const STEPS: &[&[(&str, Change)]] = &[
    // 1 to 2: a Service says from which slot on a policy for the whole cluster chooses; the configuration has the
    // namespace's cookie.
    &[("CONFIG", Change::Anew), ("SERVICES", Change::Entries(service_with_cluster_start))],
    // 2 to 3: the configuration has IPv6; connections have their table to themselves, and it forgets none.
    &[("CONFIG", Change::Anew), ("CONNTRACK", Change::Entries(without_fragments))],
];

const _: () = assert!(STEPS.len() as u32 == skep_abi::LAYOUT - OLDEST, "each layout has its step");

/// Whose contents belong to one layout alone.
const OWN: &[&str] = &["META"];

/// How a map of this layout comes by its entries.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// It is the older layout's own.
    Shared,
    /// They are copied, turned by each of these in order.
    Copied(Vec<Entry>),
    /// It has none.
    Empty,
}

/// How the map of this name, of shape `wanted`, comes by its entries from layout `layout`, where it has the shape `found`, if
/// there is one.
pub(crate) fn origin(name: &str, layout: u32, found: Option<Shape>, wanted: Shape) -> Origin {
    follow(STEPS.get((layout - OLDEST) as usize..).unwrap_or_default(), name, found, wanted)
}

fn follow(steps: &[&[(&str, Change)]], name: &str, found: Option<Shape>, wanted: Shape) -> Origin {
    let Some(found) = found.filter(|_| !OWN.contains(&name)) else { return Origin::Empty };
    let mut entries = Vec::new();
    for (_, change) in steps.iter().copied().flatten().filter(|(changed, _)| *changed == name) {
        match change {
            Change::Anew => return Origin::Empty,
            Change::Entries(turn) => entries.push(*turn),
        }
    }
    if !entries.is_empty() {
        Origin::Copied(entries)
    } else if found == wanted {
        Origin::Shared
    } else if (found.key_size, found.value_size) == (wanted.key_size, wanted.value_size) {
        Origin::Copied(Vec::new())
    } else {
        // A row is missing from the table; entries of another size would be nonsense.
        Origin::Empty
    }
}

/// One entry, turned by each in order.
pub(crate) fn turn(by: &[Entry], key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    by.iter().try_fold((key.to_vec(), value.to_vec()), |(key, value), turn| turn(&key, &value))
}

/// The fifth word, where the affinity was, is the first slot of a policy for the whole cluster: there were no slots before.
fn service_with_cluster_start(key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    const AT: usize = 16;
    let (head, tail) = value.split_at_checked(AT)?;
    let kept = tail.get(..tail.len().checked_sub(4)?)?;
    Some((key.to_vec(), [head, &[0; 4], kept].concat()))
}

/// Fragments were noted in the same table, under a kind of their own; who waits for the rest of one has lost a packet.
fn without_fragments(key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    /// Where the kind lies in a key.
    const KIND: usize = 37;
    const FRAGMENT: u8 = 6;
    (*key.get(KIND)? != FRAGMENT).then(|| (key.to_vec(), value.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::read;
    use skep_abi::conntrack::CtKind;
    use skep_abi::{Addr, CtEntry, CtKey, Service, proto};

    fn bytes<T: skep_abi::Plain>(value: &T) -> Vec<u8> {
        let at = std::ptr::from_ref(value).cast::<u8>();
        // SAFETY: a plain type's own bytes.
        #[allow(unsafe_code)]
        let bytes = unsafe { std::slice::from_raw_parts(at, size_of::<T>()) };
        bytes.to_vec()
    }

    fn shape(kind: u32, key_size: u32, value_size: u32, max_entries: u32) -> Shape {
        Shape { kind, key_size, value_size, max_entries, flags: 0 }
    }

    #[test]
    fn a_service_of_the_first_layout_has_all_its_slots() {
        // Number, generation, count, local count, affinity, flags, and two words of nothing.
        let old: Vec<u8> = [7_u32, 3, 5, 2, 600, 1, 0, 0].iter().flat_map(|w| w.to_ne_bytes()).collect();
        let (key, value) = turn(&[service_with_cluster_start], &[9; 20], &old).unwrap();
        let service: Service = read(&value);
        let wanted = Service {
            id: 7,
            generation: 3,
            count: 5,
            local_count: 2,
            cluster_start: 0,
            affinity_seconds: 600,
            flags: skep_abi::service::flags::LOCAL_ONLY,
            reserved: 0,
        };
        assert_eq!((key, service), (vec![9; 20], wanted));
        assert_eq!(service_with_cluster_start(&[], &[1; 7]), None, "what is no Service is left behind");
    }

    #[test]
    fn connections_stay_as_they_were_and_fragments_do_not_stay() {
        let addr = |last| Addr::from(std::net::Ipv4Addr::new(10, 0, 0, last));
        let entry = CtEntry { addr: addr(3), port: 80, last_seen: 5, backend: 7, ..CtEntry::default() };
        for kind in [
            CtKind::Service,
            CtKind::ServiceReply,
            CtKind::Masquerade,
            CtKind::MasqueradeReply,
            CtKind::Direct,
        ] {
            let key = CtKey::new(kind, addr(1), addr(2), 1, 2, proto::TCP);
            let turned = turn(&[without_fragments], &bytes(&key), &bytes(&entry)).unwrap();
            assert_eq!((read::<CtKey>(&turned.0), read::<CtEntry>(&turned.1)), (key, entry));
        }
        let key = CtKey { kind: 6, ..CtKey::new(CtKind::Direct, addr(1), addr(2), 1, 0, proto::UDP) };
        assert_eq!(turn(&[without_fragments], &bytes(&key), &bytes(&entry)), None);
    }

    #[test]
    fn what_is_the_same_is_shared_and_what_is_larger_is_copied() {
        let same = shape(1, 4, 8, 10);
        let of = |name, layout, found, wanted| origin(name, layout, found, wanted);
        assert!(matches!(of("PODS", 2, Some(same), same), Origin::Shared));
        assert!(matches!(of("PODS", 1, Some(same), shape(1, 4, 8, 20)), Origin::Copied(by) if by.is_empty()));
        assert!(matches!(of("PODS", 1, Some(same), shape(1, 4, 9, 10)), Origin::Empty), "nobody says how");
        assert!(matches!(of("PODS", 1, None, same), Origin::Empty));
        assert!(matches!(of("CONFIG", 2, Some(same), same), Origin::Empty), "the agent writes it");
        assert!(matches!(of("META", 2, Some(same), same), Origin::Empty));
        assert!(matches!(of("CONNTRACK", 1, Some(same), same), Origin::Copied(by) if by.len() == 1));
        assert!(matches!(of("SERVICES", 2, Some(same), same), Origin::Shared), "it changed before that");
    }

    #[test]
    fn steps_follow_one_another() {
        fn longer(key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
            Some(([key, &[1]].concat(), value.to_vec()))
        }
        fn doubled(key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
            Some((key.repeat(2), [value, &[9]].concat()))
        }
        let steps: [&[(&str, Change)]; 3] = [
            &[("A", Change::Entries(longer)), ("B", Change::Anew)],
            &[("B", Change::Entries(longer))],
            &[("A", Change::Entries(doubled))],
        ];
        let (old, new) = (shape(1, 1, 1, 10), shape(1, 4, 2, 10));
        let Origin::Copied(by) = follow(&steps, "A", Some(old), new) else { panic!("it is copied") };
        assert_eq!(turn(&by, &[5], &[6]), Some((vec![5, 1, 5, 1], vec![6, 9])));
        assert!(matches!(follow(&steps, "B", Some(old), new), Origin::Empty));
        assert!(matches!(follow(&steps[1..], "B", Some(old), old), Origin::Copied(by) if by.len() == 1));
    }
}
