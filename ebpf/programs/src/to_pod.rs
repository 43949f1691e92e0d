//! Packets that the host's stack sends to a pod, at the host's side of its veth: counted.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::skb::NEXT;
use crate::{count, record, skb};

/// Egress of the host's side of a pod's veth.
#[classifier]
fn skep_to_pod(ctx: TcContext) -> i32 {
    count::received(skb::ifindex(&ctx), skb::len(&ctx));
    record!(&ctx, "to_pod: interface {} {} bytes", skb::ifindex(&ctx), skb::len(&ctx));
    NEXT
}
