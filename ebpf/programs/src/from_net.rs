//! Packets that come in by the uplink: answers to masqueraded connections get their pod's address back, and what is for a
//! Service (a node port, an external address) goes to a backend.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::pod::DIR_RX;
use skep_abi::service::Origin;
use skep_abi::{Config, CtEntry, CtKind, DropReason, config::flags};

use crate::family::Family;
use crate::ipv4::V4;
use crate::ipv6::V6;
use crate::maps::{CONNTRACK, ENDPOINTS, config};
use crate::reject::reject;
use crate::rewrite::{self, End};
use crate::skb::{self, DROP, NEXT, Packed, Packet};
use crate::{count, icmp_error, masquerade, record, translate};

/// Ingress of the uplink.
#[classifier]
fn skep_from_net(ctx: TcContext) -> i32 {
    record!(&ctx, "from_net: interface {} {} bytes", skb::ifindex(&ctx), skb::len(&ctx));
    let Some(config) = config() else { return NEXT };
    match ctx.skb.protocol() {
        V4::ETHERTYPE => from_net::<V4>(&ctx, config),
        V6::ETHERTYPE => from_net::<V6>(&ctx, config),
        _ => NEXT,
    }
}

#[inline(always)]
fn from_net<F: Family>(ctx: &TcContext, config: &Config) -> i32 {
    let l3 = config.uplink_l2_len;
    if !F::has_node(config) || l3 > 14 {
        return NEXT;
    }
    let Some(packet) = skb::network::<F>(ctx, l3) else { return NEXT };
    let to_pod = F::is_pod(config, &packet.tuple.dst);
    if to_pod && F::is_pod(config, &packet.tuple.src) || !F::is_unicast_host(&packet.tuple.dst) {
        return NEXT;
    }
    // A packet that cannot be read is the stack's to refuse.
    if !skb::transport::<F>(ctx, packet) {
        return NEXT;
    }
    let entered = if to_pod { direct(packet).unpack().map(drop) } else { enter::<F>(ctx, config, packet) };
    match entered {
        Ok(()) => NEXT,
        Err(reason) => {
            count::dropped(skb::ifindex(ctx), DIR_RX, reason, skb::len(ctx));
            record!(ctx, "from_net: dropped, reason {}", reason as u8);
            if reason == DropReason::NoBackend { reject::<F>(ctx, l3) } else { DROP }
        }
    }
}

/// A connection that the outside opens to a pod's own address: its answers must keep that address. Addresses without a pod
/// here are nobody's to answer by.
#[inline(never)]
fn direct(packet: &Packet) -> Packed {
    if !packet.has_ports() {
        return Packed::ok(0);
    }
    let tuple = &packet.tuple;
    let key = tuple.reply_key(CtKind::Direct);
    let now = skb::now();
    if let Some(entry) = CONNTRACK.get_ptr_mut(key) {
        // SAFETY: times and bits may be written by both directions, and either is right.
        unsafe {
            (*entry).last_seen = now;
            (*entry).state = CtEntry::next_state((*entry).state, tuple.proto, packet.tcp_flags);
        }
        return Packed::ok(0);
    }
    // SAFETY: nothing of the value is read.
    if unsafe { ENDPOINTS.get(&tuple.dst) }.is_none() {
        return Packed::ok(0);
    }
    let entry = CtEntry { last_seen: now, ..CtEntry::default() };
    match CONNTRACK.insert(key, entry, u64::from(BPF_ANY)) {
        Ok(()) => Packed::ok(0),
        Err(_) => Packed::err(DropReason::TableFull),
    }
}

#[inline(always)]
fn enter<F: Family>(ctx: &TcContext, config: &Config, packet: &mut Packet) -> Result<(), DropReason> {
    if packet.has_ports() {
        let (to_node, port) = (packet.tuple.dst.is(&F::node(config)), packet.tuple.dport);
        let now = skb::now();
        if to_node && masquerade::is_port(config, port) && masquerade::answer(packet, now) != 0 {
            if packet.has_more_fragments() {
                masquerade::remember_fragment(packet, End::Destination, now);
            }
            return rewrite::end::<F>(ctx, packet, End::Destination).map_err(|_| DropReason::Malformed);
        }
    } else if icmp_error::inward::<F>(ctx, packet, CtKind::MasqueradeReply).unpack()? != 0 {
        return Ok(());
    }
    if config.flags & flags::PER_PACKET_SERVICES == 0 {
        return Ok(());
    }
    let inside = F::is_pod(config, &packet.tuple.src);
    let origin = if inside { Origin::Inside } else { Origin::Outside };
    translate::to_backend::<F>(ctx, packet, origin).unpack().map(|_| ())
}
