//! Packets that a pod sends, at the host's side of its veth: counted, translated if they are for a Service and no
//! socket hook saw them, and handed to a pod of the same node without a way through the host's stack.

use aya_ebpf::helpers::bpf_redirect_peer;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::packet::{ETH_LEN, Ipv4Header, is_unicast_host};
use skep_abi::pod::{DIR_TX, endpoint_flags};
use skep_abi::service::Origin;
use skep_abi::{Addr, Config, DropReason, config::flags};

use crate::maps::{ENDPOINTS, config};
use crate::reject::reject;
use crate::rewrite::{self, End};
use crate::skb::{DROP, NEXT, Packed, Packet};
use crate::{count, masquerade, record, skb, translate};

/// Ingress of the host's side of a pod's veth.
#[classifier]
fn skep_from_pod(ctx: TcContext) -> i32 {
    let ifindex = skb::ifindex(&ctx);
    count::sent(ifindex, skb::len(&ctx));
    record!(&ctx, "from_pod: interface {} {} bytes", ifindex, skb::len(&ctx));
    let Some(config) = config() else { return NEXT };
    let Some(ip) = skb::ipv4(&ctx, ETH_LEN) else { return NEXT };
    match forward(&ctx, config, ifindex, ip) {
        Ok(verdict) => verdict,
        Err(reason) => {
            count::dropped(ifindex, DIR_TX, reason, skb::len(&ctx));
            record!(&ctx, "from_pod: dropped, reason {}", reason as u8);
            if reason == DropReason::NoBackend { reject(&ctx, ETH_LEN) } else { DROP }
        }
    }
}

#[inline(always)]
fn forward(ctx: &TcContext, config: &Config, ifindex: u32, ip: Ipv4Header) -> Result<i32, DropReason> {
    let mut dst = ip.dst;
    let per_packet = config.flags & flags::PER_PACKET_SERVICES != 0;
    if per_packet && !config.cluster_cidr.contains(dst) && is_unicast_host(dst) {
        dst = to_service(ctx, config).unpack()?;
    }
    // SAFETY: BPF_F_NO_PREALLOC: an element is freed only after a grace period.
    let Some(endpoint) = (unsafe { ENDPOINTS.get(Addr::v4(dst)) }) else { return Ok(NEXT) };
    let to_itself = dst == ip.src && dst != ip.dst;
    if !to_itself && (config.flags & flags::REDIRECT_PEER == 0 || endpoint.ifindex == ifindex) {
        return Ok(NEXT);
    }
    if endpoint.flags & endpoint_flags::TRACKED != 0 {
        let answered = to_client(ctx).unpack()? != 0;
        if to_itself && !answered {
            to_itself_as_node(ctx, config)?;
        }
    }
    // The peer's own tc programs are passed over, so what it receives is counted here.
    count::received(endpoint.ifindex, skb::len(ctx));
    record!(ctx, "from_pod: interface {} to {}", ifindex, endpoint.ifindex);
    // SAFETY: the helper takes an index and checks it.
    Ok(unsafe { bpf_redirect_peer(endpoint.ifindex, 0) as i32 })
}

/// A packet for an address outside the pods' network: it may be for a Service. Returns where it goes.
#[inline(never)]
fn to_service(ctx: &TcContext, config: &Config) -> Packed {
    let Some(packet) = skb::ipv4(ctx, ETH_LEN).and_then(|ip| skb::packet(ctx, ETH_LEN, ip)) else {
        return Packed::err(DropReason::Malformed);
    };
    let turned = answer_to_itself(ctx, config, &packet);
    if turned.failed() || turned.value() != 0 {
        return turned;
    }
    translate::to_backend(ctx, &packet, Origin::Inside)
}

/// A packet for a pod of this node that has connections translated packet by packet: it may be the answer of one. (The
/// headers are read anew, since the destination may have been rewritten just now.)
///
/// Returns one for such an answer, zero for any other packet.
#[inline(never)]
fn to_client(ctx: &TcContext) -> Packed {
    let Some(packet) = skb::ipv4(ctx, ETH_LEN).and_then(|ip| skb::packet(ctx, ETH_LEN, ip)) else {
        return Packed::err(DropReason::Malformed);
    };
    translate::turn_from_backend(ctx, &packet)
}

/// A pod that reaches itself by a Service must not see its own address as the sender's: it sees the node's.
#[inline(never)]
fn to_itself_as_node(ctx: &TcContext, config: &Config) -> Result<(), DropReason> {
    let Some(packet) = skb::ipv4(ctx, ETH_LEN).and_then(|ip| skb::packet(ctx, ETH_LEN, ip)) else {
        return Err(DropReason::Malformed);
    };
    masquerade::leave(ctx, config, &packet)
}

/// The answer of a pod to a connection with itself: its destination becomes the pod again.
/// Returns the pod, or zero for any other packet.
#[inline(never)]
fn answer_to_itself(ctx: &TcContext, config: &Config, packet: &Packet) -> Packed {
    let Some(tuple) = packet.tuple() else { return Packed::ok(0) };
    if tuple.dst != config.node_addr || !masquerade::is_port(config, tuple.dport) {
        return Packed::ok(0);
    }
    let Some((pod, port)) = masquerade::answer(tuple, packet.tcp_flags, skb::now()) else {
        return Packed::ok(0);
    };
    match rewrite::end(ctx, packet, tuple, End::Destination, pod, port) {
        Ok(()) => Packed::ok(pod),
        Err(_) => Packed::err(DropReason::Malformed),
    }
}
