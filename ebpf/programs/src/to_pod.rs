//! Packets that the host's stack sends to a pod, at the host's side of its veth: counted, and given back a Service's
//! address if they answer a connection that was translated packet by packet.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::DropReason;
use skep_abi::packet::ETH_LEN;
use skep_abi::pod::{DIR_RX, endpoint_flags};

use crate::family::Family;
use crate::ipv4::V4;
use crate::ipv6::V6;
use crate::maps::ENDPOINTS;
use crate::skb::{DROP, NEXT};
use crate::{count, record, skb, translate};

/// Egress of the host's side of a pod's veth.
#[classifier]
fn skep_to_pod(ctx: TcContext) -> i32 {
    let ifindex = skb::ifindex(&ctx);
    record!(&ctx, "to_pod: interface {} {} bytes", ifindex, skb::len(&ctx));
    let turned = match ctx.skb.protocol() {
        V4::ETHERTYPE => to_pod::<V4>(&ctx),
        V6::ETHERTYPE => to_pod::<V6>(&ctx),
        _ => Ok(()),
    };
    if let Err(reason) = turned {
        count::dropped(ifindex, DIR_RX, reason, skb::len(&ctx));
        return DROP;
    }
    count::received(ifindex, skb::len(&ctx));
    NEXT
}

#[inline(always)]
fn to_pod<F: Family>(ctx: &TcContext) -> Result<(), DropReason> {
    let Some(packet) = skb::network::<F>(ctx, ETH_LEN) else { return Ok(()) };
    // SAFETY: BPF_F_NO_PREALLOC: an element is freed only after a grace period.
    let endpoint = unsafe { ENDPOINTS.get(&packet.tuple.dst) };
    let tracked = endpoint.is_some_and(|e| e.flags & endpoint_flags::TRACKED != 0);
    // A packet that cannot be read is the pod's to refuse.
    if tracked && skb::transport::<F>(ctx, packet) {
        translate::from_backend::<F>(ctx, packet).unpack()?;
    }
    Ok(())
}
