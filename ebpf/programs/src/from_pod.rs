//! Packets that a pod sends, at the host's side of its veth: counted, and handed to a pod of the same node
//! without a way through the host's stack.

use aya_ebpf::helpers::bpf_redirect_peer;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::packet::ETH_LEN;
use skep_abi::{Addr, config::flags};

use crate::maps::{ENDPOINTS, config};
use crate::skb::NEXT;
use crate::{count, record, skb};

/// Ingress of the host's side of a pod's veth.
#[classifier]
fn skep_from_pod(ctx: TcContext) -> i32 {
    let ifindex = skb::ifindex(&ctx);
    count::sent(ifindex, skb::len(&ctx));
    record!(&ctx, "from_pod: interface {} {} bytes", ifindex, skb::len(&ctx));
    let Some(config) = config() else { return NEXT };
    let Some(ip) = skb::ipv4(&ctx, ETH_LEN) else { return NEXT };
    deliver(&ctx, config.flags, ifindex, ip.dst)
}

/// Hands the packet to the pod that has the address, if it runs here, else to the stack.
#[inline(always)]
fn deliver(ctx: &TcContext, flags: u32, ifindex: u32, dst: u32) -> i32 {
    if flags & flags::REDIRECT_PEER == 0 {
        return NEXT;
    }
    // SAFETY: BPF_F_NO_PREALLOC: an element is freed only after a grace period.
    let Some(endpoint) = (unsafe { ENDPOINTS.get(Addr::v4(dst)) }) else { return NEXT };
    if endpoint.ifindex == ifindex {
        return NEXT;
    }
    // The peer's own tc programs are passed over, so what it receives is counted here.
    count::received(endpoint.ifindex, skb::len(ctx));
    record!(ctx, "from_pod: interface {} to {}", ifindex, endpoint.ifindex);
    // SAFETY: the helper takes an index and checks it.
    unsafe { bpf_redirect_peer(endpoint.ifindex, 0) as i32 }
}
