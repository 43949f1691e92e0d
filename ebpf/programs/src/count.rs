//! Counting what pods send, receive and lose.

use aya_ebpf::bindings::BPF_ANY;
use skep_abi::{DropCount, DropKey, DropReason};

use crate::maps::{COUNTERS, DROPS};

/// Counts a packet to the pod behind an interface. Interfaces without an entry are not counted.
#[inline(always)]
pub(crate) fn received(ifindex: u32, bytes: u32) {
    if let Some(traffic) = COUNTERS.get_ptr_mut(ifindex) {
        // SAFETY: the map holds one value a processor, and tc programs run with bottom halves off.
        unsafe {
            (*traffic).rx_packets += 1;
            (*traffic).rx_bytes += u64::from(bytes);
        }
    }
}

/// Counts a packet from the pod behind an interface.
#[inline(always)]
pub(crate) fn sent(ifindex: u32, bytes: u32) {
    if let Some(traffic) = COUNTERS.get_ptr_mut(ifindex) {
        // SAFETY: as above.
        unsafe {
            (*traffic).tx_packets += 1;
            (*traffic).tx_bytes += u64::from(bytes);
        }
    }
}

/// Counts a drop, or with interface 0 a refused connection.
#[inline(always)]
pub(crate) fn dropped(ifindex: u32, direction: u8, reason: DropReason, bytes: u32) {
    let key = DropKey { ifindex, reason: reason as u8, direction, pad: 0 };
    match DROPS.get_ptr_mut(key) {
        // SAFETY: as above; in a socket hook a preempting task on the same processor may cost one count.
        Some(count) => unsafe {
            (*count).packets += 1;
            (*count).bytes += u64::from(bytes);
        },
        None => {
            let first = DropCount { packets: 1, bytes: u64::from(bytes) };
            let _ = DROPS.insert(key, first, u64::from(BPF_ANY));
        }
    }
}
