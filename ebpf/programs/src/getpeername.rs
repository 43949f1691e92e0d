//! `getpeername(2)`: a connected socket shows the Service it asked for, not the backend.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use skep_abi::{SocketKey, proto};

use crate::maps::{TCP_PEERS, UDP_REVERSE};
use crate::sock::{self, ALLOW, Family};

/// IPv4.
#[cgroup_sock_addr(getpeername4)]
fn skep_getpeer4(ctx: SockAddrContext) -> i32 {
    getpeername(&ctx, Family::V4)
}

/// IPv6, and IPv4 through dual-stack sockets.
#[cgroup_sock_addr(getpeername6)]
fn skep_getpeer6(ctx: SockAddrContext) -> i32 {
    getpeername(&ctx, Family::V6)
}

#[inline(always)]
fn getpeername(ctx: &SockAddrContext, family: Family) -> i32 {
    let Some(protocol) = sock::protocol(ctx) else { return ALLOW };
    let (addr, port) = sock::read(ctx, family);
    let key = SocketKey::new(sock::cookie(ctx), addr, port);
    // SAFETY: a reading of a reused element would show another name for a moment, no more.
    let found = unsafe { if protocol == proto::UDP { UDP_REVERSE.get(key) } else { TCP_PEERS.get(key) } };
    if let Some(frontend) = found {
        sock::write(ctx, family, &frontend.addr, frontend.port);
    }
    ALLOW
}
