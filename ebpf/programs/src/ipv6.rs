//! IPv6: see [`Family`].

use aya_ebpf::bindings::BPF_F_PSEUDO_HDR;
use aya_ebpf::helpers::{bpf_csum_diff, bpf_csum_update, bpf_skb_load_bytes};
use aya_ebpf::programs::TcContext;
use skep_abi::ipv6::{
    ETH_P_IPV6_BE, ExtensionStart, HEADER_LEN, ICMP6_ECHO_REPLY, ICMP6_PARAMETER, ICMP6_UNREACHABLE, IP6_DST,
    IP6_SRC, MAX_EXTENSIONS, Step, is_unicast_host,
};
use skep_abi::reject6::{ASKED, ASKED_LEAST, ASKED_LEN, RESET_LEN, UNREACHABLE_LEN, reset, unreachable};
use skep_abi::{Addr, Config, proto};

use crate::family::Family;
use crate::maps::ANSWER;
use crate::reject::resize;
use crate::rewrite::End;
use crate::skb::{self, Packet};

/// IPv6.
pub(crate) enum V6 {}

impl Family for V6 {
    const ETHERTYPE: u32 = ETH_P_IPV6_BE;
    const ICMP: u8 = proto::ICMPV6;
    const ECHO_REPLY: u8 = ICMP6_ECHO_REPLY;

    #[inline(always)]
    fn node(config: &Config) -> Addr {
        config.node_addr6
    }

    #[inline(always)]
    fn has_node(config: &Config) -> bool {
        !config.node_addr6.is_zero()
    }

    #[inline(always)]
    fn is_pod(config: &Config, addr: &Addr) -> bool {
        config.cluster_cidr6.contains(addr)
    }

    #[inline(always)]
    fn is_service(config: &Config, addr: &Addr) -> bool {
        config.service_cidr6.contains(addr)
    }

    #[inline(always)]
    fn is_unicast_host(addr: &Addr) -> bool {
        is_unicast_host(addr)
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, ICMP6_UNREACHABLE..=ICMP6_PARAMETER)
    }

    /// What has the form of an IPv4 address is none in a packet, and would be taken for one in the tables.
    #[inline(always)]
    fn addresses(ctx: &TcContext, packet: &mut Packet) -> bool {
        let Ok(first) = ctx.load::<[u8; 8]>(packet.l3 as usize) else { return false };
        if first[0] >> 4 != 6
            || !skb::load_into(ctx, packet.l3 + IP6_SRC, &mut packet.tuple.src)
            || !skb::load_into(ctx, packet.l3 + IP6_DST, &mut packet.tuple.dst)
        {
            return false;
        }
        packet.tuple.proto = first[6];
        packet.l4 = packet.l3 + HEADER_LEN;
        !packet.tuple.src.is_v4() && !packet.tuple.dst.is_v4()
    }

    #[inline(always)]
    fn headers(ctx: &TcContext, packet: &mut Packet) -> bool {
        if Step::of(packet.tuple.proto) == Step::Protocol {
            return true;
        }
        walk(ctx, packet) != 0
    }

    #[inline(always)]
    fn write_address(ctx: &TcContext, l3: u32, end: End, _: &Addr, new: &Addr) -> Result<(), i64> {
        let offset = l3 + if end == End::Source { IP6_SRC } else { IP6_DST };
        ctx.store(offset as usize, new, 0)
    }

    /// Address and checksum make up for each other, so what the device summed up over the whole packet stays right. The
    /// helper does not know (it knows the IPv4 header, whose own checksum did so already) and takes the change out of that
    /// sum: it is put back.
    #[inline(always)]
    fn sum_address(
        ctx: &TcContext,
        check: usize,
        _: u8,
        old: &Addr,
        new: &Addr,
        flags: u64,
    ) -> Result<(), i64> {
        let difference = difference(old, new);
        ctx.l4_csum_replace(check, 0, u64::from(difference), flags | u64::from(BPF_F_PSEUDO_HDR))?;
        update_sum(ctx, difference);
        Ok(())
    }

    #[inline(always)]
    fn write_bare_address(ctx: &TcContext, l3: u32, end: End, old: &Addr, new: &Addr) -> Result<(), i64> {
        update_sum(ctx, difference(old, new));
        Self::write_address(ctx, l3, end, old, new)
    }

    #[inline(always)]
    fn write_quoted_address(
        ctx: &TcContext,
        check: usize,
        l3: u32,
        end: End,
        old: &Addr,
        new: &Addr,
    ) -> Result<(), i64> {
        ctx.l4_csum_replace(check, 0, u64::from(difference(old, new)), 0)?;
        Self::write_address(ctx, l3, end, old, new)
    }

    #[inline(always)]
    fn refuse(ctx: &TcContext, l3: u32) -> Option<()> {
        // SAFETY: the map holds one value a processor, tc programs run with bottom halves off, and this is asked for once in a
        // run.
        let words = unsafe { &mut *ANSWER.get_ptr_mut(0)? };
        let len = if ctx.len() >= l3 + ASKED_LEN as u32 { ASKED_LEN } else { ASKED_LEAST };
        load(ctx, l3, &raw mut words[ASKED], len)?;
        let at = l3 as usize;
        match words[ASKED + 1].to_ne_bytes()[2] {
            proto::TCP if len == ASKED_LEN => {
                if !reset(words) {
                    return None;
                }
                resize(ctx, l3 + RESET_LEN as u32)?;
                ctx.store(at, words.first_chunk::<{ RESET_LEN / 4 }>()?, 0).ok()
            }
            proto::UDP => {
                unreachable(words);
                resize(ctx, l3 + UNREACHABLE_LEN as u32)?;
                ctx.store(at, words.first_chunk::<{ UNREACHABLE_LEN / 4 }>()?, 0).ok()
            }
            _ => None, // extension headers would have to be quoted
        }
    }
}

/// Copies bytes of the packet.
#[inline(always)]
fn load(ctx: &TcContext, offset: u32, to: *mut u32, len: usize) -> Option<()> {
    // SAFETY: callers give room for so many bytes.
    let done = unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), offset, to.cast(), len as u32) };
    (done == 0).then_some(())
}

/// Walks over extension headers to what lies behind; zero where there are more than are walked, or the packet ends before
/// they do.
#[inline(never)]
fn walk(ctx: &TcContext, packet: &mut Packet) -> u32 {
    for _ in 0..MAX_EXTENSIONS {
        let step = Step::of(packet.tuple.proto);
        if step == Step::Protocol {
            return 1;
        }
        let Ok(start) = ctx.load::<ExtensionStart>(packet.l4 as usize) else { return 0 };
        match step {
            Step::Fragment => {
                let (more, later) = (start.has_more_fragments(), start.is_later_fragment());
                packet.set_fragment(start.id, start.next, more, later);
                packet.l4 += 8;
                packet.tuple.proto = start.next;
                if later {
                    return 1; // what follows is a piece from somewhere inside
                }
            }
            Step::Routing if start.visits_others() => return 1, // as a protocol without ports
            _ => {
                packet.l4 += start.bytes();
                packet.tuple.proto = start.next;
            }
        }
    }
    u32::from(Step::of(packet.tuple.proto) == Step::Protocol)
}

/// What replacing one address by another adds to a sum of 16-bit words.
#[inline(always)]
fn difference(old: &Addr, new: &Addr) -> u32 {
    let (old, new) = (&raw const old.words, &raw const new.words);
    // SAFETY: the helper reads 16 bytes of each.
    unsafe { bpf_csum_diff(old.cast_mut().cast(), 16, new.cast_mut().cast(), 16, 0) as u32 }
}

/// Adds to what the device summed up over the whole packet, if it did.
#[inline(always)]
fn update_sum(ctx: &TcContext, difference: u32) {
    // SAFETY: the context is valid for the program's run.
    let _ = unsafe { bpf_csum_update(ctx.skb.skb, difference) };
}
