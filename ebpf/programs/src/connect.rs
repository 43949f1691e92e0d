//! `connect(2)`: a Service's address becomes that of one of its backends, once, before a packet exists.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use skep_abi::{Frontend, SocketKey, StickyBackend, proto};

use crate::maps::{TCP_PEERS, UDP_REVERSE, UDP_STICKY};
use crate::record;
use crate::sock::{self, ALLOW, Family, Verdict};

/// TCP and UDP over IPv4.
#[cgroup_sock_addr(connect4)]
fn skep_connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V4)
}

/// TCP and UDP over IPv6, and IPv4 through dual-stack sockets (`::ffff:10.96.0.1`).
#[cgroup_sock_addr(connect6)]
fn skep_connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V6)
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    let Some(protocol) = sock::protocol(ctx) else { return ALLOW };
    let (addr, port) = sock::read(ctx, family);
    record!(ctx, "connect: protocol {} port {}", protocol, u16::from_be(port));
    let chosen = match sock::choose(ctx, addr, port, protocol) {
        Verdict::LeaveAlone => return ALLOW,
        Verdict::Refuse => {
            record!(ctx, "connect: no backend");
            return sock::refuse();
        }
        Verdict::To(chosen) => chosen,
    };
    let backend = &chosen.backend;
    let cookie = sock::cookie(ctx);
    let frontend = Frontend { addr, port, pad: 0, service: backend.service };
    let peer = SocketKey::new(cookie, backend.addr, backend.port);
    if protocol == proto::UDP {
        let sticky = StickyBackend { backend: chosen.id, service: backend.service };
        let _ = UDP_STICKY.insert(SocketKey::new(cookie, addr, port), sticky, u64::from(BPF_ANY));
        let _ = UDP_REVERSE.insert(peer, frontend, u64::from(BPF_ANY));
    } else {
        let _ = TCP_PEERS.insert(peer, frontend, u64::from(BPF_ANY));
    }
    sock::write(ctx, family, &backend.addr, backend.port);
    record!(ctx, "connect: service {} to backend {}", backend.service, chosen.id);
    ALLOW
}
