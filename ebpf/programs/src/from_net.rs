//! Packets that come in by the uplink: answers to masqueraded connections get their pod's address back.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::packet::{
    ICMP_PARAMETER, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE, IP_CHECK, IP_SRC, Ipv4Header, L4Start, Tuple,
};
use skep_abi::pod::DIR_RX;
use skep_abi::{Config, CtEntry, CtKind, DropReason, proto};

use crate::maps::{CONNTRACK, config};
use crate::rewrite::{self, End};
use crate::skb::{self, DROP, NEXT, Packet};
use crate::{count, masquerade, record};

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
    let to_pod = config.cluster_cidr.contains(ip.dst) && !config.cluster_cidr.contains(ip.src);
    if !to_pod && ip.dst != config.node_addr {
        return NEXT;
    }
    // A packet that cannot be read is the stack's to refuse.
    let Some(packet) = skb::packet(&ctx, l3, ip) else { return NEXT };
    if to_pod {
        direct(&packet);
        return NEXT;
    }
    match enter(&ctx, config, &packet) {
        Ok(()) => NEXT,
        Err(reason) => {
            count::dropped(skb::ifindex(&ctx), DIR_RX, reason, skb::len(&ctx));
            record!(&ctx, "from_net: dropped, reason {}", reason as u8);
            DROP
        }
    }
}

/// A connection that the outside opens to a pod's own address: its answers must keep that address.
#[inline(always)]
fn direct(packet: &Packet) {
    let Some(tuple) = &packet.tuple else { return };
    let key = tuple.reply_key(CtKind::Direct);
    let now = skb::now();
    match CONNTRACK.get_ptr_mut(key) {
        // SAFETY: a time may be written by both directions, and either is right.
        Some(entry) => unsafe { (*entry).last_seen = now },
        None => {
            let entry = CtEntry { last_seen: now, ..CtEntry::default() };
            let _ = CONNTRACK.insert(key, entry, u64::from(BPF_ANY));
        }
    }
}

#[inline(always)]
fn enter(ctx: &TcContext, config: &Config, packet: &Packet) -> Result<(), DropReason> {
    let ip = &packet.ip;
    let Some(tuple) = &packet.tuple else {
        if ip.is_later_fragment() {
            if let Some(pod) = masquerade::fragment(ip.src, ip.dst, ip.id, ip.proto) {
                rewrite::address(ctx, packet.l3, End::Destination, ip.dst, pod)
                    .map_err(|_| DropReason::Malformed)?;
            }
        } else if ip.proto == proto::ICMP {
            error_about(ctx, config, packet).map_err(|_| DropReason::Malformed)?;
        }
        return Ok(());
    };
    let port = u16::from_be(tuple.dport);
    if port < config.masquerade_port_min || port > config.masquerade_port_max {
        return Ok(());
    }
    let now = skb::now();
    let Some((pod, pod_port)) = masquerade::answer(tuple, packet.tcp_flags, now) else { return Ok(()) };
    if ip.has_more_fragments() {
        masquerade::remember_fragment(ip.src, ip.dst, ip.id, ip.proto, pod, now);
    }
    rewrite::end(ctx, packet, tuple, End::Destination, pod, pod_port).map_err(|_| DropReason::Malformed)
}

/// An ICMP error about a masqueraded packet (path MTU, unreachable): it and the header it quotes get the pod's
/// address and port back. An error about anything else stays as it is.
#[inline(always)]
fn error_about(ctx: &TcContext, config: &Config, packet: &Packet) -> Result<(), i64> {
    let kind = ctx.load::<u8>(packet.l4 as usize)?;
    if kind != ICMP_UNREACHABLE && kind != ICMP_TIME_EXCEEDED && kind != ICMP_PARAMETER {
        return Ok(());
    }
    let inner = packet.l4 + 8;
    let Ok(quoted) = ctx.load::<Ipv4Header>(inner as usize) else { return Ok(()) };
    let Some(header) = quoted.header_len() else { return Ok(()) };
    if quoted.src != config.node_addr || quoted.is_later_fragment() {
        return Ok(());
    }
    let inner_l4 = inner + header;
    let Ok(start) = ctx.load::<L4Start>(inner_l4 as usize) else { return Ok(()) };
    let Some(sent) = Tuple::of(&quoted, &start) else { return Ok(()) };
    let key = sent.reply_key(CtKind::MasqueradeReply);
    // SAFETY: a torn reading misdirects one error message.
    let Some(entry) = (unsafe { CONNTRACK.get(key) }) else { return Ok(()) };
    let (Some(pod), port) = (entry.addr.as_v4(), entry.port) else { return Ok(()) };
    // The quoted header's own checksum makes up for its new address, so the message's checksum sees the port only.
    ctx.l3_csum_replace((inner + IP_CHECK) as usize, u64::from(quoted.src), u64::from(pod), 4)?;
    ctx.store((inner + IP_SRC) as usize, &pod, 0)?;
    ctx.store((inner_l4 + sent.sport_offset()) as usize, &port, 0)?;
    ctx.l4_csum_replace((packet.l4 + 2) as usize, u64::from(sent.sport), u64::from(port), 2)?;
    rewrite::address(ctx, packet.l3, End::Destination, packet.ip.dst, pod)
}
