//! Packets that leave by the uplink: answers of Services get the address back that was asked, those of pods to places
//! outside the cluster the node's address, and those from outside to backends on other nodes as well, so that the answer
//! comes back here.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::conntrack::state;
use skep_abi::packet::{ICMP_ECHO_REPLY, Tuple, is_unicast_host};
use skep_abi::pod::DIR_TX;
use skep_abi::{Addr, Config, CtEntry, CtKind, DropReason, ServiceKey, proto};

use crate::maps::{CONNTRACK, SERVICES, config};
use crate::rewrite::{self, End};
use crate::skb::{self, DROP, NEXT, Packet};
use crate::{count, icmp_error, masquerade, record, translate};

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
    let of_pod = config.cluster_cidr.contains(ip.src);
    if of_pod && config.cluster_cidr.contains(ip.dst) || !is_unicast_host(ip.dst) {
        return NEXT;
    }
    let verdict = match skb::packet(&ctx, l3, ip) {
        Some(packet) => leave(&ctx, config, &packet, of_pod),
        None if of_pod => Err(DropReason::Malformed),
        None => Ok(()),
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
fn leave(ctx: &TcContext, config: &Config, packet: &Packet, of_pod: bool) -> Result<(), DropReason> {
    let ip = &packet.ip;
    if translate::from_backend(ctx, packet)? {
        return Ok(());
    }
    let Some(tuple) = packet.tuple() else {
        if !ip.is_later_fragment() {
            icmp_error::outward(ctx, packet, CtKind::Masquerade).unpack()?;
        } else if of_pod {
            // Where the first fragment has not been seen, it is yet to come, or left by another way.
            rewrite::address(ctx, packet.l3, End::Source, ip.src, config.node_addr)
                .map_err(|_| DropReason::Malformed)?;
        }
        // Other protocols have no port to tell connections apart by: they leave as they are.
        return Ok(());
    };
    if of_pod {
        if tuple.proto == proto::ICMP && tuple.icmp_type == ICMP_ECHO_REPLY {
            return Ok(());
        }
        if is_direct(packet, tuple) {
            return Ok(());
        }
    } else if config.service_cidr.contains(ip.dst) {
        return stays(tuple);
    } else if ip.src == config.node_addr || !translate::was_sent_to_backend(tuple) {
        return Ok(());
    }
    masquerade::leave(ctx, config, packet)
}

/// What is for a Service's own address and was not translated is not for the network: it has nowhere to go there.
#[inline(always)]
fn stays(tuple: &Tuple) -> Result<(), DropReason> {
    let key = ServiceKey::new(Addr::v4(tuple.dst), tuple.dport, tuple.proto);
    // SAFETY: nothing of the value is read.
    match unsafe { SERVICES.get(key) } {
        Some(_) => Err(DropReason::NoLocalBackend),
        None => Ok(()),
    }
}

/// Whether the connection was opened from outside to the pod's own address.
#[inline(always)]
fn is_direct(packet: &Packet, tuple: &Tuple) -> bool {
    let Some(entry) = CONNTRACK.get_ptr_mut(tuple.key(CtKind::Direct)) else { return false };
    let now = skb::now();
    // SAFETY: times and bits may be written by both directions, and either is right.
    unsafe {
        (*entry).last_seen = now;
        let state = CtEntry::next_state((*entry).state, tuple.proto, packet.tcp_flags);
        (*entry).state = state | state::REPLIED;
    }
    let ip = &packet.ip;
    if ip.has_more_fragments() {
        masquerade::remember_fragment(ip, End::Source, 0, now);
    }
    true
}
