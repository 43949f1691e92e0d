//! The eBPF programs of the Skep dataplane: one file a hook, thin, over the tables and the arithmetic of
//! `skep-abi`.
//!
//! Programs read only contexts that the kernel keeps stable for user programs (`__sk_buff`,
//! `bpf_sock_addr`), so one object runs on every kernel from 5.15 on.
#![no_std]
#![no_main]
// Keys are passed where they lie: a copy of an address takes stack.
#![allow(clippy::needless_borrows_for_generic_args)]

mod balance;
mod connect;
mod count;
mod family;
mod from_net;
mod from_pod;
mod getpeername;
mod icmp_error;
mod ipv4;
mod ipv6;
mod maps;
mod masquerade;
mod recvmsg;
mod reject;
mod rewrite;
mod sendmsg;
mod skb;
mod sock;
mod to_net;
mod to_pod;
mod translate;

/// Writes a log record in objects built with the feature `log`, and is nothing otherwise.
#[cfg(feature = "log")]
macro_rules! record {
    ($ctx:expr, $($arg:tt)*) => { aya_log_ebpf::debug!($ctx, $($arg)*) };
}
/// Writes a log record in objects built with the feature `log`, and is nothing otherwise.
#[cfg(not(feature = "log"))]
macro_rules! record {
    ($ctx:expr, $($arg:tt)*) => {{
        let _ = $ctx;
    }};
}
pub(crate) use record;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some kernel helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
