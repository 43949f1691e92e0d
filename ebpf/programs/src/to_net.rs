//! Packets that leave by the uplink: those of pods to places outside the cluster get the node's address.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::packet::{ICMP_ECHO_REPLY, is_unicast_host};
use skep_abi::pod::DIR_TX;
use skep_abi::{Config, CtKind, DropReason, proto};

use crate::maps::{CONNTRACK, config};
use crate::masquerade::{self, Failure};
use crate::rewrite::{self, End};
use crate::skb::{self, DROP, NEXT, Packet};
use crate::{count, record};

/// Egress of the uplink.
#[classifier]
fn skep_to_net(ctx: TcContext) -> i32 {
    record!(&ctx, "to_net: interface {} {} bytes", skb::ifindex(&ctx), skb::len(&ctx));
    let Some(config) = config() else { return NEXT };
    let l3 = config.uplink_l2_len;
    if config.node_addr == 0 || l3 > 14 {
        return NEXT;
    }
    let Some(ip) = skb::ipv4(&ctx, l3) else { return NEXT };
    let leaves = config.cluster_cidr.contains(ip.src) && !config.cluster_cidr.contains(ip.dst);
    if !leaves || !is_unicast_host(ip.dst) {
        return NEXT;
    }
    let verdict = match skb::packet(&ctx, l3, ip) {
        Some(packet) => leave(&ctx, config, &packet),
        None => Err(DropReason::Malformed),
    };
    match verdict {
        Ok(()) => NEXT,
        Err(reason) => {
            count::dropped(skb::ifindex(&ctx), DIR_TX, reason, skb::len(&ctx));
            record!(&ctx, "to_net: dropped, reason {}", reason as u8);
            DROP
        }
    }
}

#[inline(always)]
fn leave(ctx: &TcContext, config: &Config, packet: &Packet) -> Result<(), DropReason> {
    let ip = &packet.ip;
    let Some(tuple) = &packet.tuple else {
        if ip.is_later_fragment() {
            // Where the first fragment has not been seen, it is yet to come, or left by another way.
            let new = masquerade::fragment(ip.src, ip.dst, ip.id, ip.proto).unwrap_or(config.node_addr);
            if new != 0 {
                rewrite::address(ctx, packet.l3, End::Source, ip.src, new)
                    .map_err(|_| DropReason::Malformed)?;
            }
        }
        // Other protocols have no port to tell connections apart by: they leave as they are.
        return Ok(());
    };
    if tuple.proto == proto::ICMP && tuple.icmp_type == ICMP_ECHO_REPLY {
        return Ok(());
    }
    let now = skb::now();
    if let Some(entry) = CONNTRACK.get_ptr_mut(tuple.key(CtKind::Direct)) {
        // SAFETY: a time may be written by both directions, and either is right.
        unsafe { (*entry).last_seen = now };
        if ip.has_more_fragments() {
            masquerade::remember_fragment(ip.src, ip.dst, ip.id, ip.proto, 0, now);
        }
        return Ok(());
    }
    let port = match masquerade::port_for(config, tuple, packet.tcp_flags, now) {
        Ok(port) => port,
        Err(Failure::NoPort) => return Err(DropReason::NoPort),
        Err(Failure::NoConntrack) => return Err(DropReason::NoConntrack),
    };
    if ip.has_more_fragments() {
        masquerade::remember_fragment(ip.src, ip.dst, ip.id, ip.proto, config.node_addr, now);
    }
    rewrite::end(ctx, packet, tuple, End::Source, config.node_addr, port).map_err(|_| DropReason::Malformed)
}
