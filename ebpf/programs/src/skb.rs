//! Reading packets: from the buffer into the plain structs of `skep-abi`.

use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::programs::TcContext;
use skep_abi::packet::{L4Start, Tuple};
use skep_abi::{Addr, DropReason, proto};

use crate::family::Family;
use crate::maps::SCRATCH;

/// Verdict: let the next program, or the stack, go on with the packet.
pub(crate) const NEXT: i32 = aya_ebpf::bindings::TC_ACT_UNSPEC;
/// Verdict: drop.
pub(crate) const DROP: i32 = aya_ebpf::bindings::TC_ACT_SHOT;

/// Bits of [`Packet::parts`].
mod parts {
    /// Later fragments follow.
    pub(super) const MORE: u8 = 1;
    /// A fragment other than the first: there is no layer 4 header.
    pub(super) const LATER: u8 = 2;
}

/// How far a packet was read, see [`transport`].
mod reading {
    pub(super) const ADDRESSES: u8 = 0;
    pub(super) const ALL: u8 = 1;
    pub(super) const UNREADABLE: u8 = 2;
}

/// What was read of a packet. It lies in a map, one for each processor, and not on the stack, where two addresses of 16 bytes
/// in every frame would leave no room.
#[repr(C)]
pub(crate) struct Packet {
    /// What names the connection. The addresses and the protocol are those of the packet as it is now; the ports are
    /// zero where there are none, see [`Packet::has_ports`].
    pub(crate) tuple: Tuple,
    /// The address that an end of it is to get.
    pub(crate) to: Addr,
    /// The port that goes with it, network byte order.
    pub(crate) to_port: u16,
    /// TCP flags; zero for other protocols.
    pub(crate) tcp_flags: u8,
    reading: u8,
    /// Offset of the IP header.
    pub(crate) l3: u32,
    /// Offset of the layer 4 header.
    pub(crate) l4: u32,
    /// The identification that a fragment has in common with the others of its packet.
    pub(crate) fragment: u32,
    /// The protocol that they have in common, too.
    pub(crate) fragment_proto: u8,
    parts: u8,
    has_ports: u8,
    pad: u8,
}

impl Packet {
    /// Begins anew, at an IP header.
    #[inline(always)]
    fn reset(&mut self, l3: u32) {
        self.l3 = l3;
        self.l4 = 0;
        self.fragment = 0;
        self.fragment_proto = 0;
        self.parts = 0;
        self.has_ports = 0;
        self.tcp_flags = 0;
        self.reading = reading::ADDRESSES;
        self.tuple.sport = 0;
        self.tuple.dport = 0;
        self.tuple.icmp_type = 0;
        self.tuple.pad = 0;
    }

    /// Whether ports name the connection; not so for later fragments, and for protocols without ports.
    #[inline(always)]
    pub(crate) fn has_ports(&self) -> bool {
        self.has_ports != 0
    }

    /// Whether this is a fragment other than the first.
    #[inline(always)]
    pub(crate) fn is_later_fragment(&self) -> bool {
        self.parts & parts::LATER != 0
    }

    /// Whether fragments follow this packet.
    #[inline(always)]
    pub(crate) fn has_more_fragments(&self) -> bool {
        self.parts & parts::MORE != 0
    }

    /// Notes that it is a fragment.
    #[inline(always)]
    pub(crate) fn set_fragment(&mut self, id: u32, protocol: u8, more: bool, later: bool) {
        self.fragment = id;
        self.fragment_proto = protocol;
        self.parts = (u8::from(more) * parts::MORE) | (u8::from(later) * parts::LATER);
    }
}

/// What a function that is not inlined returns, in one register that is written whole on every way out. (Of a `Result`
/// with a value, parts are left as they happen to be, which the kernel does not let pass.) Addresses do not fit: they go by
/// [`Packet::to`].
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

    /// Success, or a packet that could not be rewritten.
    #[inline(always)]
    pub(crate) fn rewritten(result: Result<(), i64>) -> Self {
        match result {
            Ok(()) => Self::ok(1),
            Err(_) => Self::err(DropReason::Malformed),
        }
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

/// Which of the two places for packets.
#[derive(Clone, Copy)]
enum Place {
    /// The packet itself.
    Whole = 0,
    /// The packet that it quotes, if it is an ICMP error.
    Quoted = 1,
}

/// Reads the addresses of the packet whose IP header lies at `l3`; `None` for what is of another family, or touched by
/// nobody.
#[inline(always)]
pub(crate) fn network<F: Family>(ctx: &TcContext, l3: u32) -> Option<&'static mut Packet> {
    if ctx.skb.protocol() != F::ETHERTYPE {
        return None;
    }
    read::<F>(ctx, l3, Place::Whole)
}

#[inline(always)]
fn read<F: Family>(ctx: &TcContext, l3: u32, place: Place) -> Option<&'static mut Packet> {
    // SAFETY: the map holds one value a processor, tc programs run with bottom halves off, and each place is asked for once
    // in a run.
    let packet = unsafe { &mut *SCRATCH.get_ptr_mut(place as u32)? };
    packet.reset(l3);
    F::addresses(ctx, packet).then_some(packet)
}

/// Reads on from the addresses; false for a packet that is shorter than its headers say.
#[inline(always)]
pub(crate) fn transport<F: Family>(ctx: &TcContext, packet: &mut Packet) -> bool {
    if packet.reading == reading::ADDRESSES {
        packet.reading = if read_transport::<F>(ctx, packet) { reading::ALL } else { reading::UNREADABLE };
    }
    packet.reading == reading::ALL
}

#[inline(always)]
fn read_transport<F: Family>(ctx: &TcContext, packet: &mut Packet) -> bool {
    if !F::headers(ctx, packet) || !read_ports::<F>(ctx, packet) {
        return false;
    }
    if packet.has_ports() && packet.tuple.proto == proto::TCP {
        let Ok(flags) = ctx.load::<u8>(packet.l4 as usize + 13) else { return false };
        packet.tcp_flags = flags;
    }
    true
}

#[inline(always)]
fn read_ports<F: Family>(ctx: &TcContext, packet: &mut Packet) -> bool {
    let protocol = packet.tuple.proto;
    if packet.is_later_fragment() || !matches!(protocol, proto::TCP | proto::UDP) && protocol != F::ICMP {
        return true;
    }
    let Ok(l4) = ctx.load::<L4Start>(packet.l4 as usize) else { return false };
    packet.has_ports = u8::from(packet.tuple.read_ports(&l4));
    true
}

/// Reads the packet that an ICMP error quotes, whose IP header lies at `l3`; `None` for one without ports.
#[inline(always)]
pub(crate) fn quoted<F: Family>(ctx: &TcContext, l3: u32) -> Option<&'static mut Packet> {
    let packet = read::<F>(ctx, l3, Place::Quoted)?;
    (F::headers(ctx, packet) && read_ports::<F>(ctx, packet) && packet.has_ports()).then_some(packet)
}

/// Copies bytes of the packet to where they are wanted, without a stop on the stack.
#[inline(always)]
pub(crate) fn load_into<T>(ctx: &TcContext, offset: u32, to: &mut T) -> bool {
    // SAFETY: the helper writes `size_of::<T>()` bytes, and every `T` here is plain bytes.
    unsafe {
        bpf_skb_load_bytes(ctx.skb.skb.cast(), offset, (&raw mut *to).cast(), size_of::<T>() as u32) == 0
    }
}
