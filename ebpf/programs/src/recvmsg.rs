//! `recvfrom(2)` and `recvmsg(2)` on UDP sockets: an answer shows the address that was asked, not the backend's.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use skep_abi::SocketKey;

use crate::maps::UDP_REVERSE;
use crate::sock::{self, ALLOW, Family};

/// UDP over IPv4.
#[cgroup_sock_addr(recvmsg4)]
fn skep_recvmsg4(ctx: SockAddrContext) -> i32 {
    recvmsg(&ctx, Family::V4)
}

/// UDP over IPv6, and IPv4 through dual-stack sockets.
#[cgroup_sock_addr(recvmsg6)]
fn skep_recvmsg6(ctx: SockAddrContext) -> i32 {
    recvmsg(&ctx, Family::V6)
}

#[inline(always)]
fn recvmsg(ctx: &SockAddrContext, family: Family) -> i32 {
    let (addr, port) = sock::read(ctx, family);
    let key = SocketKey::new(sock::cookie(ctx), addr, port);
    // SAFETY: the entry is in use by this socket, so the LRU does not give it away now.
    if let Some(frontend) = unsafe { UDP_REVERSE.get(key) } {
        sock::write(ctx, family, &frontend.addr, frontend.port);
    }
    ALLOW
}
