//! Packets that leave by the uplink: answers of Services get the address back that was asked, those of pods to places
//! outside the cluster the node's address, and those from outside to backends on other nodes as well, so that the answer
//! comes back here.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::conntrack::state;
use skep_abi::packet::Tuple;
use skep_abi::pod::DIR_TX;
use skep_abi::{Addr, Config, CtEntry, CtKind, DropReason, ServiceKey};

use crate::family::Family;
use crate::ipv4::V4;
use crate::ipv6::V6;
use crate::maps::{CONNTRACK, SERVICES, config};
use crate::rewrite::{self, End};
use crate::skb::{self, DROP, NEXT, Packet};
use crate::{count, icmp_error, masquerade, record, translate};

/// Egress of the uplink.
#[classifier]
fn skep_to_net(ctx: TcContext) -> i32 {
    record!(&ctx, "to_net: interface {} {} bytes", skb::ifindex(&ctx), skb::len(&ctx));
    let Some(config) = config() else { return NEXT };
    match ctx.skb.protocol() {
        V4::ETHERTYPE => to_net::<V4>(&ctx, config),
        V6::ETHERTYPE => to_net::<V6>(&ctx, config),
        _ => NEXT,
    }
}

#[inline(always)]
fn to_net<F: Family>(ctx: &TcContext, config: &Config) -> i32 {
    let l3 = config.uplink_l2_len;
    if !F::has_node(config) || l3 > 14 {
        return NEXT;
    }
    let Some(packet) = skb::network::<F>(ctx, l3) else { return NEXT };
    let of_pod = F::is_pod(config, &packet.tuple.src);
    if of_pod && F::is_pod(config, &packet.tuple.dst) || !F::is_unicast_host(&packet.tuple.dst) {
        return NEXT;
    }
    let verdict = if skb::transport::<F>(ctx, packet) {
        leave::<F>(ctx, config, packet, of_pod)
    } else if of_pod {
        Err(DropReason::Malformed)
    } else {
        Ok(())
    };
    match verdict {
        Ok(()) => NEXT,
        Err(reason) => {
            count::dropped(skb::ifindex(ctx), DIR_TX, reason, skb::len(ctx));
            record!(ctx, "to_net: dropped, reason {}", reason as u8);
            DROP
        }
    }
}

#[inline(always)]
fn leave<F: Family>(
    ctx: &TcContext,
    config: &Config,
    packet: &mut Packet,
    of_pod: bool,
) -> Result<(), DropReason> {
    if translate::from_backend::<F>(ctx, packet).unpack()? != 0 {
        return Ok(());
    }
    if !packet.has_ports() {
        if !packet.is_later_fragment() {
            icmp_error::outward::<F>(ctx, packet, CtKind::Masquerade).unpack()?;
        } else if of_pod {
            // Where the first fragment has not been seen, it is yet to come, or left by another way.
            packet.to = F::node(config);
            rewrite::address::<F>(ctx, packet, End::Source).map_err(|_| DropReason::Malformed)?;
        }
        // Other protocols have no port to tell connections apart by: they leave as they are.
        return Ok(());
    }
    if of_pod {
        if packet.tuple.is_echo() && packet.tuple.icmp_type == F::ECHO_REPLY {
            return Ok(());
        }
        if is_direct(packet) {
            return Ok(());
        }
    } else if F::is_service(config, &packet.tuple.dst) {
        return stays(&packet.tuple);
    } else if packet.tuple.src.is(&F::node(config)) || !translate::was_sent_to_backend(&packet.tuple) {
        return Ok(());
    }
    masquerade::leave::<F>(ctx, config, packet)
}

/// What is for a Service's own address and was not translated is not for the network: it has nowhere to go there.
#[inline(always)]
fn stays(tuple: &Tuple) -> Result<(), DropReason> {
    let key = ServiceKey::new(tuple.dst, tuple.dport, tuple.proto);
    // SAFETY: nothing of the value is read.
    match unsafe { SERVICES.get(key) } {
        Some(_) => Err(DropReason::NoLocalBackend),
        None => Ok(()),
    }
}

/// Whether the connection was opened from outside to the pod's own address.
#[inline(always)]
fn is_direct(packet: &mut Packet) -> bool {
    let Some(entry) = CONNTRACK.get_ptr_mut(packet.tuple.key(CtKind::Direct)) else { return false };
    let now = skb::now();
    // SAFETY: times and bits may be written by both directions, and either is right.
    unsafe {
        (*entry).last_seen = now;
        let state = CtEntry::next_state((*entry).state, packet.tuple.proto, packet.tcp_flags);
        (*entry).state = state | state::REPLIED;
    }
    if packet.has_more_fragments() {
        packet.to = Addr { words: [0; 4] };
        masquerade::remember_fragment(packet, End::Source, now);
    }
    true
}
