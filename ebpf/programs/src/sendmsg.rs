//! `sendto(2)` and `sendmsg(2)` on UDP sockets with a destination: the Service's address becomes a backend's.
//! A socket keeps its backend as long as the Service has it, so that a conversation stays with one.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use skep_abi::{Frontend, SocketKey, StickyBackend, proto};

use crate::balance;
use crate::maps::{UDP_REVERSE, UDP_STICKY};
use crate::record;
use crate::sock::{self, ALLOW, Family, Verdict};

/// UDP over IPv4, also from dual-stack sockets.
#[cgroup_sock_addr(sendmsg4)]
fn skep_sendmsg4(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, Family::V4)
}

/// UDP over IPv6.
#[cgroup_sock_addr(sendmsg6)]
fn skep_sendmsg6(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, Family::V6)
}

#[inline(always)]
fn sendmsg(ctx: &SockAddrContext, family: Family) -> i32 {
    let (addr, port) = sock::read(ctx, family);
    record!(ctx, "sendmsg: port {}", u16::from_be(port));
    let cookie = sock::cookie(ctx);
    let sticky_key = SocketKey::new(cookie, addr, port);
    // SAFETY: an LRU element that is reused while it is read shows another pair of numbers, and the table of
    // backends says whether they belong together.
    let kept = unsafe { UDP_STICKY.get(sticky_key) }.and_then(|s| balance::backend(s.backend, s.service));
    let chosen = match kept {
        Some(chosen) => chosen,
        None => {
            let chosen = match sock::choose(ctx, addr, port, proto::UDP) {
                Verdict::LeaveAlone => return ALLOW,
                Verdict::Refuse => {
                    record!(ctx, "sendmsg: no backend");
                    return sock::refuse();
                }
                Verdict::To(chosen) => chosen,
            };
            let sticky = StickyBackend { backend: chosen.id, service: chosen.backend.service };
            let _ = UDP_STICKY.insert(sticky_key, sticky, u64::from(BPF_ANY));
            record!(ctx, "sendmsg: service {} to backend {}", chosen.backend.service, chosen.id);
            chosen
        }
    };
    let backend = &chosen.backend;
    let peer = SocketKey::new(cookie, backend.addr, backend.port);
    let known = match UDP_REVERSE.get_ptr(peer) {
        // SAFETY: as above; a wrong reading costs one write.
        Some(frontend) => unsafe { (*frontend).service == backend.service && (*frontend).port == port },
        None => false,
    };
    if !known {
        let frontend = Frontend { addr, port, pad: 0, service: backend.service };
        let _ = UDP_REVERSE.insert(peer, frontend, u64::from(BPF_ANY));
    }
    sock::write(ctx, family, &backend.addr, backend.port);
    ALLOW
}
