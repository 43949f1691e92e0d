//! Reading packets: from the buffer into the plain structs of `skep-abi`.

use aya_ebpf::programs::TcContext;
use skep_abi::packet::{ETH_P_IP_BE, Ipv4Header, L4Start, Tuple};
use skep_abi::proto;

/// Verdict: let the next program, or the stack, go on with the packet.
pub(crate) const NEXT: i32 = aya_ebpf::bindings::TC_ACT_UNSPEC;
/// Verdict: drop.
pub(crate) const DROP: i32 = aya_ebpf::bindings::TC_ACT_SHOT;

/// An IPv4 packet whose headers were read.
pub(crate) struct Packet {
    /// Offset of the IP header.
    pub(crate) l3: u32,
    /// Offset of the layer 4 header.
    pub(crate) l4: u32,
    /// The IP header.
    pub(crate) ip: Ipv4Header,
    /// What names the connection; none for later fragments and for protocols without ports.
    pub(crate) tuple: Option<Tuple>,
    /// TCP flags; zero for other protocols.
    pub(crate) tcp_flags: u8,
}

/// Bytes of the packet.
#[inline(always)]
pub(crate) fn len(ctx: &TcContext) -> u32 {
    ctx.len()
}

/// The interface the program runs on.
#[inline(always)]
pub(crate) fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid for the program's run.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// Seconds of the monotonic clock.
#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper has no precondition.
    (unsafe { aya_ebpf::helpers::bpf_ktime_get_ns() } / 1_000_000_000) as u32
}

/// The IP header at `l3`; `None` if this is not IPv4.
#[inline(always)]
pub(crate) fn ipv4(ctx: &TcContext, l3: u32) -> Option<Ipv4Header> {
    if ctx.skb.protocol() != ETH_P_IP_BE {
        return None;
    }
    ctx.load::<Ipv4Header>(l3 as usize).ok()
}

/// Reads on from the IP header; `None` for a packet that is shorter than its headers say.
#[inline(always)]
pub(crate) fn packet(ctx: &TcContext, l3: u32, ip: Ipv4Header) -> Option<Packet> {
    let l4 = l3 + ip.header_len()?;
    if ip.is_later_fragment() {
        return Some(Packet { l3, l4, ip, tuple: None, tcp_flags: 0 });
    }
    let (tuple, tcp_flags) = match ip.proto {
        proto::TCP => {
            let start = ctx.load::<L4Start>(l4 as usize).ok()?;
            let flags = ctx.load::<u8>(l4 as usize + 13).ok()?;
            (Tuple::of(&ip, &start), flags)
        }
        proto::UDP | proto::ICMP => (Tuple::of(&ip, &ctx.load::<L4Start>(l4 as usize).ok()?), 0),
        _ => (None, 0),
    };
    Some(Packet { l3, l4, ip, tuple, tcp_flags })
}
