//! Writing addresses and ports into packets, checksums included. What is written is [`Packet::to`] and [`Packet::to_port`];
//! the packet's tuple says what it has afterwards.

use aya_ebpf::bindings::BPF_F_MARK_MANGLED_0;
use aya_ebpf::programs::TcContext;
use skep_abi::proto;

use crate::family::Family;
use crate::skb::Packet;

/// Which end of a packet is rewritten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// Replaces one address of a packet without a layer 4 header.
#[inline(always)]
pub(crate) fn address<F: Family>(ctx: &TcContext, packet: &mut Packet, end: End) -> Result<(), i64> {
    match end {
        End::Source => F::write_bare_address(ctx, packet.l3, end, &packet.tuple.src, &packet.to)?,
        End::Destination => F::write_bare_address(ctx, packet.l3, end, &packet.tuple.dst, &packet.to)?,
    }
    replace_address(packet, end);
    Ok(())
}

/// Replaces one address and its port (or the ICMP identifier) in a packet that has a layer 4 header.
#[inline(always)]
pub(crate) fn end<F: Family>(ctx: &TcContext, packet: &mut Packet, end: End) -> Result<(), i64> {
    let tuple = &packet.tuple;
    let (old, old_port, port_offset) = match end {
        End::Source => (&tuple.src, tuple.sport, tuple.sport_offset()),
        End::Destination => (&tuple.dst, tuple.dport, tuple.dport_offset()),
    };
    let (check, protocol, port) = ((packet.l4 + tuple.check_offset()) as usize, tuple.proto, packet.to_port);
    // A UDP checksum of zero means "none" and stays so. (Over IPv6 only tunnels may do so, RFC 6936.)
    let udp = if protocol == proto::UDP { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
    F::sum_address(ctx, check, protocol, old, &packet.to, udp)?;
    F::write_address(ctx, packet.l3, end, old, &packet.to)?;
    if old_port != port {
        ctx.l4_csum_replace(check, u64::from(old_port), u64::from(port), udp | 2)?;
        ctx.store((packet.l4 + port_offset) as usize, &port, 0)?;
    }
    replace_address(packet, end);
    match end {
        End::Source => packet.tuple.sport = port,
        End::Destination => packet.tuple.dport = port,
    }
    Ok(())
}

/// Replaces one address of an ICMP error.
#[inline(always)]
pub(crate) fn error<F: Family>(ctx: &TcContext, packet: &mut Packet, side: End) -> Result<(), i64> {
    packet.to_port = 0; // as its ports are
    end::<F>(ctx, packet, side)
}

/// Replaces one address and its port in the packet that an ICMP error quotes by the ones that the error has for it.
#[inline(always)]
pub(crate) fn quote<F: Family>(
    ctx: &TcContext,
    packet: &Packet,
    quoted: &Packet,
    end: End,
) -> Result<(), i64> {
    let tuple = &quoted.tuple;
    let (old, old_port, port_at) = match end {
        End::Source => (&tuple.src, tuple.sport, tuple.sport_offset()),
        End::Destination => (&tuple.dst, tuple.dport, tuple.dport_offset()),
    };
    let check = (packet.l4 + 2) as usize;
    F::write_quoted_address(ctx, check, quoted.l3, end, old, &packet.to)?;
    ctx.store((quoted.l4 + port_at) as usize, &packet.to_port, 0)?;
    ctx.l4_csum_replace(check, u64::from(old_port), u64::from(packet.to_port), 2)
}

#[inline(always)]
fn replace_address(packet: &mut Packet, end: End) {
    match end {
        End::Source => packet.tuple.src = packet.to,
        End::Destination => packet.tuple.dst = packet.to,
    }
}
