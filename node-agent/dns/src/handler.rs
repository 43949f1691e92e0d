//! From the bytes of a question to the bytes of its answer.

use crate::access::Access;
use crate::core::{Answer, Domain, Reply, answer};
use crate::forward::{Forwarder, Wish};
use crate::metrics::{By, Metrics};
use crate::view::View;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Length of a header.
const HEADER: usize = 12;
/// The datagram a client takes that does not say what it takes (RFC 1035).
const SMALLEST: u16 = 512;
/// The largest datagram that is sent, whatever a client takes.
const LARGEST: u16 = 4096;

/// Over what a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams: answers have a limit.
    Udp,
    /// A stream.
    Tcp,
}

/// What a question gets at once.
pub enum Decision {
    /// Nothing: it is no question.
    Ignore,
    /// This.
    Send(Vec<u8>),
    /// Others must be asked: [`Handler::finish`].
    Ask(Box<Pending>),
}

/// A question that others must be asked for.
pub struct Pending {
    ticket: Ticket,
    response: Message,
    /// The aliases that lead to what is asked of others.
    chain: Vec<Record>,
    query: Query,
}

/// What must be known of a question to answer it.
struct Ticket {
    wish: Wish,
    transport: Transport,
    payload: u16,
    began: Instant,
}

/// Answers questions.
pub struct Handler {
    /// Who is answered.
    pub access: Access,
    /// The names of the zone.
    pub domain: Domain,
    /// The zone.
    pub view: Arc<View>,
    /// The others.
    pub forwarder: Forwarder,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// How many answers have been turned.
    pub turn: AtomicUsize,
}

/// An answer without content to what cannot be read further than its header.
fn bare(request: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    out[..2].copy_from_slice(&request[..2]);
    // Response, the operation and the wish for recursion as they came, and the code.
    out[2] = 0x80 | (request[2] & 0x79);
    out[3] = code.low();
    out
}

impl Handler {
    /// Decides what to do with a message.
    pub fn decide(&self, request: &[u8], peer: SocketAddr, transport: Transport) -> Decision {
        let began = Instant::now();
        // Answers to answers would go on for ever.
        if request.len() < HEADER || request[2] & 0x80 != 0 {
            return Decision::Ignore;
        }
        let refuse = |code: ResponseCode| {
            self.metrics.response(code, By::Zone, began.elapsed());
            Decision::Send(bare(request, code))
        };
        if !self.access.allows(peer) {
            return refuse(ResponseCode::Refused);
        }
        if OpCode::from_u8(request[2] >> 3 & 0xf) != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        // One question: what else there is has no meaning, and would cost memory to read.
        if request[4..6] != [0, 1] {
            return refuse(ResponseCode::FormErr);
        }
        let Ok(message) = Message::from_vec(request) else { return refuse(ResponseCode::FormErr) };
        let Some(query) = message.queries.first() else { return refuse(ResponseCode::FormErr) };
        self.metrics.request(transport == Transport::Tcp, query.query_type());

        let meta = &message.metadata;
        let mut response = Message::new(meta.id, MessageType::Response, OpCode::Query);
        response.metadata.recursion_desired = meta.recursion_desired;
        response.metadata.recursion_available = true;
        response.metadata.checking_disabled = meta.checking_disabled;
        response.add_query(query.clone());
        let mut ticket = Ticket {
            wish: Wish {
                recursion: meta.recursion_desired,
                dnssec: false,
                unchecked: meta.checking_disabled,
                authentic: meta.authentic_data,
            },
            transport,
            payload: SMALLEST,
            began,
        };
        let mut code = None;
        if let Some(asked) = &message.edns {
            ticket.wish.dnssec = asked.flags().dnssec_ok;
            ticket.payload = asked.max_payload().clamp(SMALLEST, LARGEST);
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST).set_dnssec_ok(asked.flags().dnssec_ok);
            response.set_edns(edns);
            code = (asked.version() != 0).then_some(ResponseCode::BADVERS);
        }
        let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || transfer {
            code = code.or(Some(ResponseCode::Refused));
        }
        if let Some(code) = code {
            response.metadata.response_code = code;
            return Decision::Send(self.send(response, &ticket, By::Zone));
        }
        self.resolve(query.clone(), response, ticket, peer)
    }

    fn resolve(&self, query: Query, mut response: Message, ticket: Ticket, peer: SocketAddr) -> Decision {
        let answered = {
            let seen = self.view.seen();
            match seen.zone() {
                Some(zone) => {
                    let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                    answer(zone, &self.domain, query.name(), query.query_type(), turn)
                }
                None if self.domain.holds(query.name()) => {
                    // Whether the name is there is not known.
                    response.metadata.response_code = ResponseCode::ServFail;
                    return Decision::Send(self.send(response, &ticket, By::Zone));
                }
                None => Answer::Forward,
            }
        };
        let (chain, query) = match answered {
            Answer::Reply(reply) => {
                fill(&mut response, reply);
                return Decision::Send(self.send(response, &ticket, By::Zone));
            }
            Answer::Chase(chain, target) => (chain, Query::query(target, query.query_type())),
            Answer::Forward => (Vec::new(), query),
        };
        if self.forwarder.is_ours(peer.port()) && self.access.is_own(peer.ip().to_canonical()) {
            self.metrics.count(&self.metrics.loops);
            tracing::warn!(name = %query.name(), "a question of our own came back: a server that is asked asks us (--upstream)");
            response.metadata.response_code = ResponseCode::ServFail;
            return Decision::Send(self.send(response, &ticket, By::Others));
        }
        let kept = self.forwarder.recall(&query, ticket.wish);
        let pending = Pending { ticket, response, chain, query };
        match kept {
            Some(message) => Decision::Send(self.join(pending, Some(message))),
            None => Decision::Ask(Box::new(pending)),
        }
    }

    /// Asks others and answers.
    pub async fn finish(&self, pending: Pending) -> Vec<u8> {
        let found = self.forwarder.ask(&pending.query, pending.ticket.wish).await;
        if let Err(failure) = &found {
            tracing::debug!(name = %pending.query.name(), %failure, "no answer");
        }
        self.join(pending, found.ok())
    }

    /// The answer that others gave, behind the aliases that led to it.
    fn join(&self, pending: Pending, found: Option<Message>) -> Vec<u8> {
        let Pending { ticket, mut response, chain, .. } = pending;
        let alias = !chain.is_empty();
        response.metadata.authoritative = alias;
        response.add_answers(chain);
        match found {
            Some(found) if alias => {
                // The alias is there, whatever became of what it leads to.
                response.add_answers(found.answers);
            }
            Some(found) => {
                response.metadata.response_code = found.metadata.response_code;
                response.metadata.authentic_data = found.metadata.authentic_data;
                response.add_answers(found.answers);
                response.add_authorities(found.authorities);
                response.add_additionals(found.additionals);
            }
            None if alias => {}
            None => response.metadata.response_code = ResponseCode::ServFail,
        }
        self.send(response, &ticket, By::Others)
    }

    fn send(&self, response: Message, ticket: &Ticket, by: By) -> Vec<u8> {
        let code = response.metadata.response_code;
        let limit = match ticket.transport {
            Transport::Udp => ticket.payload,
            Transport::Tcp => u16::MAX,
        };
        let bytes = encode(response, limit);
        self.metrics.response(code, by, ticket.began.elapsed());
        bytes
    }
}

fn fill(response: &mut Message, reply: Reply) {
    response.metadata.authoritative = true;
    response.metadata.response_code = reply.code;
    response.add_answers(reply.answers);
    response.add_authorities(reply.authorities);
    response.add_additionals(reply.additionals);
}

/// The bytes of a message, if they are no more than `limit`.
fn within(message: &Message, limit: u16) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut out);
    encoder.set_max_size(u16::MAX);
    message.emit(&mut encoder).ok()?;
    let cut = out.get(2).is_some_and(|flags| flags & 2 != 0) && !message.metadata.truncation;
    (out.len() <= usize::from(limit) && !cut).then_some(out)
}

/// The bytes of a message in at most `limit` bytes. What was not asked for goes first, and nobody need come back for it
/// (RFC 2181, section 9); then as many answers as must go, and the client is told so.
fn encode(mut message: Message, limit: u16) -> Vec<u8> {
    if let Some(bytes) = within(&message, limit) {
        return bytes;
    }
    message.additionals.clear();
    if let Some(bytes) = within(&message, limit) {
        return bytes;
    }
    message.metadata.truncation = true;
    message.authorities.clear();
    let all = std::mem::take(&mut message.answers);
    let mut with = |count: usize| {
        message.answers = all[..count].to_vec();
        within(&message, limit)
    };
    let mut best = with(0);
    let (mut fit, mut may_fit) = (0, all.len());
    while fit < may_fit {
        let middle = (fit + may_fit).div_ceil(2);
        match with(middle) {
            Some(bytes) => (fit, best) = (middle, Some(bytes)),
            None => may_fit = middle - 1,
        }
    }
    best.unwrap_or_else(|| {
        let mut header = vec![0; HEADER];
        header[..2].copy_from_slice(&message.metadata.id.to_be_bytes());
        header[2] = 0x82;
        header
    })
}
