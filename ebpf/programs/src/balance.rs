//! From a front end to a backend: the only place where one is chosen.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::maps::lpm_trie::Key;
use skep_abi::addr::V4_MAPPED_WORD;
use skep_abi::service::{Origin, backend_flags, client_word, flags, select};
use skep_abi::{Addr, Affinity, AffinityKey, Backend, Range, Service, ServiceKey, SlotKey};

use crate::maps::{AFFINITY, BACKENDS, NODE_ADDRS, RANGES, SERVICES, SLOTS};
use crate::skb;

/// What an address stands for.
pub(crate) enum Choice {
    /// No Service has it: leave the packet or call alone.
    NotAService,
    /// A Service without a usable backend: refuse.
    NoBackend,
    /// A Service whose policy allows backends on this node alone, and there is none: say nothing.
    NoLocalBackend,
    /// The client is in none of the Service's source ranges: say nothing.
    OutOfRange,
    /// Send here.
    Backend(Chosen),
}

/// A backend that was chosen.
#[derive(Clone, Copy)]
pub(crate) struct Chosen {
    /// Its number.
    pub(crate) id: u32,
    /// Where it is.
    pub(crate) backend: Backend,
}

/// Who asks. A hook knows its clients in its own way, and asks for what it needs when it needs it.
pub(crate) trait Client {
    /// Where it is.
    fn origin(&self) -> Origin;
    /// What its affinity goes by.
    fn key(&self) -> Addr;
    /// Its address, for Services that look at it; none where it is not known yet.
    fn addr(&self) -> Option<Addr>;
    /// Whether an address that no front end has by itself is one of the node's own, as this client sees it.
    fn is_node(&self, addr: &Addr) -> bool {
        // SAFETY: BPF_F_NO_PREALLOC: an element is freed only after a grace period, and replaced whole.
        unsafe { NODE_ADDRS.get(addr) }.is_some()
    }
}

/// How often a Service is read again when its slots were removed between two look-ups: once is enough, since
/// the agent removes the old generation only after the Service names the new one.
const READS: u32 = 3;

/// Chooses a backend for a new connection to an address. `port` is in network byte order.
#[inline(always)]
pub(crate) fn choose(addr: Addr, port: u16, protocol: u8, client: &impl Client) -> Choice {
    let mut key = ServiceKey::new(addr, port, protocol);
    // SAFETY: as in `Client::is_node`.
    if unsafe { SERVICES.get(key) }.is_none() {
        if !client.is_node(&addr) {
            return Choice::NotAService;
        }
        // The words one by one: an array of zeros would be written by a call, which has a price in stack.
        key.addr.words[0] = 0;
        key.addr.words[1] = 0;
        key.addr.words[2] = if addr.is_v4() { V4_MAPPED_WORD } else { 0 };
        key.addr.words[3] = 0;
    }
    for _ in 0..READS {
        // SAFETY: as above.
        let Some(service) = (unsafe { SERVICES.get(key) }) else { return Choice::NotAService };
        if service.flags & flags::RESTRICTED != 0 && !in_range(service, client) {
            return Choice::OutOfRange;
        }
        if let Some(chosen) = pick(service, client) {
            return Choice::Backend(chosen);
        }
        if service.count == 0 {
            return Choice::NoBackend;
        }
        if service.eligible(client.origin()).1 == 0 {
            return Choice::NoLocalBackend;
        }
    }
    Choice::NoBackend
}

#[inline(always)]
fn in_range(service: &Service, client: &impl Client) -> bool {
    match client.addr() {
        Some(addr) => {
            let key = Key::new(Range::FULL, Range { service: service.id, addr });
            RANGES.get(key).is_some()
        }
        None => false,
    }
}

/// One attempt at a backend of a Service.
#[inline(always)]
fn pick(service: &Service, client: &impl Client) -> Option<Chosen> {
    let origin = client.origin();
    let mut write = BPF_ANY;
    if service.affinity_seconds != 0 {
        let key = AffinityKey { client: client.key(), service: service.id };
        let now = skb::now();
        match AFFINITY.get_ptr_mut(key) {
            // SAFETY: an element that is reused while it is read shows another pair of numbers, and the table of
            // backends says whether the backend is one of this Service; a time may be written by two processors, and
            // either is right.
            Some(kept) => unsafe {
                if (*kept).holds(service.affinity_seconds, now)
                    && let Some(chosen) = backend((*kept).backend, service.id)
                    && (!service.only_local(origin) || chosen.backend.flags & backend_flags::LOCAL != 0)
                {
                    (*kept).last_seen = now;
                    return Some(chosen);
                }
            },
            None => write = BPF_NOEXIST,
        }
    }
    let word = if service.flags & flags::CONSISTENT != 0 {
        client_word(&client.key())
    } else {
        // SAFETY: the helper has no precondition.
        unsafe { bpf_get_prandom_u32() }
    };
    let (first, count) = service.eligible(origin);
    let index = first + select(word, count)?;
    let slot = SlotKey { service: service.id, generation: service.generation, index };
    // SAFETY: as in `choose`.
    let id = *unsafe { SLOTS.get(slot) }?;
    let chosen = backend(id, service.id)?;
    if service.affinity_seconds != 0 {
        let key = AffinityKey { client: client.key(), service: service.id };
        let kept = Affinity { backend: id, last_seen: skb::now() };
        // Of two first connections at once the second finds what the first one chose, in the next attempt.
        if AFFINITY.insert(key, kept, u64::from(write)).is_err() && write == BPF_NOEXIST {
            return None;
        }
    }
    Some(chosen)
}

/// The backend of a number, if the Service still sends there.
#[inline(always)]
pub(crate) fn backend(id: u32, service: u32) -> Option<Chosen> {
    // SAFETY: as in `choose`.
    let backend = unsafe { BACKENDS.get(id) }?;
    if backend.service != service {
        return None;
    }
    Some(Chosen { id, backend: *backend })
}
