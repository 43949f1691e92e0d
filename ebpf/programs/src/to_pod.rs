//! Packets that the host's stack sends to a pod, at the host's side of its veth: counted, and given back a Service's
//! address if they answer a connection that was translated packet by packet.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::Addr;
use skep_abi::packet::ETH_LEN;
use skep_abi::pod::{DIR_RX, endpoint_flags};

use crate::maps::ENDPOINTS;
use crate::skb::{DROP, NEXT};
use crate::{count, record, skb, translate};

/// Egress of the host's side of a pod's veth.
#[classifier]
fn skep_to_pod(ctx: TcContext) -> i32 {
    let ifindex = skb::ifindex(&ctx);
    record!(&ctx, "to_pod: interface {} {} bytes", ifindex, skb::len(&ctx));
    if let Some(ip) = skb::ipv4(&ctx, ETH_LEN) {
        // SAFETY: BPF_F_NO_PREALLOC: an element is freed only after a grace period.
        let endpoint = unsafe { ENDPOINTS.get(Addr::v4(ip.dst)) };
        if endpoint.is_some_and(|e| e.flags & endpoint_flags::TRACKED != 0) {
            // A packet that cannot be read is the pod's to refuse.
            if let Some(packet) = skb::packet(&ctx, ETH_LEN, ip)
                && let Err(reason) = translate::from_backend(&ctx, &packet)
            {
                count::dropped(ifindex, DIR_RX, reason, skb::len(&ctx));
                return DROP;
            }
        }
    }
    count::received(ifindex, skb::len(&ctx));
    NEXT
}
