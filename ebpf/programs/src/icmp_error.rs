//! ICMP errors about translated packets (path MTU, unreachable): they and the headers they quote are translated, too, so
//! that each side hears of the packets that it knows.

use aya_ebpf::programs::TcContext;
use skep_abi::{CtKind, DropReason};

use crate::family::Family;
use crate::maps::CONNTRACK;
use crate::rewrite::{self, End};
use crate::skb::{self, Packed, Packet};

#[inline(always)]
fn quoted<F: Family>(ctx: &TcContext, packet: &Packet) -> Option<&'static mut Packet> {
    if packet.tuple.proto != F::ICMP || packet.is_later_fragment() {
        return None;
    }
    let kind = ctx.load::<u8>(packet.l4 as usize).ok()?;
    if !F::is_error(kind) {
        return None;
    }
    skb::quoted::<F>(ctx, packet.l4 + 8)
}

/// Takes over what the table has for the other direction of the quoted packet; false if that is not of this kind.
#[inline(always)]
fn known(packet: &mut Packet, quoted: &Packet, kind: CtKind) -> bool {
    // SAFETY: a torn reading misdirects one error message.
    let Some(entry) = (unsafe { CONNTRACK.get(quoted.tuple.reply_key(kind)) }) else { return false };
    packet.to = entry.addr;
    packet.to_port = entry.port;
    true
}

/// An error on its way in, about a packet that left translated: what it quotes gets its first source back, which is also
/// where the error goes. Returns one, or zero for an error that is not of this kind of rewriting
/// ([`CtKind::MasqueradeReply`] or [`CtKind::Service`], by whose key the other side's packets are known).
#[inline(never)]
pub(crate) fn inward<F: Family>(ctx: &TcContext, packet: &mut Packet, kind: CtKind) -> Packed {
    let Some(quoted) = quoted::<F>(ctx, packet) else { return Packed::ok(0) };
    if !known(packet, quoted, kind) {
        return Packed::ok(0);
    }
    if rewrite::quote::<F>(ctx, packet, quoted, End::Source).is_err() {
        return Packed::err(DropReason::Malformed);
    }
    Packed::rewritten(rewrite::error::<F>(ctx, packet, End::Destination))
}

/// An error on its way out, about a packet that came in translated: what it quotes gets its first destination back, and the
/// error its source if it comes from there. Returns one, or zero for an error that is not of this kind of rewriting
/// ([`CtKind::ServiceReply`] or [`CtKind::Masquerade`]).
#[inline(never)]
pub(crate) fn outward<F: Family>(ctx: &TcContext, packet: &mut Packet, kind: CtKind) -> Packed {
    let Some(quoted) = quoted::<F>(ctx, packet) else { return Packed::ok(0) };
    if !known(packet, quoted, kind) {
        return Packed::ok(0);
    }
    if rewrite::quote::<F>(ctx, packet, quoted, End::Destination).is_err() {
        return Packed::err(DropReason::Malformed);
    }
    if !packet.tuple.src.is(&quoted.tuple.dst) {
        return Packed::ok(1);
    }
    Packed::rewritten(rewrite::error::<F>(ctx, packet, End::Source))
}
