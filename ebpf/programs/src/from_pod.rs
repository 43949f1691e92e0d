//! Packets that a pod sends, at the host's side of its veth: counted, translated if they are for a Service and no
//! socket hook saw them, and handed to a pod of the same node without a way through the host's stack.

use aya_ebpf::helpers::bpf_redirect_peer;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::packet::{ETH_LEN, Ipv4Header};
use skep_abi::pod::{DIR_TX, endpoint_flags};
use skep_abi::{Addr, Config, DropReason, config::flags};

use crate::maps::{ENDPOINTS, config};
use crate::skb::{DROP, NEXT};
use crate::{count, record, skb, translate};

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
            DROP
        }
    }
}

#[inline(always)]
fn forward(ctx: &TcContext, config: &Config, ifindex: u32, mut ip: Ipv4Header) -> Result<i32, DropReason> {
    let per_packet = config.flags & flags::PER_PACKET_SERVICES != 0;
    if per_packet && config.service_cidr.contains(ip.dst) {
        let packet = skb::packet(ctx, ETH_LEN, ip).ok_or(DropReason::Malformed)?;
        ip.dst = translate::to_backend(ctx, &packet)?;
    }
    // SAFETY: BPF_F_NO_PREALLOC: an element is freed only after a grace period.
    let Some(endpoint) = (unsafe { ENDPOINTS.get(Addr::v4(ip.dst)) }) else { return Ok(NEXT) };
    if config.flags & flags::REDIRECT_PEER == 0 || endpoint.ifindex == ifindex {
        return Ok(NEXT);
    }
    if endpoint.flags & endpoint_flags::TRACKED != 0 {
        // Read anew: the destination may have been rewritten just now.
        if let Some(ip) = skb::ipv4(ctx, ETH_LEN) {
            let packet = skb::packet(ctx, ETH_LEN, ip).ok_or(DropReason::Malformed)?;
            translate::from_backend(ctx, &packet)?;
        }
    }
    // The peer's own tc programs are passed over, so what it receives is counted here.
    count::received(endpoint.ifindex, skb::len(ctx));
    record!(ctx, "from_pod: interface {} to {}", ifindex, endpoint.ifindex);
    // SAFETY: the helper takes an index and checks it.
    Ok(unsafe { bpf_redirect_peer(endpoint.ifindex, 0) as i32 })
}
