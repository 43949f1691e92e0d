//! Writing addresses and ports into packets, checksums included.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::programs::TcContext;
use skep_abi::packet::{IP_CHECK, IP_DST, IP_SRC, Tuple};
use skep_abi::proto;

use crate::skb::Packet;

/// Which end of a packet is rewritten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// Replaces one address in the IP header, and nothing behind it.
#[inline(always)]
pub(crate) fn address(ctx: &TcContext, l3: u32, end: End, old: u32, new: u32) -> Result<(), i64> {
    ctx.l3_csum_replace((l3 + IP_CHECK) as usize, u64::from(old), u64::from(new), 4)?;
    let offset = l3 + if end == End::Source { IP_SRC } else { IP_DST };
    ctx.store(offset as usize, &new, 0)
}

/// Replaces one address and its port (or the ICMP identifier) in a packet that has a layer 4 header.
#[inline(always)]
pub(crate) fn end(
    ctx: &TcContext,
    packet: &Packet,
    tuple: &Tuple,
    end: End,
    addr: u32,
    port: u16,
) -> Result<(), i64> {
    let (old_addr, old_port, port_offset) = match end {
        End::Source => (tuple.src, tuple.sport, tuple.sport_offset()),
        End::Destination => (tuple.dst, tuple.dport, tuple.dport_offset()),
    };
    let check = (packet.l4 + tuple.check_offset()) as usize;
    // A UDP checksum of zero means "none" and stays so.
    let udp = if tuple.proto == proto::UDP { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
    if tuple.proto != proto::ICMP {
        let flags = udp | u64::from(BPF_F_PSEUDO_HDR) | 4;
        ctx.l4_csum_replace(check, u64::from(old_addr), u64::from(addr), flags)?;
    }
    if old_port != port {
        ctx.l4_csum_replace(check, u64::from(old_port), u64::from(port), udp | 2)?;
        ctx.store((packet.l4 + port_offset) as usize, &port, 0)?;
    }
    address(ctx, packet.l3, end, old_addr, addr)
}
