//! Packets that come in by the uplink: answers to masqueraded connections get their pod's address back, and what is for a
//! Service (a node port, an external address) goes to a backend.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::packet::{Tuple, is_unicast_host};
use skep_abi::pod::DIR_RX;
use skep_abi::service::Origin;
use skep_abi::{Addr, Config, CtEntry, CtKind, DropReason, config::flags};

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
    let l3 = config.uplink_l2_len;
    if config.node_addr == 0 || l3 > 14 {
        return NEXT;
    }
    let Some(ip) = skb::ipv4(&ctx, l3) else { return NEXT };
    let to_pod = config.cluster_cidr.contains(ip.dst);
    if to_pod && config.cluster_cidr.contains(ip.src) || !is_unicast_host(ip.dst) {
        return NEXT;
    }
    // A packet that cannot be read is the stack's to refuse.
    let Some(packet) = skb::packet(&ctx, l3, ip) else { return NEXT };
    let entered = match packet.tuple() {
        Some(tuple) if to_pod => direct(tuple, packet.tcp_flags).unpack().map(drop),
        None if to_pod => Ok(()),
        _ => enter(&ctx, config, &packet),
    };
    match entered {
        Ok(()) => NEXT,
        Err(reason) => {
            count::dropped(skb::ifindex(&ctx), DIR_RX, reason, skb::len(&ctx));
            record!(&ctx, "from_net: dropped, reason {}", reason as u8);
            if reason == DropReason::NoBackend { reject(&ctx, l3) } else { DROP }
        }
    }
}

/// A connection that the outside opens to a pod's own address: its answers must keep that address. Addresses without a pod
/// here are nobody's to answer by.
#[inline(never)]
fn direct(tuple: &Tuple, tcp_flags: u8) -> Packed {
    let key = tuple.reply_key(CtKind::Direct);
    let now = skb::now();
    if let Some(entry) = CONNTRACK.get_ptr_mut(key) {
        // SAFETY: times and bits may be written by both directions, and either is right.
        unsafe {
            (*entry).last_seen = now;
            (*entry).state = CtEntry::next_state((*entry).state, tuple.proto, tcp_flags);
        }
        return Packed::ok(0);
    }
    // SAFETY: nothing of the value is read.
    if unsafe { ENDPOINTS.get(Addr::v4(tuple.dst)) }.is_none() {
        return Packed::ok(0);
    }
    let entry = CtEntry { last_seen: now, ..CtEntry::default() };
    match CONNTRACK.insert(key, entry, u64::from(BPF_ANY)) {
        Ok(()) => Packed::ok(0),
        Err(_) => Packed::err(DropReason::TableFull),
    }
}

#[inline(always)]
fn enter(ctx: &TcContext, config: &Config, packet: &Packet) -> Result<(), DropReason> {
    let ip = &packet.ip;
    match packet.tuple() {
        Some(tuple) if ip.dst == config.node_addr && masquerade::is_port(config, tuple.dport) => {
            let now = skb::now();
            if let Some((pod, port)) = masquerade::answer(tuple, packet.tcp_flags, now) {
                if ip.has_more_fragments() {
                    masquerade::remember_fragment(ip, End::Destination, pod, now);
                }
                return rewrite::end(ctx, packet, tuple, End::Destination, pod, port)
                    .map_err(|_| DropReason::Malformed);
            }
        }
        None if icmp_error::inward(ctx, packet, CtKind::MasqueradeReply).unpack()? != 0 => return Ok(()),
        _ => {}
    }
    if config.flags & flags::PER_PACKET_SERVICES == 0 {
        return Ok(());
    }
    let inside = config.cluster_cidr.contains(ip.src);
    let origin = if inside { Origin::Inside } else { Origin::Outside };
    translate::to_backend(ctx, packet, origin).unpack().map(|_| ())
}
