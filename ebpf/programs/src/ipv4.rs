//! IPv4: see [`Family`].

use aya_ebpf::bindings::BPF_F_PSEUDO_HDR;
use aya_ebpf::programs::TcContext;
use skep_abi::packet::{
    ETH_P_IP_BE, ICMP_ECHO_REPLY, ICMP_PARAMETER, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE, IP_CHECK, IP_DST,
    IP_SRC, Ipv4Header, L4Start, is_unicast_host,
};
use skep_abi::reject::{RESET_LEN, TcpStart, UNREACHABLE_LEN, reset, unreachable};
use skep_abi::{Addr, Config, proto};

use crate::family::Family;
use crate::reject::resize;
use crate::rewrite::End;
use crate::skb::Packet;

/// IPv4.
pub(crate) enum V4 {}

/// The word of an IPv4 address.
#[inline(always)]
const fn word(addr: &Addr) -> u32 {
    addr.words[3]
}

impl Family for V4 {
    const ETHERTYPE: u32 = ETH_P_IP_BE;
    const ICMP: u8 = proto::ICMP;
    const ECHO_REPLY: u8 = ICMP_ECHO_REPLY;

    #[inline(always)]
    fn node(config: &Config) -> Addr {
        Addr::v4(config.node_addr)
    }

    #[inline(always)]
    fn has_node(config: &Config) -> bool {
        config.node_addr != 0
    }

    #[inline(always)]
    fn is_pod(config: &Config, addr: &Addr) -> bool {
        config.cluster_cidr.contains(word(addr))
    }

    #[inline(always)]
    fn is_service(config: &Config, addr: &Addr) -> bool {
        config.service_cidr.contains(word(addr))
    }

    #[inline(always)]
    fn is_unicast_host(addr: &Addr) -> bool {
        is_unicast_host(word(addr))
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, ICMP_UNREACHABLE | ICMP_TIME_EXCEEDED | ICMP_PARAMETER)
    }

    #[inline(always)]
    fn addresses(ctx: &TcContext, packet: &mut Packet) -> bool {
        let Ok(ip) = ctx.load::<Ipv4Header>(packet.l3 as usize) else { return false };
        packet.tuple.src = Addr::v4(ip.src);
        packet.tuple.dst = Addr::v4(ip.dst);
        packet.tuple.proto = ip.proto;
        packet.l4 = match ip.header_len() {
            Some(len) => packet.l3 + len,
            None => 0,
        };
        packet.set_fragment(u32::from(ip.id), ip.proto, ip.has_more_fragments(), ip.is_later_fragment());
        true
    }

    #[inline(always)]
    fn headers(_: &TcContext, packet: &mut Packet) -> bool {
        packet.l4 != 0
    }

    #[inline(always)]
    fn write_address(ctx: &TcContext, l3: u32, end: End, old: &Addr, new: &Addr) -> Result<(), i64> {
        ctx.l3_csum_replace((l3 + IP_CHECK) as usize, u64::from(word(old)), u64::from(word(new)), 4)?;
        let offset = l3 + if end == End::Source { IP_SRC } else { IP_DST };
        ctx.store(offset as usize, &word(new), 0)
    }

    #[inline(always)]
    fn sum_address(
        ctx: &TcContext,
        check: usize,
        protocol: u8,
        old: &Addr,
        new: &Addr,
        flags: u64,
    ) -> Result<(), i64> {
        if protocol == proto::ICMP {
            return Ok(()); // its checksum does not see the addresses
        }
        let flags = flags | u64::from(BPF_F_PSEUDO_HDR) | 4;
        ctx.l4_csum_replace(check, u64::from(word(old)), u64::from(word(new)), flags)
    }

    #[inline(always)]
    fn write_bare_address(ctx: &TcContext, l3: u32, end: End, old: &Addr, new: &Addr) -> Result<(), i64> {
        Self::write_address(ctx, l3, end, old, new)
    }

    /// The quoted header's own checksum makes up for the new address, so the message's checksum does not see it.
    #[inline(always)]
    fn write_quoted_address(
        ctx: &TcContext,
        _: usize,
        l3: u32,
        end: End,
        old: &Addr,
        new: &Addr,
    ) -> Result<(), i64> {
        Self::write_address(ctx, l3, end, old, new)
    }

    #[inline(always)]
    fn refuse(ctx: &TcContext, l3: u32) -> Option<()> {
        let ip = ctx.load::<Ipv4Header>(l3 as usize).ok()?;
        if ip.header_len()? != 20 {
            return None; // options would have to be quoted
        }
        let (at, l4) = (l3 as usize, l3 as usize + 20);
        if ip.proto == proto::TCP {
            let tcp = ctx.load::<TcpStart>(l4).ok()?;
            let bytes = reset(&ip, &tcp)?;
            resize(ctx, l3 + RESET_LEN as u32)?;
            ctx.store(at, &bytes, 0).ok()
        } else {
            let start = ctx.load::<L4Start>(l4).ok()?;
            let bytes = unreachable(&ip, &start);
            resize(ctx, l3 + UNREACHABLE_LEN as u32)?;
            ctx.store(at, &bytes, 0).ok()
        }
    }
}
