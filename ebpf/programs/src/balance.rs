//! From a front end to a backend: the only place where one is chosen.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use skep_abi::{Backend, Service, ServiceKey, SlotKey, service::select};

use crate::maps::{BACKENDS, SERVICES, SLOTS};

/// What an address stands for.
pub(crate) enum Choice {
    /// No Service has it: leave the packet or call alone.
    NotAService,
    /// A Service without a usable backend.
    NoBackend,
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

/// How often a Service is read again when its slots were removed between two look-ups: once is enough, since
/// the agent removes the old generation only after the Service names the new one.
const READS: u32 = 3;

/// Chooses a backend for a new connection to a front end.
#[inline(always)]
pub(crate) fn choose(key: &ServiceKey) -> Choice {
    for _ in 0..READS {
        // SAFETY: BPF_F_NO_PREALLOC: an element is freed only after a grace period, and replaced whole.
        let Some(service) = (unsafe { SERVICES.get(key) }) else { return Choice::NotAService };
        if let Some(chosen) = pick(service) {
            return Choice::Backend(chosen);
        }
        if service.eligible() == 0 {
            return Choice::NoBackend;
        }
    }
    Choice::NoBackend
}

/// One attempt at a backend of a Service.
#[inline(always)]
fn pick(service: &Service) -> Option<Chosen> {
    // SAFETY: the helper has no precondition.
    let random = unsafe { bpf_get_prandom_u32() };
    let index = select(random, service.eligible())?;
    let slot = SlotKey { service: service.id, generation: service.generation, index };
    // SAFETY: as in `choose`.
    let id = unsafe { SLOTS.get(slot) }?;
    backend(*id, service.id)
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
