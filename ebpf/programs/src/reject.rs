//! Refusing packets as a closed port would: with a reset or a port unreachable, back where they came from.

use aya_ebpf::helpers::{bpf_redirect, bpf_skb_change_tail};
use aya_ebpf::programs::TcContext;
use skep_abi::packet::{ETH_LEN, L4Start};
use skep_abi::proto;
use skep_abi::reject::{RESET_LEN, TcpStart, UNREACHABLE_LEN, reset, unreachable};

use crate::skb::{self, DROP};

/// Turns a TCP or UDP packet, whose IP header lies at `l3`, into the answer to it and sends that out by the interface the program runs on. A packet that
/// cannot be answered is dropped.
#[inline(never)]
pub(crate) fn reject(ctx: &TcContext, l3: u32) -> i32 {
    answer(ctx, l3).unwrap_or(DROP)
}

#[inline(always)]
fn answer(ctx: &TcContext, l3: u32) -> Option<i32> {
    let ip = skb::ipv4(ctx, l3)?;
    if ip.header_len()? != 20 {
        return None; // options would have to be quoted
    }
    let (at, l4) = (l3 as usize, l3 as usize + 20);
    if ip.proto == proto::TCP {
        let tcp = ctx.load::<TcpStart>(l4).ok()?;
        let bytes = reset(&ip, &tcp)?;
        resize(ctx, l3 + RESET_LEN as u32)?;
        ctx.store(at, &bytes, 0).ok()?;
    } else {
        let start = ctx.load::<L4Start>(l4).ok()?;
        let bytes = unreachable(&ip, &start);
        resize(ctx, l3 + UNREACHABLE_LEN as u32)?;
        ctx.store(at, &bytes, 0).ok()?;
    }
    if l3 == ETH_LEN {
        let [a, b] = ctx.load::<[[u8; 6]; 2]>(0).ok()?;
        ctx.store(0, &[b, a], 0).ok()?;
    }
    // SAFETY: the helper takes an index and checks it.
    Some(unsafe { bpf_redirect(skb::ifindex(ctx), 0) } as i32)
}

#[inline(always)]
fn resize(ctx: &TcContext, len: u32) -> Option<()> {
    // SAFETY: the context is valid for the program's run; no pointer into the packet is held.
    (unsafe { bpf_skb_change_tail(ctx.skb.skb, len, 0) } == 0).then_some(())
}
