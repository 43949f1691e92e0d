//! Reading and writing the address of a socket call.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::programs::SockAddrContext;
use skep_abi::packet::is_loopback;
use skep_abi::service::Origin;
use skep_abi::{Addr, AffinityKey, DropReason, proto};

use crate::balance::{self, Choice, Chosen};
use crate::{count, maps};

/// Answer of a hook: the call goes on.
pub(crate) const ALLOW: i32 = 1;
/// Answer of a hook: the call fails.
pub(crate) const DENY: i32 = 0;

/// Address family of a hook; each program serves one.
#[derive(Clone, Copy)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The protocol number of MPTCP sockets (`IPPROTO_MPTCP`), whose subflows are TCP.
const MPTCP: u32 = 262;

/// The address in the call. Fields are read and written volatile, so that the compiler keeps the widths the
/// kernel accepts for this context.
#[inline(always)]
pub(crate) fn read(ctx: &SockAddrContext, family: Family) -> (Addr, u16) {
    let sa: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the context is valid for the program's run, and these fields are readable in every hook here.
    unsafe {
        let port = (&raw const (*sa).user_port).read_volatile() as u16;
        let addr = match family {
            Family::V4 => Addr::v4((&raw const (*sa).user_ip4).read_volatile()),
            Family::V6 => {
                let word = |i: usize| (&raw const (*sa).user_ip6[i]).read_volatile();
                Addr { words: [word(0), word(1), word(2), word(3)] }
            }
        };
        (addr, port)
    }
}

/// Replaces the address in the call. For an IPv4 hook `addr` must be v4-mapped; nothing is written otherwise.
#[inline(always)]
pub(crate) fn write(ctx: &SockAddrContext, family: Family, addr: &Addr, port: u16) {
    let sa: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: as in `read`, and the fields are writable.
    unsafe {
        match family {
            Family::V4 => {
                let Some(word) = addr.as_v4() else { return };
                (&raw mut (*sa).user_ip4).write_volatile(word);
            }
            Family::V6 => {
                (&raw mut (*sa).user_ip6[0]).write_volatile(addr.words[0]);
                (&raw mut (*sa).user_ip6[1]).write_volatile(addr.words[1]);
                (&raw mut (*sa).user_ip6[2]).write_volatile(addr.words[2]);
                (&raw mut (*sa).user_ip6[3]).write_volatile(addr.words[3]);
            }
        }
        (&raw mut (*sa).user_port).write_volatile(u32::from(port));
    }
}

/// The IP protocol of the socket, as far as the tables know it.
#[inline(always)]
pub(crate) fn protocol(ctx: &SockAddrContext) -> Option<u8> {
    // SAFETY: as in `read`.
    let number = unsafe { (&raw const (*ctx.sock_addr).protocol).read_volatile() };
    match number {
        MPTCP => Some(proto::TCP),
        n if n == proto::TCP as u32 => Some(proto::TCP),
        n if n == proto::UDP as u32 => Some(proto::UDP),
        _ => None,
    }
}

/// The socket's cookie.
#[inline(always)]
pub(crate) fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes the context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// The cookie of the socket's network namespace.
#[inline(always)]
fn netns(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes the context.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

/// A socket that asks.
struct Socket<'a> {
    ctx: &'a SockAddrContext,
    /// Whether it is in the node's own network namespace.
    of_node: bool,
    /// Whether it asks for an IPv4 address.
    v4: bool,
}

impl balance::Client for Socket<'_> {
    #[inline(always)]
    fn origin(&self) -> Origin {
        Origin::Inside
    }

    #[inline(always)]
    fn key(&self) -> Addr {
        AffinityKey::netns(netns(self.ctx))
    }

    /// A pod's address is not in the call: its packets are looked at instead.
    #[inline(always)]
    fn addr(&self) -> Option<Addr> {
        match (maps::config(), self.of_node) {
            (Some(config), true) if self.v4 => Some(Addr::v4(config.node_addr)),
            (Some(config), true) => Some(config.node_addr6),
            _ => None,
        }
    }

    #[inline(always)]
    fn is_node(&self, addr: &Addr) -> bool {
        if let Some(word) = addr.as_v4()
            && is_loopback(word)
        {
            return self.of_node;
        }
        // SAFETY: BPF_F_NO_PREALLOC: an element is freed only after a grace period.
        unsafe { maps::NODE_ADDRS.get(addr) }.is_some()
    }
}

/// What becomes of a call.
pub(crate) enum Verdict {
    /// It goes on as it is.
    LeaveAlone,
    /// It fails.
    Refuse,
    /// It goes to a backend.
    To(Chosen),
}

/// Chooses a backend for a call. Where a Service would have a packet dropped, the call goes on, and the packet is met on
/// its way; a pod's loopback addresses are its own.
#[inline(always)]
pub(crate) fn choose(ctx: &SockAddrContext, addr: Addr, port: u16, protocol: u8) -> Verdict {
    let own = maps::config().map_or(0, |config| config.netns_cookie);
    let loopback = addr.as_v4().is_some_and(is_loopback);
    let of_node = own != 0 && netns(ctx) == own;
    if loopback && !of_node {
        return Verdict::LeaveAlone;
    }
    match balance::choose(addr, port, protocol, &Socket { ctx, of_node, v4: addr.is_v4() }) {
        Choice::Backend(chosen) => Verdict::To(chosen),
        Choice::NoBackend => Verdict::Refuse,
        Choice::NotAService | Choice::NoLocalBackend | Choice::OutOfRange => Verdict::LeaveAlone,
    }
}

/// `ECONNREFUSED` (the same on every Linux architecture but MIPS and Alpha, Parisc and SPARC).
const ECONNREFUSED: i32 = 111;

/// Refuses the call as a closed port would; on kernels without `bpf_set_retval` the caller sees `EPERM`.
#[inline(always)]
pub(crate) fn refuse() -> i32 {
    count::dropped(0, skep_abi::pod::DIR_TX, DropReason::NoBackend, 0);
    if maps::has_set_retval() {
        // SAFETY: the helper has no precondition.
        let _ = unsafe { bpf_set_retval(-ECONNREFUSED) };
    }
    DENY
}
