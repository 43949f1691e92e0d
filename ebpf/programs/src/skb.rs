//! Reading packets: from the buffer into the plain structs of `skep-abi`.

use aya_ebpf::programs::TcContext;
use skep_abi::packet::{ETH_P_IP_BE, Ipv4Header, L4Start, Tuple};
use skep_abi::{DropReason, proto};

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
    /// TCP flags; zero for other protocols.
    pub(crate) tcp_flags: u8,
    /// Whether there is a tuple. (An `Option` would leave it unwritten where there is none, and the kernel does not let
    /// what is unwritten be copied.)
    has_tuple: bool,
    tuple: Tuple,
}

impl Packet {
    /// What names the connection; none for later fragments and for protocols without ports.
    #[inline(always)]
    pub(crate) fn tuple(&self) -> Option<&Tuple> {
        if self.has_tuple { Some(&self.tuple) } else { None }
    }
}

/// What a function that is not inlined returns, in one register that is written whole on every way out. (Of a `Result`
/// with a value, parts are left as they happen to be, which the kernel does not let pass.)
#[derive(Clone, Copy)]
pub(crate) struct Packed(u64);

impl Packed {
    /// A value.
    #[inline(always)]
    pub(crate) const fn ok(value: u32) -> Self {
        Self(value as u64)
    }

    /// A failure.
    #[inline(always)]
    pub(crate) const fn err(reason: DropReason) -> Self {
        Self((reason as u64) << 32)
    }

    /// Whether it is a failure.
    #[inline(always)]
    pub(crate) const fn failed(self) -> bool {
        self.0 >> 32 != 0
    }

    /// The value; zero for a failure.
    #[inline(always)]
    pub(crate) const fn value(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    pub(crate) fn unpack(self) -> Result<u32, DropReason> {
        match DropReason::from_number((self.0 >> 32) as u8) {
            None => Ok(self.0 as u32),
            Some(reason) => Err(reason),
        }
    }
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
    let mut packet = Packet { l3, l4, ip, tcp_flags: 0, has_tuple: false, tuple: Tuple::default() };
    let known = matches!(ip.proto, proto::TCP | proto::UDP | proto::ICMP);
    if ip.is_later_fragment() || !known {
        return Some(packet);
    }
    if let Some(tuple) = Tuple::of(&ip, &ctx.load::<L4Start>(l4 as usize).ok()?) {
        packet.tuple = tuple;
        packet.has_tuple = true;
    }
    if ip.proto == proto::TCP {
        packet.tcp_flags = ctx.load::<u8>(l4 as usize + 13).ok()?;
    }
    Some(packet)
}
