//! Packets that a pod sends, at the host's side of its veth: counted, translated if they are for a Service and no
//! socket hook saw them, and handed to a pod of the same node without a way through the host's stack.

use aya_ebpf::helpers::bpf_redirect_peer;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::packet::ETH_LEN;
use skep_abi::pod::{DIR_TX, endpoint_flags};
use skep_abi::service::Origin;
use skep_abi::{Config, DropReason, config::flags};

use crate::family::Family;
use crate::ipv4::V4;
use crate::ipv6::V6;
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
    match ctx.skb.protocol() {
        V4::ETHERTYPE => from_pod::<V4>(&ctx, config, ifindex),
        V6::ETHERTYPE => from_pod::<V6>(&ctx, config, ifindex),
        _ => NEXT,
    }
}

#[inline(always)]
fn from_pod<F: Family>(ctx: &TcContext, config: &Config, ifindex: u32) -> i32 {
    let Some(packet) = skb::network::<F>(ctx, ETH_LEN) else { return NEXT };
    match forward::<F>(ctx, config, ifindex, packet) {
        Ok(verdict) => verdict,
        Err(reason) => {
            count::dropped(ifindex, DIR_TX, reason, skb::len(ctx));
            record!(ctx, "from_pod: dropped, reason {}", reason as u8);
            if reason == DropReason::NoBackend { reject::<F>(ctx, ETH_LEN) } else { DROP }
        }
    }
}

#[inline(always)]
fn forward<F: Family>(
    ctx: &TcContext,
    config: &Config,
    ifindex: u32,
    packet: &mut Packet,
) -> Result<i32, DropReason> {
    let per_packet = config.flags & flags::PER_PACKET_SERVICES != 0;
    let asked = per_packet && !F::is_pod(config, &packet.tuple.dst) && F::is_unicast_host(&packet.tuple.dst);
    let turned = asked && to_service::<F>(ctx, config, packet).unpack()? != 0;
    // SAFETY: BPF_F_NO_PREALLOC: an element is freed only after a grace period.
    let Some(endpoint) = (unsafe { ENDPOINTS.get(&packet.tuple.dst) }) else { return Ok(NEXT) };
    let to_itself = turned && packet.tuple.dst.is(&packet.tuple.src);
    if !to_itself && (config.flags & flags::REDIRECT_PEER == 0 || endpoint.ifindex == ifindex) {
        return Ok(NEXT);
    }
    if endpoint.flags & endpoint_flags::TRACKED != 0 {
        let answered = to_client::<F>(ctx, packet).unpack()? != 0;
        if to_itself && !answered {
            masquerade::leave::<F>(ctx, config, packet)?;
        }
    }
    // The peer's own tc programs are passed over, so what it receives is counted here.
    count::received(endpoint.ifindex, skb::len(ctx));
    record!(ctx, "from_pod: interface {} to {}", ifindex, endpoint.ifindex);
    // SAFETY: the helper takes an index and checks it.
    Ok(unsafe { bpf_redirect_peer(endpoint.ifindex, 0) as i32 })
}

/// A packet for an address outside the pods' network: it may be for a Service. Returns whether its destination has changed.
#[inline(never)]
fn to_service<F: Family>(ctx: &TcContext, config: &Config, packet: &mut Packet) -> Packed {
    if !skb::transport::<F>(ctx, packet) {
        return Packed::err(DropReason::Malformed);
    }
    let turned = answer_to_itself::<F>(ctx, config, packet);
    if turned.failed() || turned.value() != 0 {
        return turned;
    }
    translate::to_backend::<F>(ctx, packet, Origin::Inside)
}

/// A packet for a pod of this node that has connections translated packet by packet: it may be the answer of one.
///
/// Returns one for such an answer, zero for any other packet.
#[inline(always)]
fn to_client<F: Family>(ctx: &TcContext, packet: &mut Packet) -> Packed {
    if !skb::transport::<F>(ctx, packet) {
        return Packed::err(DropReason::Malformed);
    }
    translate::from_backend::<F>(ctx, packet)
}

/// The answer of a pod to a connection with itself: its destination becomes the pod again.
/// Returns whether it is one.
#[inline(always)]
fn answer_to_itself<F: Family>(ctx: &TcContext, config: &Config, packet: &mut Packet) -> Packed {
    // A pod that reaches itself by a Service must not see its own address as the sender's: it sees the node's.
    let to_node = packet.has_ports() && packet.tuple.dst.is(&F::node(config));
    if !to_node
        || !masquerade::is_port(config, packet.tuple.dport)
        || masquerade::answer(packet, skb::now()) == 0
    {
        return Packed::ok(0);
    }
    Packed::rewritten(rewrite::end::<F>(ctx, packet, End::Destination))
}
