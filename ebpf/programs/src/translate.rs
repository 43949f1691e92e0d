//! Services, packet by packet: for packets that no socket hook saw (a sandboxed runtime, a virtual machine, a raw
//! socket). The same table, the same selection, the node's one connection table.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::programs::TcContext;
use skep_abi::conntrack::{state, tcp_flags};
use skep_abi::packet::Tuple;
use skep_abi::pod::endpoint_flags;
use skep_abi::service::Origin;
use skep_abi::{Addr, Backend, CtEntry, CtKey, CtKind, DropReason, proto};

use crate::balance::{self, Choice};
use crate::icmp_error;
use crate::maps::{CONNTRACK, ENDPOINTS};
use crate::masquerade::{fragment, remember_fragment};
use crate::rewrite::{self, End};
use crate::skb::{self, Packed, Packet};

/// A packet that asks.
struct Sender<'a> {
    tuple: &'a Tuple,
    origin: Origin,
}

impl balance::Client for Sender<'_> {
    #[inline(always)]
    fn origin(&self) -> Origin {
        self.origin
    }

    #[inline(always)]
    fn key(&self) -> Addr {
        Addr::v4(self.tuple.src)
    }

    #[inline(always)]
    fn addr(&self) -> Option<Addr> {
        Some(Addr::v4(self.tuple.src))
    }
}

/// Sends a packet for a Service's address to a backend; returns the destination it has then. A packet for any other
/// address stays as it is.
///
/// [`DropReason::NoBackend`] asks for a refusal that its sender hears.
#[inline(always)]
pub(crate) fn to_backend(ctx: &TcContext, packet: &Packet, origin: Origin) -> Packed {
    let ip = &packet.ip;
    let Some(tuple) = packet.tuple() else { return part_to_backend(ctx, packet) };
    if tuple.proto == proto::ICMP {
        return Packed::ok(ip.dst);
    }
    let now = skb::now();
    let known = known(tuple, packet.tcp_flags, now);
    let (addr, port) = if known & KNOWN != 0 {
        ((known >> 16) as u32, known as u16)
    } else {
        let mut chosen = balance::Chosen { id: 0, backend: Backend::default() };
        match choose(tuple, origin, &mut chosen) {
            answer::NOT_A_SERVICE => return Packed::ok(ip.dst),
            answer::BACKEND => {}
            reason => return Packed::err(refusal(reason)),
        }
        let Some(addr) = chosen.backend.addr.as_v4() else { return Packed::err(DropReason::NoBackend) };
        let opened = open(tuple, &chosen, now);
        if opened.failed() {
            return opened;
        }
        (addr, chosen.backend.port)
    };
    if ip.has_more_fragments() {
        remember_fragment(ip, End::Destination, addr, now);
    }
    if rewrite::end(ctx, packet, tuple, End::Destination, addr, port).is_err() {
        return Packed::err(DropReason::Malformed);
    }
    Packed::ok(addr)
}

/// What [`choose`] answers.
mod answer {
    pub(super) const NOT_A_SERVICE: u32 = 0;
    pub(super) const BACKEND: u32 = 1;
    pub(super) const NO_BACKEND: u32 = 2;
    pub(super) const NO_LOCAL_BACKEND: u32 = 3;
    pub(super) const OUT_OF_RANGE: u32 = 4;
}

#[inline(always)]
const fn refusal(answer: u32) -> DropReason {
    match answer {
        answer::NO_LOCAL_BACKEND => DropReason::NoLocalBackend,
        answer::OUT_OF_RANGE => DropReason::SourceRange,
        _ => DropReason::NoBackend,
    }
}

/// The one selection function, for packets; with a stack of its own.
#[inline(never)]
fn choose(tuple: &Tuple, origin: Origin, chosen: &mut balance::Chosen) -> u32 {
    let client = Sender { tuple, origin };
    match balance::choose(Addr::v4(tuple.dst), tuple.dport, tuple.proto, &client) {
        Choice::NotAService => answer::NOT_A_SERVICE,
        Choice::NoBackend => answer::NO_BACKEND,
        Choice::NoLocalBackend => answer::NO_LOCAL_BACKEND,
        Choice::OutOfRange => answer::OUT_OF_RANGE,
        Choice::Backend(found) => {
            *chosen = found;
            answer::BACKEND
        }
    }
}

/// The same for what has no ports: later fragments, and errors about answers.
#[inline(always)]
fn part_to_backend(ctx: &TcContext, packet: &Packet) -> Packed {
    let ip = &packet.ip;
    if !ip.is_later_fragment() {
        let turned = icmp_error::inward(ctx, packet, CtKind::Service);
        return if turned.failed() || turned.value() != 0 { turned } else { Packed::ok(ip.dst) };
    }
    let Some(addr) = fragment(ip, End::Destination) else { return Packed::ok(ip.dst) };
    if rewrite::address(ctx, packet.l3, End::Destination, ip.dst, addr).is_err() {
        return Packed::err(DropReason::Malformed);
    }
    Packed::ok(addr)
}

/// What [`known`] sets when there is something.
const KNOWN: u64 = 1 << 48;

/// Where the connection goes already. A datagram, and a new connection that happens to have the ports of an old one, does
/// not go to a backend that the Service has no more; what is established stays where it is.
///
/// Returns the address and the port under [`KNOWN`], or zero.
#[inline(never)]
fn known(tuple: &Tuple, flags: u8, now: u32) -> u64 {
    let Some(entry) = CONNTRACK.get_ptr_mut(tuple.key(CtKind::Service)) else { return 0 };
    // SAFETY: entries are replaced whole; times and bits may be written by two processors, and either is right.
    unsafe {
        if (*entry).expired(tuple.proto, now) {
            return 0;
        }
        let opens = tuple.proto != proto::TCP || flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
        if opens && balance::backend((*entry).backend, (*entry).service).is_none() {
            return 0;
        }
        let Some(addr) = (*entry).addr.as_v4() else { return 0 };
        let port = (*entry).port;
        (*entry).last_seen = now;
        (*entry).state = CtEntry::next_state((*entry).state, tuple.proto, flags);
        // The answering half may be another Service's.
        let key = reply_key(tuple, addr, port);
        let answers = match CONNTRACK.get_ptr_mut(key) {
            Some(reply) => {
                (*reply).last_seen = now;
                (*reply).addr == Addr::v4(tuple.dst) && (*reply).port == tuple.dport
            }
            None => false,
        };
        if !answers && CONNTRACK.insert(key, reply(tuple, (*entry).service, now), u64::from(BPF_ANY)).is_err()
        {
            return 0;
        }
        KNOWN | u64::from(addr) << 16 | u64::from(port)
    }
}

/// Notes a new connection, both ways.
#[inline(never)]
fn open(tuple: &Tuple, chosen: &balance::Chosen, now: u32) -> Packed {
    let backend = &chosen.backend;
    let entry = CtEntry {
        addr: backend.addr,
        port: backend.port,
        state: 0,
        last_seen: now,
        backend: chosen.id,
        service: backend.service,
        reserved: [0; 2],
    };
    let any = u64::from(BPF_ANY);
    let key = CtKey::new(
        CtKind::ServiceReply,
        backend.addr,
        Addr::v4(tuple.src),
        backend.port,
        tuple.sport,
        tuple.proto,
    );
    if taken(tuple, &key, now) {
        return Packed::err(DropReason::TupleInUse);
    }
    let back = reply(tuple, backend.service, now);
    if CONNTRACK.insert(key, back, any).is_err() {
        return Packed::err(DropReason::TableFull);
    }
    if CONNTRACK.insert(tuple.key(CtKind::Service), entry, any).is_err() {
        let _ = CONNTRACK.remove(key);
        return Packed::err(DropReason::TableFull);
    }
    if let Some(endpoint) = ENDPOINTS.get_ptr_mut(Addr::v4(tuple.src)) {
        // SAFETY: the word is only ever written to say yes.
        unsafe { (*endpoint).flags |= endpoint_flags::TRACKED };
    }
    Packed::ok(0)
}

/// Whether a living connection of the same client goes to the same backend by another front end: answers to both would look
/// alike.
#[inline(always)]
fn taken(tuple: &Tuple, reply: &CtKey, now: u32) -> bool {
    // SAFETY: a torn reading can only take one connection for another, whose own entry is looked at.
    let Some(other) = (unsafe { CONNTRACK.get(reply) }) else { return false };
    let (addr, port) = (other.addr, other.port);
    if addr == Addr::v4(tuple.dst) && port == tuple.dport {
        return false;
    }
    let key = CtKey::new(CtKind::Service, reply.dst, addr, reply.dport, port, reply.proto);
    // SAFETY: as above.
    match unsafe { CONNTRACK.get(key) } {
        Some(forward) => {
            forward.addr == reply.src
                && forward.port == reply.sport
                && forward.state & (state::FIN | state::RST) == 0
                && !forward.expired(reply.proto, now)
        }
        None => false,
    }
}

#[inline(always)]
fn reply_key(tuple: &Tuple, backend: u32, port: u16) -> CtKey {
    CtKey::new(CtKind::ServiceReply, Addr::v4(backend), Addr::v4(tuple.src), port, tuple.sport, tuple.proto)
}

#[inline(always)]
fn reply(tuple: &Tuple, service: u32, now: u32) -> CtEntry {
    CtEntry {
        addr: Addr::v4(tuple.dst),
        port: tuple.dport,
        state: 0,
        last_seen: now,
        backend: 0,
        service,
        reserved: [0; 2],
    }
}

/// Gives an answer on its way to a client the Service's address, if it is one; says whether it is.
#[inline(always)]
pub(crate) fn from_backend(ctx: &TcContext, packet: &Packet) -> Result<bool, DropReason> {
    turn_from_backend_apart(ctx, packet).unpack().map(|turned| turned != 0)
}

#[inline(never)]
fn turn_from_backend_apart(ctx: &TcContext, packet: &Packet) -> Packed {
    turn_from_backend(ctx, packet)
}

/// The same: one for an answer that was translated, zero for any other packet.
#[inline(always)]
pub(crate) fn turn_from_backend(ctx: &TcContext, packet: &Packet) -> Packed {
    let ip = &packet.ip;
    let Some(tuple) = packet.tuple() else { return part_from_backend(ctx, packet) };
    let Some(entry) = CONNTRACK.get_ptr_mut(tuple.key(CtKind::ServiceReply)) else { return Packed::ok(0) };
    let now = skb::now();
    // SAFETY: as in `known`.
    let (addr, port) = unsafe { ((*entry).addr.as_v4(), (*entry).port) };
    let Some(addr) = addr else { return Packed::ok(0) };
    if let Some(forward) = CONNTRACK.get_ptr_mut(forward_key(tuple, addr, port)) {
        // SAFETY: as in `known`.
        unsafe {
            if (*forward).expired(tuple.proto, now) {
                return Packed::ok(0);
            }
            (*forward).last_seen = now;
            (*forward).state =
                CtEntry::next_state((*forward).state, tuple.proto, packet.tcp_flags) | state::REPLIED;
        }
    }
    // SAFETY: as in `known`.
    unsafe { (*entry).last_seen = now };
    if ip.has_more_fragments() {
        remember_fragment(ip, End::Source, addr, now);
    }
    if rewrite::end(ctx, packet, tuple, End::Source, addr, port).is_err() {
        return Packed::err(DropReason::Malformed);
    }
    Packed::ok(1)
}

/// The same for what has no ports: later fragments, and errors about what a client sent.
#[inline(always)]
fn part_from_backend(ctx: &TcContext, packet: &Packet) -> Packed {
    let ip = &packet.ip;
    if !ip.is_later_fragment() {
        return icmp_error::outward(ctx, packet, CtKind::ServiceReply);
    }
    let Some(addr) = fragment(ip, End::Source) else { return Packed::ok(0) };
    if addr != 0 && rewrite::address(ctx, packet.l3, End::Source, ip.src, addr).is_err() {
        return Packed::err(DropReason::Malformed);
    }
    Packed::ok(1)
}

/// Whether a packet goes to a backend because this node sent it there.
#[inline(always)]
pub(crate) fn was_sent_to_backend(tuple: &Tuple) -> bool {
    // SAFETY: nothing of the value is read.
    unsafe { CONNTRACK.get(tuple.reply_key(CtKind::ServiceReply)) }.is_some()
}

/// The key under which the client's own packets are noted.
#[inline(always)]
fn forward_key(answer: &Tuple, service: u32, port: u16) -> CtKey {
    CtKey::new(CtKind::Service, Addr::v4(answer.dst), Addr::v4(service), answer.dport, port, answer.proto)
}
