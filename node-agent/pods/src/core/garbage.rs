//! Which images a node can do without when its disk fills up. Source: kubelet `images/image_gc_manager.go`.

use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// When images are removed, and down to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Used hundredths of the file system from which on images go; 100 for never.
    pub high: u8,
    /// Used hundredths down to which they go.
    pub low: u8,
    /// No image goes before it has been here so long.
    pub min_age: SignedDuration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { high: 85, low: 80, min_age: SignedDuration::from_secs(120) }
    }
}

/// An image as the runtime lists it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// Its identifier.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// The runtime is told to keep it.
    pub pinned: bool,
}

#[derive(Debug, Clone)]
struct Record {
    found: Timestamp,
    used: Option<Timestamp>,
    size: u64,
    pinned: bool,
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes that can still be written.
    pub available: u64,
}

impl Disk {
    /// Used hundredths, rounded up; a file system without size counts as empty.
    pub fn used_percent(self) -> u64 {
        if self.capacity == 0 {
            return 0;
        }
        let free = u128::from(self.available.min(self.capacity)) * 100 / u128::from(self.capacity);
        100 - u64::try_from(free).unwrap_or(100)
    }
}

/// What is known of the node's images.
#[derive(Debug, Clone, Default)]
pub struct Images {
    records: BTreeMap<String, Record>,
}

impl Images {
    /// Notes what is here and what containers use (by identifier or digest).
    pub fn note(&mut self, here: &[Listed], in_use: &BTreeSet<String>, now: Timestamp) {
        self.records.retain(|id, _| here.iter().any(|i| i.id == *id));
        for i in here {
            let r = self.records.entry(i.id.clone()).or_insert(Record {
                found: now,
                used: None,
                size: i.size,
                pinned: i.pinned,
            });
            (r.size, r.pinned) = (i.size, i.pinned);
            if in_use.contains(&i.id) {
                r.used = Some(now);
            }
        }
    }

    /// Bytes to be freed, 0 while there is room enough.
    pub fn wanted(disk: Disk, policy: &Policy) -> u64 {
        if policy.high >= 100 || disk.used_percent() < u64::from(policy.high) {
            return 0;
        }
        let keep_free = u128::from(disk.capacity) * u128::from(100 - policy.low.min(100)) / 100;
        u64::try_from(keep_free).unwrap_or(u64::MAX).saturating_sub(disk.available)
    }

    /// The images to remove for so many bytes, the longest unused first, with what each takes; none that is used `now`.
    pub fn surplus(&self, bytes: u64, policy: &Policy, now: Timestamp) -> Vec<(String, u64)> {
        let mut turn: Vec<(&String, &Record)> = self
            .records
            .iter()
            .filter(|(_, r)| {
                !r.pinned && r.used.is_none_or(|t| t < now) && now.duration_since(r.found) >= policy.min_age
            })
            .collect();
        turn.sort_by_key(|(_, r)| (r.used, r.found));
        let mut freed = 0u64;
        let mut out = Vec::new();
        for (id, r) in turn {
            if freed >= bytes {
                break;
            }
            freed = freed.saturating_add(r.size);
            out.push((id.clone(), r.size));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    fn here(names: &[&str]) -> Vec<Listed> {
        names.iter().map(|n| Listed { id: (*n).into(), size: 10, pinned: *n == "pinned" }).collect()
    }

    fn used(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn room_is_made_from_the_high_mark_down_to_the_low_one() {
        let p = Policy::default();
        let disk = |available| Disk { capacity: 1000, available };
        for (available, want) in [(1000, 0), (160, 0), (151, 49), (150, 50), (0, 200), (2000, 0)] {
            assert_eq!(Images::wanted(disk(available), &p), want, "{available}");
        }
        assert_eq!(Images::wanted(Disk { capacity: 0, available: 0 }, &p), 0);
        assert_eq!(Images::wanted(disk(0), &Policy { high: 100, ..p }), 0);
    }

    #[test]
    fn the_longest_unused_go_first_and_some_never() {
        let p = Policy::default();
        let mut i = Images::default();
        i.note(&here(&["a", "b", "c", "pinned"]), &used(&["a", "b", "c"]), t(0));
        i.note(&here(&["a", "b", "c", "pinned"]), &used(&["a", "c"]), t(50));
        i.note(&here(&["a", "b", "c", "d", "pinned", "young"]), &used(&["c"]), t(100));
        i.note(&here(&["a", "b", "c", "d", "pinned", "young", "x"]), &used(&["c"]), t(210));
        // x has just come, c is used, d was never used.
        let ids =
            |bytes: u64, now: i64| i.surplus(bytes, &p, t(now)).into_iter().map(|x| x.0).collect::<Vec<_>>();
        assert_eq!(ids(1000, 210), ["b", "a"], "d and young are not two minutes old");
        assert_eq!(ids(1000, 225), ["d", "young", "b", "a", "c"]);
        assert_eq!(ids(15, 225), ["d", "young"]);
        assert_eq!(ids(0, 225), Vec::<String>::new());
        i.note(&here(&["a"]), &used(&["a"]), t(300));
        assert_eq!(i.surplus(1000, &p, t(300)), []);
        assert_eq!(i.surplus(5, &p, t(301)), [("a".to_owned(), 10)]);
    }
}
