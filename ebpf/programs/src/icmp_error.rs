//! ICMP errors about translated packets (path MTU, unreachable): they and the headers they quote are translated, too, so
//! that each side hears of the packets that it knows.

use aya_ebpf::programs::TcContext;
use skep_abi::packet::{
    ICMP_PARAMETER, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE, IP_CHECK, IP_DST, IP_SRC, Ipv4Header, L4Start,
    Tuple,
};
use skep_abi::{CtKind, DropReason, proto};

use crate::maps::CONNTRACK;
use crate::rewrite::{self, End};
use crate::skb::{Packed, Packet};

/// The packet that an error quotes.
struct Quoted {
    /// Offset of its IP header.
    l3: u32,
    /// Offset of its layer 4 header.
    l4: u32,
    tuple: Tuple,
}

#[inline(always)]
fn quoted(ctx: &TcContext, packet: &Packet) -> Option<Quoted> {
    if packet.ip.proto != proto::ICMP || packet.ip.is_later_fragment() {
        return None;
    }
    let kind = ctx.load::<u8>(packet.l4 as usize).ok()?;
    if kind != ICMP_UNREACHABLE && kind != ICMP_TIME_EXCEEDED && kind != ICMP_PARAMETER {
        return None;
    }
    let l3 = packet.l4 + 8;
    let ip = ctx.load::<Ipv4Header>(l3 as usize).ok()?;
    let l4 = l3 + ip.header_len()?;
    if ip.is_later_fragment() {
        return None;
    }
    let start = ctx.load::<L4Start>(l4 as usize).ok()?;
    Some(Quoted { l3, l4, tuple: Tuple::of(&ip, &start)? })
}

/// An error on its way in, about a packet that left translated: what it quotes gets its first source back, which is also
/// where the error goes. Returns that address, or zero for an error that is not of this kind of rewriting
/// ([`CtKind::MasqueradeReply`] or [`CtKind::Service`], by whose key the other side's packets are known).
#[inline(never)]
pub(crate) fn inward(ctx: &TcContext, packet: &Packet, kind: CtKind) -> Packed {
    let Some(quoted) = quoted(ctx, packet) else { return Packed::ok(0) };
    // SAFETY: a torn reading misdirects one error message.
    let Some(entry) = (unsafe { CONNTRACK.get(quoted.tuple.reply_key(kind)) }) else { return Packed::ok(0) };
    let (Some(addr), port) = (entry.addr.as_v4(), entry.port) else { return Packed::ok(0) };
    if quote(ctx, packet, &quoted, End::Source, addr, port).is_err()
        || rewrite::address(ctx, packet.l3, End::Destination, packet.ip.dst, addr).is_err()
    {
        return Packed::err(DropReason::Malformed);
    }
    Packed::ok(addr)
}

/// An error on its way out, about a packet that came in translated: what it quotes gets its first destination back, and the
/// error its source if it comes from there. Returns one, or zero for an error that is not of this kind of rewriting
/// ([`CtKind::ServiceReply`] or [`CtKind::Masquerade`]).
#[inline(never)]
pub(crate) fn outward(ctx: &TcContext, packet: &Packet, kind: CtKind) -> Packed {
    let Some(quoted) = quoted(ctx, packet) else { return Packed::ok(0) };
    // SAFETY: as above.
    let Some(entry) = (unsafe { CONNTRACK.get(quoted.tuple.reply_key(kind)) }) else { return Packed::ok(0) };
    let (Some(addr), port) = (entry.addr.as_v4(), entry.port) else { return Packed::ok(0) };
    if quote(ctx, packet, &quoted, End::Destination, addr, port).is_err() {
        return Packed::err(DropReason::Malformed);
    }
    if packet.ip.src == quoted.tuple.dst
        && rewrite::address(ctx, packet.l3, End::Source, packet.ip.src, addr).is_err()
    {
        return Packed::err(DropReason::Malformed);
    }
    Packed::ok(1)
}

/// Rewrites one end of the quoted packet. Its header's own checksum makes up for the new address, so the message's checksum
/// sees the port only.
#[inline(always)]
fn quote(
    ctx: &TcContext,
    packet: &Packet,
    quoted: &Quoted,
    end: End,
    addr: u32,
    port: u16,
) -> Result<(), i64> {
    let tuple = &quoted.tuple;
    let (old_addr, old_port, addr_at, port_at) = match end {
        End::Source => (tuple.src, tuple.sport, IP_SRC, tuple.sport_offset()),
        End::Destination => (tuple.dst, tuple.dport, IP_DST, tuple.dport_offset()),
    };
    ctx.l3_csum_replace((quoted.l3 + IP_CHECK) as usize, u64::from(old_addr), u64::from(addr), 4)?;
    ctx.store((quoted.l3 + addr_at) as usize, &addr, 0)?;
    ctx.store((quoted.l4 + port_at) as usize, &port, 0)?;
    ctx.l4_csum_replace((packet.l4 + 2) as usize, u64::from(old_port), u64::from(port), 2)
}
