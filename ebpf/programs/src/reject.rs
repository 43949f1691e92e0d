//! Refusing packets as a closed port would: with a reset or a port unreachable, back where they came from.

use aya_ebpf::helpers::{bpf_redirect, bpf_skb_change_tail};
use aya_ebpf::programs::TcContext;
use skep_abi::packet::ETH_LEN;

use crate::family::Family;
use crate::skb::{self, DROP};

/// Turns a TCP or UDP packet, whose IP header lies at `l3`, into the answer to it and sends that out by the interface the program runs on. A packet that
/// cannot be answered is dropped.
#[inline(never)]
pub(crate) fn reject<F: Family>(ctx: &TcContext, l3: u32) -> i32 {
    answer::<F>(ctx, l3).unwrap_or(DROP)
}

#[inline(always)]
fn answer<F: Family>(ctx: &TcContext, l3: u32) -> Option<i32> {
    F::refuse(ctx, l3)?;
    if l3 == ETH_LEN {
        let [a, b] = ctx.load::<[[u8; 6]; 2]>(0).ok()?;
        ctx.store(0, &[b, a], 0).ok()?;
    }
    // SAFETY: the helper takes an index and checks it.
    Some(unsafe { bpf_redirect(skb::ifindex(ctx), 0) } as i32)
}

/// Makes the packet as long as the answer is.
#[inline(always)]
pub(crate) fn resize(ctx: &TcContext, len: u32) -> Option<()> {
    // SAFETY: the context is valid for the program's run; no pointer into the packet is held.
    (unsafe { bpf_skb_change_tail(ctx.skb.skb, len, 0) } == 0).then_some(())
}
