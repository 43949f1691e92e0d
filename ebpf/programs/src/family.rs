//! What differs between the two versions of IP. All else is written once, for addresses of 16 bytes.

use aya_ebpf::programs::TcContext;
use skep_abi::{Addr, Config};

use crate::rewrite::End;
use crate::skb::Packet;

/// A version of IP.
pub(crate) trait Family {
    /// Its EtherType as `__sk_buff.protocol` has it.
    const ETHERTYPE: u32;
    /// The number of its ICMP.
    const ICMP: u8;
    /// The ICMP type of an answer to an echo.
    const ECHO_REPLY: u8;

    /// The address of the node that masqueraded packets carry; all zero when nothing is to be touched on the uplink.
    fn node(config: &Config) -> Addr;
    /// Whether the node has such an address.
    fn has_node(config: &Config) -> bool;
    /// Whether an address is one of pods of the cluster.
    fn is_pod(config: &Config, addr: &Addr) -> bool;
    /// Whether an address is one that ClusterIPs are made of.
    fn is_service(config: &Config, addr: &Addr) -> bool;
    /// Whether a destination is one host that packets are translated for.
    fn is_unicast_host(addr: &Addr) -> bool;
    /// Whether an ICMP type is an error that quotes what it is about.
    fn is_error(kind: u8) -> bool;

    /// Reads the IP header at `packet.l3`: addresses and protocol. False for a packet that is left alone.
    fn addresses(ctx: &TcContext, packet: &mut Packet) -> bool;
    /// Reads on to the layer 4 header: its offset and protocol, and what is known of fragments. False for headers that cannot
    /// be read.
    fn headers(ctx: &TcContext, packet: &mut Packet) -> bool;

    /// Changes an address in an IP header, and nothing behind it.
    fn write_address(ctx: &TcContext, l3: u32, end: End, old: &Addr, new: &Addr) -> Result<(), i64>;
    /// Makes the layer 4 checksum at `check` good for a changed address; `flags` are those of the protocol.
    fn sum_address(
        ctx: &TcContext,
        check: usize,
        protocol: u8,
        old: &Addr,
        new: &Addr,
        flags: u64,
    ) -> Result<(), i64>;
    /// Changes the address of a packet that has no layer 4 checksum to make good.
    fn write_bare_address(ctx: &TcContext, l3: u32, end: End, old: &Addr, new: &Addr) -> Result<(), i64>;
    /// Changes an address in a header that is quoted by an ICMP error, whose checksum lies at `check`.
    fn write_quoted_address(
        ctx: &TcContext,
        check: usize,
        l3: u32,
        end: End,
        old: &Addr,
        new: &Addr,
    ) -> Result<(), i64>;

    /// Writes what refuses the packet over it; `None` for one that cannot be answered.
    fn refuse(ctx: &TcContext, l3: u32) -> Option<()>;
}
