//! What the socket hooks remember: where a socket believes it talks to.

use crate::Addr;

/// Key of `UDP_REVERSE` and `TCP_PEERS` (the address is the backend's) and of `UDP_STICKY` (the address is
/// the Service's).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketKey {
    /// The socket's cookie (`bpf_get_socket_cookie`): unique until reboot.
    pub cookie: u64,
    /// The other side's address.
    pub addr: Addr,
    /// The other side's port, network byte order.
    pub port: u16,
    /// Always zero.
    pub pad: [u16; 3],
}

impl SocketKey {
    /// The key of one peer of one socket; `port` is in network byte order.
    #[inline(always)]
    pub const fn new(cookie: u64, addr: Addr, port: u16) -> Self {
        Self { cookie, addr, port, pad: [0; 3] }
    }
}

/// Value of `UDP_REVERSE` and `TCP_PEERS`: the address the program asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frontend {
    /// The Service's address.
    pub addr: Addr,
    /// The Service's port, network byte order.
    pub port: u16,
    /// Always zero.
    pub pad: u16,
    /// [`crate::Service::id`].
    pub service: u32,
}

/// Value of `UDP_STICKY`: an unconnected UDP socket keeps its backend while the backend exists, as a flow
/// through connection tracking would.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StickyBackend {
    /// Number of the backend in `BACKENDS`.
    pub backend: u32,
    /// [`crate::Service::id`] it was chosen for; another value in `BACKENDS` makes this entry void.
    pub service: u32,
}
