//! What others said, for as long as they said it may be kept.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What was asked. Flags that change the answer are part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The name in lower case.
    pub name: Name,
    /// The type.
    pub kind: RecordType,
    /// Whether signatures were asked for.
    pub dnssec: bool,
    /// Whether the server was told not to check them.
    pub unchecked: bool,
}

/// Longest an answer is kept, whatever it says.
const LONGEST: u32 = 3600;
/// Longest it is kept that there is none.
const LONGEST_NEGATIVE: u32 = 1800;
/// What an entry costs beside its message, roughly.
const OVERHEAD: usize = 256;

/// For how many seconds an answer may be kept; none where it may not.
pub fn lifetime(message: &Message) -> Option<u32> {
    let meta = &message.metadata;
    if meta.truncation {
        return None;
    }
    let least = message.answers.iter().chain(&message.authorities).map(|record| record.ttl).min();
    let positive = meta.response_code == ResponseCode::NoError && !message.answers.is_empty();
    let seconds = match (meta.response_code, positive) {
        (ResponseCode::NoError, true) => least.unwrap_or(0).min(LONGEST),
        (ResponseCode::NoError | ResponseCode::NXDomain, _) => {
            // Without the zone's authority nobody says how long (RFC 2308, section 5).
            let minimum = message.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(soa.minimum),
                _ => None,
            });
            minimum?.min(least.unwrap_or(0)).min(LONGEST_NEGATIVE)
        }
        _ => return None,
    };
    (seconds > 0).then_some(seconds)
}

/// Makes an answer that was kept for some seconds say so.
pub fn age(message: &mut Message, seconds: u32) {
    for record in message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals) {
        record.decrement_ttl(seconds);
    }
}

struct Entry {
    message: Arc<[u8]>,
    since: Duration,
    until: Duration,
    number: u64,
}

/// A bounded store of answers in wire format. When it is full the oldest go first.
#[derive(Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
    order: VecDeque<(u64, Key)>,
    bytes: usize,
    next: u64,
    limit: usize,
}

impl Cache {
    /// A cache that takes about so many bytes of memory.
    pub fn new(limit: usize) -> Self {
        Cache { limit, ..Cache::default() }
    }

    /// How many answers it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The answer to a question, with the seconds it has been kept; none where there is none or its time is over.
    pub fn get(&mut self, key: &Key, now: Duration) -> Option<(Arc<[u8]>, u32)> {
        let entry = self.entries.get(key)?;
        if entry.until <= now {
            self.remove(&key.clone());
            return None;
        }
        let age = now.saturating_sub(entry.since).as_secs();
        Some((entry.message.clone(), u32::try_from(age).unwrap_or(u32::MAX)))
    }

    /// Keeps an answer for some seconds.
    pub fn put(&mut self, key: Key, message: Arc<[u8]>, seconds: u32, now: Duration) {
        let cost = message.len() + OVERHEAD;
        if cost > self.limit / 4 {
            return;
        }
        self.remove(&key);
        while self.bytes + cost > self.limit {
            let Some((number, oldest)) = self.order.pop_front() else { break };
            if self.entries.get(&oldest).is_some_and(|entry| entry.number == number) {
                self.remove(&oldest);
            }
        }
        let number = self.next;
        self.next += 1;
        self.bytes += cost;
        self.order.push_back((number, key.clone()));
        let until = now + Duration::from_secs(u64::from(seconds));
        self.entries.insert(key, Entry { message, since: now, until, number });
        // What was removed out of turn leaves its place behind.
        if self.order.len() > 64 + 2 * self.entries.len() {
            let entries = &self.entries;
            self.order.retain(|(number, key)| entries.get(key).is_some_and(|entry| entry.number == *number));
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.message.len() + OVERHEAD;
        }
    }
}
